//! Why there is no connection, and what to set.

use std::error::Error;
use std::fmt::Display;
use std::io;

use async_nats::rustls::{self, AlertDescription, CertificateError};
use async_nats::{ConnectError, ConnectErrorKind};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The server rejected the credentials.
    #[error(
        "the NATS server at {server} refuses {what} (authorization violation): set nats.user and \
         nats.password, nats.token, nats.nkey or nats.credentials, or put user:password@ or token@ before \
         the host in the address"
    )]
    Refused {
        /// Its address.
        server: String,
        /// The kind of credentials.
        what: String,
    },
    /// The server does not answer, perhaps not yet.
    #[error("no NATS server answers at {server}: {cause}")]
    Away {
        /// Its address.
        server: String,
        /// The library's words.
        cause: String,
    },
    /// The server answers, but client and server cannot agree on TLS.
    #[error("no TLS with the NATS server at {server}: {cause}; {advice}")]
    Tls {
        /// Its address.
        server: String,
        /// The library's words, or better ones.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another error, of the address for example.
    #[error("cannot connect to NATS at {server}: {cause}")]
    Other {
        /// Its address.
        server: String,
        /// The library's words.
        cause: String,
    },
}

impl NoConnection {
    /// The error of a connection to `shown` that failed with these credentials, with its cause once.
    pub(super) fn new(error: &ConnectError, shown: &str, credentials: impl Display) -> Self {
        let (server, cause) = (shown.to_owned(), error.to_string());
        if let Some(error) = of_tls(error) {
            let (cause, advice) = tls_advice(error);
            return Self::Tls { server, cause, advice };
        }
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => {
                Self::Refused { server, what: credentials.to_string() }
            }
            ConnectErrorKind::Io | ConnectErrorKind::TimedOut => Self::Away { server, cause },
            // The client has no session of TLS yet: its own files do not fit together.
            ConnectErrorKind::Tls => {
                let advice = "nats.tls_key has to be the key of nats.tls_cert";
                Self::Tls { server, cause, advice }
            }
            _ => Self::Other { server, cause },
        }
    }
}

/// What is wrong with TLS, where that is what failed: the library gives it as an error of input and output.
fn of_tls(error: &ConnectError) -> Option<&rustls::Error> {
    error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

/// The cause, and what to do about it.
fn tls_advice(error: &rustls::Error) -> (String, &'static str) {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let advice = match error {
        // What came is no TLS at all.
        rustls::Error::InvalidMessage(_) => {
            let cause = "it answers without TLS".to_owned();
            let advice = "turn TLS on there, or leave out tls:// in nats.url, and nats.tls_ca, nats.tls_cert \
                          and nats.tls_key";
            return (cause, advice);
        }
        // The signature is wrong where the authority was made anew under its old name.
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "set nats.tls_ca to the certificate of the authority that issued the server's"
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "use in nats.url a name or an address that the server's certificate has",
        rustls::Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => "the server needs another certificate, or the clock here is wrong",
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "set nats.tls_cert and nats.tls_key: the server asks for a client's certificate"
        }
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate,
        ) => {
            "set nats.tls_cert and nats.tls_key to a certificate that the server accepts, issued by an \
             authority it knows and not expired"
        }
        _ => "set nats.tls_ca, and nats.tls_cert and nats.tls_key where the server asks for them",
    };
    (error.to_string(), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_keys() {
        let error = ConnectError::new(ConnectErrorKind::AuthorizationViolation);
        let refused = NoConnection::new(&error, "nats://***@host", "the token");
        assert!(matches!(refused, NoConnection::Refused { .. }));
        let text = refused.to_string();
        for part in ["nats.user", "nats.nkey", "nats.credentials", "nats://***@host", "the token"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(text.matches("authorization violation").count(), 1, "{text}");
        let error = ConnectError::with_source(ConnectErrorKind::Io, "refused");
        let away = NoConnection::new(&error, "x", "the token");
        assert_eq!(away.to_string(), "no NATS server answers at x: IO error: refused");
    }
}
