//! HTTP over a bare socket, and a daemon inside the test that serves it.

use std::net::SocketAddr;

use async_nats::{Client, Subscriber};
use serde_json::Value;
use sferic::app::App;
use sferic::nats::PrivateServer;
use sferic_settings::Settings;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

pub const PREDICT: &str = "/api/v1/inference/predict";
pub const BATCH: &str = "/api/v1/inference/predict/batch";

/// A daemon inside the test, ready, with HTTP on a free port.
pub struct Served {
    pub app: App,
    pub address: SocketAddr,
    pub client: Client,
    pub server: PrivateServer,
    _models: TempDir,
}

impl Served {
    pub async fn start(models: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(PrivateServer::start(&[]).await.unwrap(), models, change).await
    }

    pub async fn on(server: PrivateServer, models: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let folder = repository(models);
        let mut settings = settings(&server, &folder, models[0]);
        settings.http.listen = "127.0.0.1:0".to_owned();
        settings.limits.timeout = std::time::Duration::from_secs(20);
        change(&mut settings);
        let app = App::start(&settings).await.unwrap();
        tokio::time::timeout(2 * PATIENCE, app.ready()).await.expect("it does not get ready");
        let (address, client) = (app.http_address().unwrap(), client(server.url()).await);
        Self { app, address, client, server, _models: folder }
    }

    /// A subscription that the server has taken note of.
    pub async fn subscribe(&self, subject: &'static str) -> Subscriber {
        let subscriber = self.client.subscribe(subject).await.unwrap();
        // Answered after what was sent before on the same connection.
        self.client.request("sferic.health", "".into()).await.unwrap();
        subscriber
    }

    /// A call in JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        call(self.address, "POST", path, &[("Content-Type", "application/json")], body.as_bytes()).await
    }

    /// Ends the daemon, and checks that every frame has ended: how many, how many predictions and failures.
    pub async fn end(self) -> [u64; 3] {
        let shared_state = std::sync::Arc::clone(self.app.shared_state());
        self.app.shut_down().await;
        let counts = shared_state.ledger.counts();
        assert!(counts.balance() && counts.in_flight == 0 && counts.lost == 0, "{counts:?}");
        [counts.received, counts.predictions, counts.failures]
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Of the bytes of a connection that was closed; `None` where there is no whole head.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Self { status, head, body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error, after its form was found right.
    pub fn error(&self) -> String {
        let body = self.json();
        let keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["error", "message", "request_id", "timestamp"]);
        assert!(
            !body["message"].as_str().unwrap().is_empty()
                && body["timestamp"].as_str().unwrap().ends_with('Z')
        );
        body["error"].as_str().unwrap().to_owned()
    }
}

/// A call on a connection of its own, with a `Host` where the headers name none.
pub async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {address}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    let bytes = exchange(address, &[head.as_bytes(), b"\r\n", body].concat()).await.unwrap();
    Answer::of(&bytes).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

/// Sends bytes and reads until the connection is closed.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let exchanging = async {
        let mut stream = TcpStream::connect(address).await?;
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        // A server that has answered may not read to the end.
        let (_, read) = tokio::join!(writing.write_all(bytes), reading.read_to_end(&mut answer));
        read.map(|_| answer)
    };
    tokio::time::timeout(2 * PATIENCE, exchanging).await.expect("the connection stays open")
}
