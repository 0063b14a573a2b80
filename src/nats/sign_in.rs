//! Authentication of the client: by the URL, as in `nats://user:password@host`, else by the keys of `[nats]`.

use std::fmt;
use std::time::SystemTime;

use anyhow::Context;
use async_nats::{ConnectError, ConnectOptions};
use humantime_serde::re::humantime::format_rfc3339_seconds;
use percent_encoding::percent_decode_str;
use sferic_settings::{Nats, given};

use super::no_connection::NoConnection;
use super::secret_files;

/// Credentials of the client. It has no `Debug`, because it holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum SignIn {
    /// Nothing.
    None,
    /// One secret for all.
    Token(String),
    /// A user's name and password.
    Password(String, String),
    /// The path of a `.creds` file.
    Credentials(String),
    /// The path of a file with the NKey seed of a user.
    Nkey(String),
}

impl SignIn {
    /// Credentials in `nats.url`, percent-decoded, take precedence over the keys. A user name alone is a
    /// token, as in other NATS clients.
    ///
    /// # Errors
    /// The addresses hold different ones; the client has one for all of its servers.
    pub fn of(nats: &Nats) -> anyhow::Result<Self> {
        let mut in_addresses = nats.servers().filter_map(|server| userinfo(server).map(Self::parse));
        if let Some(first) = in_addresses.next() {
            anyhow::ensure!(
                in_addresses.all(|other| other == first),
                "nats.url, {}, holds different users or tokens: give one for all servers",
                nats.shown_url()
            );
            return Ok(first);
        }
        let owned = str::to_owned;
        Ok(given(&nats.credentials)
            .map(|file| Self::Credentials(owned(file)))
            .or_else(|| given(&nats.nkey).map(|file| Self::Nkey(owned(file))))
            .or_else(|| given(&nats.user).map(|user| Self::Password(owned(user), nats.password.clone())))
            .or_else(|| given(&nats.token).map(|token| Self::Token(owned(token))))
            .unwrap_or(Self::None))
    }

    fn parse(userinfo: &str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match userinfo.split_once(':') {
            Some((user, password)) => Self::Password(decode(user), decode(password)),
            None => Self::Token(decode(userinfo)),
        }
    }

    /// The options with this sign-in.
    ///
    /// # Errors
    /// The file of the credentials or of the seed cannot be read.
    pub async fn apply(&self, options: ConnectOptions) -> anyhow::Result<ConnectOptions> {
        Ok(match self {
            Self::None => options,
            Self::Token(token) => options.token(token.clone()),
            Self::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
            Self::Credentials(file) => {
                let text = secret_files::read("nats.credentials", file).await?;
                if let Some(expiry) = passed(secret_files::expiry(&text)) {
                    tracing::warn!(file, expiry, "the credentials of nats.credentials have expired");
                }
                let parsed = options.credentials(&text);
                parsed.with_context(|| format!("nats.credentials, {file}, is no credentials file"))?
            }
            Self::Nkey(file) => {
                let text = secret_files::read("nats.nkey", file).await?;
                let needed = "a line of 58 letters and digits that begins with SU";
                let seed = secret_files::seed(&text)
                    .with_context(|| format!("nats.nkey, {file}, holds no NKey seed of a user: {needed}"))?;
                options.nkey(seed.to_owned())
            }
        })
    }

    /// The error of a failed connection to `shown`, with its cause once.
    pub async fn explain(&self, error: &ConnectError, shown: &str) -> NoConnection {
        let mut what = self.to_string();
        if let Self::Credentials(file) = self {
            let text = secret_files::read("nats.credentials", file).await.unwrap_or_default();
            if let Some(expiry) = passed(secret_files::expiry(&text)) {
                what = format!("{what}, which expired at {expiry}");
            }
        }
        NoConnection::new(error, shown, what)
    }
}

/// The time as text, if it has passed.
fn passed(time: Option<SystemTime>) -> Option<String> {
    time.filter(|time| *time <= SystemTime::now()).map(|time| format_rfc3339_seconds(time).to_string())
}

/// The kind of credentials, without the secret.
impl fmt::Display for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("a client without user, token, NKey or credentials"),
            Self::Token(_) => f.write_str("the token"),
            Self::Password(user, _) => write!(f, "the user {user:?} or the password"),
            Self::Credentials(file) => write!(f, "the credentials in {file}"),
            Self::Nkey(file) => write!(f, "the NKey in {file}"),
        }
    }
}

/// The servers of `nats.url` without credentials: the library does not read tokens there and might log them.
pub fn addresses(nats: &Nats) -> Vec<String> {
    let bare = |server: &str| match userinfo(server) {
        Some(secret) => server.replacen(&format!("{secret}@"), "", 1),
        None => server.to_owned(),
    };
    nats.servers().map(bare).collect()
}

/// The part before the last `@` of the authority; `None` where there is none.
fn userinfo(server: &str) -> Option<&str> {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    given(userinfo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(url: &str) -> Nats {
        Nats { url: url.to_owned(), ..Nats::default() }
    }

    fn password(user: &str, password: &str) -> SignIn {
        SignIn::Password(user.to_owned(), password.to_owned())
    }

    #[test]
    fn the_url_may_have_a_token_or_a_user_with_a_password() {
        for (url, sign_in, bare) in [
            ("nats://10.0.0.1:4222", SignIn::None, "nats://10.0.0.1:4222"),
            ("nats://s3cr3t@10.0.0.1", SignIn::Token("s3cr3t".into()), "nats://10.0.0.1"),
            ("tls://ann:pass@[::1]:4222", password("ann", "pass"), "tls://[::1]:4222"),
            ("ann:pass@host:4222", password("ann", "pass"), "host:4222"),
            ("nats://a%40b:p%3Aq%2Fr%25@host", password("a@b", "p:q/r%"), "nats://host"),
            ("nats://ann:p:q@r@host", password("ann", "p:q@r"), "nats://host"),
            ("wss://ann:@host/path@x", password("ann", ""), "wss://host/path@x"),
            ("nats://@host", SignIn::None, "nats://@host"),
        ] {
            let nats = nats(url);
            assert!(SignIn::of(&nats).unwrap() == sign_in, "{url}");
            assert_eq!(addresses(&nats), [bare]);
        }
    }

    #[test]
    fn all_addresses_share_one_sign_in() {
        let both = nats("nats://ann:pass@a, nats://ann:pass@b,nats://c");
        assert!(SignIn::of(&both).unwrap() == password("ann", "pass"));
        assert_eq!(addresses(&both), ["nats://a", "nats://b", "nats://c"]);
        let error = SignIn::of(&nats("nats://ann:pass@a,nats://bob:word@b")).err().unwrap().to_string();
        assert!(
            error.contains("different") && !error.contains("pass@") && !error.contains("word"),
            "{error}"
        );
    }

    #[test]
    fn the_url_takes_precedence_over_the_keys() {
        let keys = Nats { user: "ann".into(), password: "pass".into(), ..nats("nats://host") };
        assert!(SignIn::of(&keys).unwrap() == password("ann", "pass"));
        let address = Nats { url: "nats://t0ken@host".into(), ..keys };
        assert!(SignIn::of(&address).unwrap() == SignIn::Token("t0ken".into()));
        assert!(SignIn::of(&Nats { token: "t".into(), ..nats("") }).unwrap() == SignIn::Token("t".into()));
        assert!(
            SignIn::of(&Nats { credentials: "f".into(), ..nats("") }).unwrap()
                == SignIn::Credentials("f".into())
        );
        assert!(SignIn::of(&Nats { nkey: "f".into(), ..nats("") }).unwrap() == SignIn::Nkey("f".into()));
    }

    #[test]
    fn a_sign_in_is_described_without_its_secret() {
        for (sign_in, shown) in [
            (SignIn::Token("s3cr3t".into()), "the token"),
            (password("ann", "s3cr3t"), "the user \"ann\" or the password"),
            (SignIn::Nkey("ann.nk".into()), "the NKey in ann.nk"),
        ] {
            assert_eq!(sign_in.to_string(), shown);
        }
    }
}
