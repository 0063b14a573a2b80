//! `/ready` and `sferic.health` follow the connection, and the frames missed meanwhile are counted.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use sferic::app::App;
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::support::*;

/// Rounds of a server that dies and comes back.
const ROUNDS: usize = 20;

struct Running {
    app: App,
    http: SocketAddr,
    _models: TempDir,
}

impl Running {
    /// A daemon inside the test, as `user` of the server where one is named. It need not be ready yet.
    async fn start(url: &str, user: &str) -> Self {
        let models = repository(&["degrees"]);
        let mut settings = sferic_settings::Settings::default();
        settings.nats.url = url.to_owned();
        settings.nats.user = user.to_owned();
        settings.nats.password = if user.is_empty() { String::new() } else { "secret".to_owned() };
        settings.nats.publish_timeout = Duration::from_millis(500);
        settings.models.repository = models.path().to_owned();
        settings.models.default = "degrees".to_owned();
        settings.http.listen = "127.0.0.1:0".to_owned();
        let app = App::start(&settings).await.unwrap();
        let http = app.http_address().unwrap();
        Self { app, http, _models: models }
    }

    async fn ready(&self) -> (u16, serde_json::Value) {
        let (code, body) = get(self.http, "/ready", "*/*").await;
        (code, serde_json::from_str(&body).unwrap())
    }

    /// Waits until `/ready` answers with the code; how long that took and what it says.
    async fn becomes(&self, code: u16, within: Duration) -> (Duration, serde_json::Value) {
        self.becomes_after(Instant::now(), code, within).await
    }

    /// The same, with the time counted from `start`.
    async fn becomes_after(
        &self,
        start: Instant,
        code: u16,
        within: Duration,
    ) -> (Duration, serde_json::Value) {
        loop {
            let (is, body) = self.ready().await;
            if is == code {
                return (start.elapsed(), body);
            }
            assert!(start.elapsed() < within, "/ready is {is} after {within:?}: {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn lost(&self) -> u64 {
        self.app.shared_state().ledger.counts().lost
    }
}

async fn server_at(port: u16, arguments: &[&str]) -> PrivateServer {
    let port = port.to_string();
    PrivateServer::start(&[&["--port", port.as_str()], arguments].concat()).await.unwrap()
}

fn port(server: &PrivateServer) -> u16 {
    server.url().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A port that nobody listens at now.
async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Users who may do all, not read frames, not publish frames, and not publish outcomes.
fn permissions() -> TempDir {
    let folder = TempDir::new().unwrap();
    let text = r#"
        authorization { users = [
            {user: all, password: secret}
            {user: deaf, password: secret, permissions: {publish: ">", subscribe: {deny: ["iq.frames.>"]}}}
            {user: reader, password: secret, permissions: {publish: {deny: ["answers"]}, subscribe: ">"}}
            {user: mute, password: secret,
             permissions: {publish: {deny: ["iq.predictions.*", "iq.failures.*"]}, subscribe: ">"}}
        ] }"#;
    std::fs::write(folder.path().join("server.conf"), text).unwrap();
    folder
}

async fn server_with(conf: &Path) -> (PrivateServer, Client) {
    let server =
        PrivateServer::start(&["--config", conf.join("server.conf").to_str().unwrap()]).await.unwrap();
    let client = ConnectOptions::new()
        .user_and_password("all".into(), "secret".into())
        .connect(server.url())
        .await
        .unwrap();
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_for_its_server() {
    if !tools_are_there() {
        return;
    }
    let port = free_port().await;
    let daemon = Running::start(&format!("nats://127.0.0.1:{port}"), "").await;
    let (code, body) = daemon.ready().await;
    assert_eq!((code, body["status"].as_str()), (503, Some("starting")), "{body}");
    assert!(body["reason"].as_str().unwrap().contains(&port.to_string()), "{body}");
    let server = server_at(port, &[]).await;
    daemon.becomes(200, Duration::from_secs(5)).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let reply = Reply::of(client.request("iq.frames.s", pack(&steady("first")).into()).await.unwrap());
    assert!(reply.body["position"].is_object(), "{}", reply.body);
    daemon.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_server_and_every_frame_is_counted() {
    if !tools_are_there() {
        return;
    }
    let mut server = PrivateServer::start(&[]).await.unwrap();
    let port = port(&server);
    let daemon = Running::start(server.url(), "").await;
    daemon.becomes(200, PATIENCE).await;
    let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let load = tokio::spawn(load(server.url().to_owned(), Arc::clone(&sent), Arc::clone(&stop)));
    let (mut down, mut up) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let before = daemon.app.shared_state().ledger.counts().predictions;
        let answering = async {
            while daemon.app.shared_state().ledger.counts().predictions < before + 20 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answering)
            .await
            .unwrap_or_else(|_| panic!("no frame is answered in round {round}"));
        let killed = Instant::now();
        server.kill().await.unwrap();
        let (after, body) = daemon.becomes_after(killed, 503, Duration::from_secs(3)).await;
        assert_eq!(body["status"], "disconnected", "{body}");
        assert!(body["reason"].as_str().is_some_and(|reason| reason.contains("NATS")), "{body}");
        down = down.max(after);
        let started = Instant::now();
        server = server_at(port, &[]).await;
        up = up.max(daemon.becomes_after(started, 200, Duration::from_secs(5)).await.0);
    }
    // The last frame shows what is missing before it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Relaxed);
    load.await.unwrap();
    let sent = sent.load(Relaxed);
    let accounted = async {
        while daemon.app.shared_state().ledger.counts().received < sent
            || daemon.app.shared_state().ledger.counts().in_flight > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, accounted).await;
    let counts = daemon.app.shared_state().ledger.counts();
    eprintln!(
        "503 at most {down:?} after the server's end, 200 at most {up:?} after it was back; {sent} frames \
         sent, {counts:?}"
    );
    assert!(in_time.is_ok() && counts.balance() && counts.received == sent, "{sent} frames sent, {counts:?}");
    daemon.app.shut_down().await;
}

/// 200 numbered frames a second, whatever the server does.
async fn load(url: String, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let delay = |_| Duration::from_millis(20);
    let client = ConnectOptions::new().reconnect_delay_callback(delay).connect(url).await.unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !stop.load(Relaxed) {
        tick.tick().await;
        let seq = sent.fetch_add(1, Relaxed);
        let frame = with(&steady(&seq.to_string()), &[("seq", seq.into()), ("cache_enabled", false.into())]);
        client.publish("iq.frames.load", pack(&frame).into()).await.unwrap();
    }
    client.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_not_ready() {
    if !tools_are_there() {
        return;
    }
    let conf = permissions();
    let (server, _client) = server_with(conf.path()).await;
    let daemon = Running::start(server.url(), "deaf").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let (code, _) = daemon.ready().await;
        assert_eq!(code, 503);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (_, body) = daemon.ready().await;
    assert_eq!(body["status"], "disconnected", "{body}");
    assert!(body["reason"].as_str().unwrap().contains("iq.frames.>"), "{body}");
    daemon.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reply_does_not_end_the_subscription() {
    if !tools_are_there() {
        return;
    }
    let conf = permissions();
    let (server, client) = server_with(conf.path()).await;
    let daemon = Running::start(server.url(), "reader").await;
    daemon.becomes(200, PATIENCE).await;
    client.publish_with_reply("iq.frames.s", "answers", pack(&steady("odd")).into()).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let (code, body) = daemon.ready().await;
        assert_eq!(code, 200, "{body}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let reply = client.request("iq.frames.s", pack(&steady("good")).into()).await.unwrap();
    assert!(Reply::of(reply).body["position"].is_object());
    assert_eq!(daemon.app.shared_state().ledger.counts().received, 2);
    daemon.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_outcomes_are_lost_and_the_daemon_is_not_ready() {
    if !tools_are_there() {
        return;
    }
    let conf = permissions();
    let (server, client) = server_with(conf.path()).await;
    let daemon = Running::start(server.url(), "mute").await;
    daemon.becomes(200, PATIENCE).await;
    for n in 0..3 {
        client.publish("iq.frames.s", pack(&steady(&n.to_string())).into()).await.unwrap();
    }
    let (_, body) = daemon.becomes(503, Duration::from_secs(3)).await;
    assert!(body["reason"].as_str().unwrap().contains("iq.predictions.s"), "{body}");
    let counted = async {
        while daemon.lost() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("they are not lost");
    let counts = daemon.app.shared_state().ledger.counts();
    assert_eq!((counts.received, counts.predictions, counts.lost), (3, 0, 3), "{counts:?}");
    // Of a source that the server lets through nothing is lost.
    let reply = client.request("iq.frames.north.rx2", pack(&steady("good")).into()).await.unwrap();
    assert!(Reply::of(reply).body["position"].is_object());
    daemon.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_frame_is_unseen_while_another_member_may_have_it() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let alone = Running::start(server.url(), "").await;
    alone.becomes(200, PATIENCE).await;
    let send = async |source: &str, numbers: &[u64]| {
        for seq in numbers {
            let frame = with(&steady(&format!("{source}-{seq}")), &[("seq", (*seq).into())]);
            client.publish(format!("iq.frames.{source}"), pack(&frame).into()).await.unwrap();
        }
        client.flush().await.unwrap();
    };
    send("a", &[0, 1, 5, 3]).await;
    let counted = async {
        while alone.lost() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("a gap is not lost");
    let other = Running::start(server.url(), "").await;
    other.becomes(200, PATIENCE).await;
    let numbers: Vec<u64> = (0..200).collect();
    send("b", &numbers).await;
    let answered = async {
        let received = || {
            alone.app.shared_state().ledger.counts().received
                + other.app.shared_state().ledger.counts().received
        };
        while received() < 206 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("not all frames have come");
    // Longer than a gap stays open.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((alone.lost(), other.lost()), (2, 0));
    assert!(other.app.shared_state().ledger.counts().received > 10, "the frames were not shared");
    alone.app.shut_down().await;
    other.app.shut_down().await;
}
