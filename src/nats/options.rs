//! How a client is made from the settings.

use std::time::Duration;

use anyhow::Context;
use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sferic_settings::{Nats, given};

use super::sign_in::SignIn;

/// The longest wait between two attempts to connect: a server that is back is found again within a second.
const MAX_RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// The options of a client that the server lists as `name`.
///
/// # Errors
/// The credentials, or a file of TLS, cannot be read.
pub(super) async fn of(nats: &Nats, name: &str, sign_in: &SignIn) -> anyhow::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(nats.connect_timeout)
        .reconnect_delay_callback(reconnect_delay);
    options = sign_in.apply(options).await?;
    if let Some(prefix) = given(&nats.inbox_prefix) {
        options = options.custom_inbox_prefix(prefix);
    }
    let files = [("tls_ca", &nats.tls_ca), ("tls_cert", &nats.tls_cert), ("tls_key", &nats.tls_key)];
    for (key, file) in files.into_iter().filter(|(_, file)| given(file).is_some()) {
        // The library's error names neither.
        let read = tokio::fs::read(file).await;
        let pem = read.with_context(|| format!("nats.{key}, {file}, cannot be read"))?;
        let (holds_it, what) = match key {
            "tls_key" => (PrivateKeyDer::from_pem_slice(&pem).is_ok(), "private key without a password"),
            _ => (CertificateDer::from_pem_slice(&pem).is_ok(), "certificate"),
        };
        anyhow::ensure!(holds_it, "nats.{key}, {file}, holds no {what} as PEM");
    }
    if let Some(file) = given(&nats.tls_ca) {
        options = options.add_root_certificates(file.into()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (given(&nats.tls_cert), given(&nats.tls_key)) {
        options = options.add_client_certificate(cert.into(), key.into()).require_tls(true);
    }
    Ok(options)
}

/// None at first, since a connection may end for one message while the server is still there.
fn reconnect_delay(attempt: usize) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => MAX_RECONNECT_DELAY.min(Duration::from_millis(25) * (1 << (attempt - 2).min(10))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_between_attempts_grows_to_its_maximum() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempt in [2, 3, 10, 100, usize::MAX] {
            let delay = reconnect_delay(attempt);
            assert!(
                delay >= Duration::from_millis(25) && delay <= MAX_RECONNECT_DELAY,
                "{attempt}: {delay:?}"
            );
        }
        assert_eq!(reconnect_delay(100), MAX_RECONNECT_DELAY);
    }
}
