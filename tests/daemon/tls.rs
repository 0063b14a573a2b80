//! TLS with an authority of one's own, and with certificates of clients.

use async_nats::ConnectOptions;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::publishing::server_with;
use crate::signing_in::{assert_answered, assert_error, assert_refused, file};
use crate::support::*;

/// An authority and the folder of its certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The path of its own certificate.
    ca: String,
    folder: TempDir,
}

/// Paths of a certificate and its key, and the key.
struct Certificate {
    cert: String,
    key: String,
    secret: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let ca = file(&folder, "ca.pem", &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), ca, folder }
    }

    fn issue(&self, name: &str) -> Certificate {
        self.issue_until(name, 4000)
    }

    fn issue_until(&self, name: &str, year: i32) -> Certificate {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        let secret = key.serialize_pem();
        let cert = file(&self.folder, &format!("{name}.{year}.pem"), &cert);
        Certificate { cert, key: file(&self.folder, &format!("{name}.{year}.key"), &secret), secret }
    }
}

async fn server(certificate: &Certificate, more: &str) -> (PrivateServer, TempDir) {
    let Certificate { cert, key, .. } = certificate;
    server_with(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, {more} }}")).await
}

fn no_tls(url: &str, cause: &str, advice: &str) -> String {
    format!("no TLS with the NATS server at {url}: {cause}; {advice}")
}

const SET_CA: &str = "set nats.tls_ca to the certificate of the authority that issued the server's";

#[tokio::test]
async fn with_an_authority_of_ones_own() {
    if !tools_are_there() {
        return;
    }
    let authority = Authority::new("ours");
    let (server, _folder) = server(&authority.issue("127.0.0.1"), "").await;
    let url = server.url();
    let options = ConnectOptions::new().add_root_certificates(authority.ca.clone().into());
    assert_answered(url, options, &[("TLS_CA", &authority.ca)], &[]).await;

    let unknown = "invalid peer certificate: UnknownIssuer";
    let anew = "invalid peer certificate: BadSignature";
    for (name, cause) in [("theirs", unknown), ("ours", anew)] {
        let other = Authority::new(name);
        assert_refused(url, &[("TLS_CA", &other.ca)], &no_tls(url, cause, SET_CA), cause, &[]).await;
    }
    let empty = file(&authority.folder, "empty.pem", "");
    let message = format!("nats.tls_ca, {empty}, holds no certificate as PEM");
    assert_error(url, &[("TLS_CA", &empty)], &message, &[]).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_or_time() {
    if !tools_are_there() {
        return;
    }
    let authority = Authority::new("ours");
    let keys = [("TLS_CA", authority.ca.as_str())];
    let (other, _folder) = server(&authority.issue("nats.example"), "").await;
    let cause = "invalid peer certificate: certificate not valid for name \"127.0.0.1\"; certificate is only \
                 valid for DnsName(\"nats.example\")";
    let advice = "use in nats.url a name or an address that the server's certificate has";
    assert_refused(other.url(), &keys, &no_tls(other.url(), cause, advice), cause, &[]).await;

    let (expired, _folder) = server(&authority.issue_until("127.0.0.1", 2020), "").await;
    let (code, _, err) =
        output(sferic(&["watch", "--url", expired.url()]).env("SFERIC__NATS__TLS_CA", &authority.ca)).await;
    let parts = ["certificate expired", "; the server needs another certificate, or the clock here is wrong"];
    assert!(code == 1 && parts.iter().all(|part| err.contains(part)), "{code}: {err}");
}

#[tokio::test]
async fn a_server_without_tls() {
    if !tools_are_there() {
        return;
    }
    let authority = Authority::new("ours");
    let server = PrivateServer::start(&[]).await.unwrap();
    let plain = server.url();
    let tls = plain.replace("nats://", "tls://");
    for (url, keys) in [(plain, &[("TLS_CA", authority.ca.as_str())][..]), (&tls, &[])] {
        let advice = "turn TLS on there, or leave out tls:// in nats.url, and nats.tls_ca, nats.tls_cert \
                      and nats.tls_key";
        let message = no_tls(url, "it answers without TLS", advice);
        assert_refused(url, keys, &message, "InvalidContentType", &[]).await;
    }
}

#[tokio::test]
async fn with_a_certificate_of_the_client() {
    if !tools_are_there() {
        return;
    }
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = authority.ca.as_str();
    let (server, _folder) =
        server(&authority.issue("127.0.0.1"), &format!("ca_file: {ca:?}, verify: true")).await;
    let url = server.url();
    let [right, wrong] = [&authority, &other].map(|issuer| issuer.issue("ann"));
    let secrets = [right.secret.as_str(), wrong.secret.as_str()];
    let options = ConnectOptions::new()
        .add_root_certificates(ca.into())
        .add_client_certificate(right.cert.clone().into(), right.key.clone().into());
    let keys = [("TLS_CA", ca), ("TLS_CERT", &right.cert), ("TLS_KEY", &right.key)];
    assert_answered(url, options, &keys, &secrets).await;

    let cause = "received fatal alert: CertificateRequired";
    let advice = "set nats.tls_cert and nats.tls_key: the server asks for a client's certificate";
    assert_refused(url, &[("TLS_CA", ca)], &no_tls(url, cause, advice), cause, &secrets).await;

    let cause = "received fatal alert: UnknownCA";
    let advice = "set nats.tls_cert and nats.tls_key to a certificate that the server accepts, issued by an \
                  authority it knows and not expired";
    let keys = [("TLS_CA", ca), ("TLS_CERT", &wrong.cert), ("TLS_KEY", &wrong.key)];
    assert_refused(url, &keys, &no_tls(url, cause, advice), cause, &secrets).await;

    let keys = [("TLS_CA", ca), ("TLS_CERT", &right.cert), ("TLS_KEY", &wrong.key)];
    let cause = "TLS error: could not add certificate or key";
    let message = no_tls(url, cause, "nats.tls_key has to be the key of nats.tls_cert");
    assert_refused(url, &keys, &message, "could not add certificate or key", &secrets).await;

    let keys = [("TLS_CA", ca), ("TLS_CERT", &right.cert), ("TLS_KEY", &right.cert)];
    let message = format!("nats.tls_key, {}, holds no private key without a password as PEM", right.cert);
    assert_error(url, &keys, &message, &secrets).await;
}
