//! What commands say where there is no connection: the whole message, its cause once.

use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::publishing::{published, sign_in};
use crate::support::*;

/// The message of `publish` and `watch`, and that of `doctor` with its `advice`.
async fn assert_no_connection(url: &str, message: &str, advice: &str) {
    let (code, out, err) = published(url, &["--patience", "0"]).await;
    assert_eq!((code, out.as_str(), err.trim_end()), (1, "", format!("error: {message}").as_str()));
    let (code, out, err) = output(&mut sferic(&["watch", "--url", url])).await;
    assert_eq!((code, out.as_str(), err.trim_end()), (1, "", format!("error: {message}").as_str()));
    let (code, out, _) = output(&mut sferic(&["doctor", "--url", url])).await;
    let line = out.lines().find(|line| line.contains("NATS server  ")).unwrap_or_default();
    let said = line.trim_start_matches("missing").trim_start().trim_start_matches("NATS server").trim_start();
    assert_eq!((code, said), (1, format!("{message}{advice}").as_str()), "{out}");
}

#[tokio::test]
async fn nothing_listens() {
    // Port 1 is that of a service nobody runs.
    let url = "nats://127.0.0.1:1";
    let refused = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
    assert_no_connection(
        url,
        &format!("no NATS server answers at nats://127.0.0.1:1: IO error: {refused}"),
        "; start a nats-server there, or set nats.url or --url",
    )
    .await;
}

#[tokio::test]
async fn a_file_of_tls_that_is_not_there() {
    for (variable, key) in [("TLS_CA", "tls_ca"), ("TLS_CERT", "tls_cert")] {
        let mut watch = sferic(&["watch", "--url", "nats://127.0.0.1:1"]);
        watch.env(format!("SFERIC__NATS__{variable}"), "/nope.pem");
        watch.env("SFERIC__NATS__TLS_KEY", if key == "tls_cert" { "/nope.key" } else { "" });
        let (code, out, err) = output(&mut watch).await;
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        let expected = format!("nats.{key}, /nope.pem, cannot be read: No such file or directory");
        assert!(err.contains(&expected), "{err}");
    }
}

#[tokio::test]
async fn a_wrong_password() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&["--user", "ann", "--pass", "right"]).await.unwrap();
    let shown = sign_in(server.url(), "***");
    let message = format!(
        "the NATS server at {shown} refuses the user \"ann\" or the password (authorization violation): set \
         nats.user and nats.password, nats.token, nats.nkey or nats.credentials, or put user:password@ or \
         token@ before the host in the address"
    );
    assert_no_connection(&sign_in(server.url(), "ann:wrong"), &message, "").await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_known() {
    if !tools_are_there() {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = TempDir::new().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let server = PrivateServer::start(&["--tls", "--tlscert", cert, "--tlskey", key]).await.unwrap();
    let message = format!(
        "no TLS with the NATS server at {}: invalid peer certificate: UnknownIssuer; set nats.tls_ca to the \
         certificate of the authority that issued the server's",
        server.url()
    );
    assert_no_connection(server.url(), &message, "").await;
}
