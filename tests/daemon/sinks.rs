//! Where `sferic watch` puts outcomes: a broker of MQTT, a table of Parquet, annotations of SigMF.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::*;

/// A `sferic watch` that listens.
struct Watch {
    process: Child,
    talk: BufReader<tokio::process::ChildStderr>,
}

impl Watch {
    async fn start(url: &str, arguments: &[&str]) -> Self {
        let mut command = sferic(&["watch", "--url", url]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut talk = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        timeout(PATIENCE, talk.read_line(&mut line)).await.expect("it says nothing").unwrap();
        assert!(line.contains("listening to"), "{line}");
        Self { process, talk }
    }

    async fn interrupt(&self) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    /// What it printed and said, once it has ended well.
    async fn ended(mut self) -> (String, String) {
        let (mut printed, mut said) = (String::new(), String::new());
        let reading = async {
            let mut stdout = self.process.stdout.take().unwrap();
            let (out, err) =
                tokio::join!(stdout.read_to_string(&mut printed), self.talk.read_to_string(&mut said));
            out.and(err).unwrap();
            self.process.wait().await.unwrap()
        };
        let status = timeout(3 * PATIENCE, reading).await.expect("it does not end");
        assert!(status.success(), "{said}");
        (printed, said)
    }
}

fn prediction(n: u64) -> Value {
    json!({
        "frame_id": format!("f{n}"), "source": format!("north.rx{}", n % 7), "seq": n, "kind": "localization",
        "position": {"latitude": 45.0 + n as f64 * 1e-6, "longitude": 7.0 - n as f64 * 1e-6},
        "uncertainty": {"sigma_x": 10.0, "sigma_y": 5.0, "theta": 0.0, "confidence_interval": 0.68},
        "model": "m", "model_version": "1", "inference_time_ms": 1.5, "_cache_hit": n.is_multiple_of(2),
        "timestamp": format!("2026-11-28T00:{:02}:{:02}.{:06}Z", n / 60_000 % 60, n / 1000 % 60, n % 1000),
    })
}

async fn publish(client: &async_nats::Client, n: u64) {
    let outcome = prediction(n);
    let subject = format!("iq.predictions.{}", outcome["source"].as_str().unwrap());
    client.publish(subject, rmp_serde::to_vec_named(&outcome).unwrap().into()).await.unwrap();
}

/// A broker with a folder that outlives it.
struct Broker {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Broker {
    fn program() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        folders.map(|folder| folder.join("mosquitto")).find(|path| path.exists())
    }

    fn start(program: &Path, remembers: bool) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let below = folder.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence {remembers}\n\
             persistence_location {below}/\nmax_queued_messages 0\nuser root\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        Self { process: Self::spawn(program, folder.path()), port, folder }
    }

    fn spawn(program: &Path, folder: &Path) -> Child {
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("mosquitto.conf")).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    async fn is_there(&self) {
        let connecting = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, connecting).await.expect("the broker is not there");
    }

    /// Ends it in order, which keeps its sessions where it remembers them, and starts it again.
    async fn restart(&mut self, program: &Path) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        self.process = Self::spawn(program, self.folder.path());
        self.is_there().await;
    }
}

/// Somebody who gets everything: what paho says, a line at a time.
struct Subscriber {
    process: Child,
    said: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Subscriber {
    async fn start(port: u16, count: u64) -> Option<Self> {
        let judge = sferic_tools::places("judges/sinks/bin/python").find(|path| path.exists())?;
        let mut command = Command::new(judge);
        command.arg("ops/judges/mqtt_subscriber.py").args([port.to_string(), count.to_string()]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut subscriber = Self { process, said };
        assert_eq!(subscriber.says().await, "subscribed");
        Some(subscriber)
    }

    async fn says(&mut self) -> String {
        let line = timeout(3 * PATIENCE, self.said.next_line()).await.expect("it says nothing");
        line.unwrap().unwrap_or_default()
    }
}

async fn ask(world: &World, ids: std::ops::Range<u64>) {
    for n in ids {
        let sample = [0.1 + n as f32 * 1e-4, 0.1];
        let frame = pack(&frame(&format!("f{n}"), &[sample; 16]));
        world.client.publish("iq.frames.north.rx1", frame.into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_gets_every_outcome_once() {
    publish_to_a_broker(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_gets_every_outcome() {
    publish_to_a_broker(true).await;
}

async fn publish_to_a_broker(is_restarted: bool) {
    const OUTCOMES: u64 = 600;
    let (Some(program), true) = (Broker::program(), tools_are_there()) else {
        return sferic_tools::skip("mosquitto is not there; run ops/setup debian mosquitto");
    };
    let world = World::start(&["degrees"], &[]).await;
    let mut broker = Broker::start(&program, true);
    let Some(mut subscriber) = Subscriber::start(broker.port, OUTCOMES).await else {
        return sferic_tools::skip("paho is not there; run ops/setup judges");
    };
    let url = format!("mqtt://127.0.0.1:{}/rf", broker.port);
    let count = OUTCOMES.to_string();
    let watch = Watch::start(world.server.url(), &["--mqtt", &url, "--count", &count]).await;
    ask(&world, 0..OUTCOMES / 2).await;
    assert_eq!(subscriber.says().await, "some");
    if is_restarted {
        broker.restart(&program).await;
    }
    ask(&world, OUTCOMES / 2..OUTCOMES).await;
    let (printed, said) = watch.ended().await;
    assert!(printed.is_empty() && said.contains("600 outcomes published to 127.0.0.1"), "{printed} {said}");
    let came: Vec<(String, String)> = serde_json::from_str(&subscriber.says().await).unwrap();
    let ids: HashSet<_> = came.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len() as u64, OUTCOMES, "none is missing");
    // Those that it had taken and not confirmed.
    let most = if is_restarted { 16 } else { 0 };
    assert!(came.len() as u64 <= OUTCOMES + most, "{} of {OUTCOMES}", came.len());
    // Where the daemon was full, it has refused some.
    let topics = ["rf/predictions/north/rx1", "rf/failures/north/rx1"];
    assert!(came.iter().all(|(topic, _)| topics.contains(&topic.as_str())), "{came:?}");
    assert!(subscriber.process.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_has_forgotten_everything_gets_what_it_had_not_confirmed() {
    const OUTCOMES: u64 = 3000;
    let (Some(program), true) = (Broker::program(), tools_are_there()) else {
        return sferic_tools::skip("mosquitto is not there; run ops/setup debian mosquitto");
    };
    let world = World::start(&["degrees"], &[]).await;
    let mut broker = Broker::start(&program, false);
    broker.is_there().await;
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let count = OUTCOMES.to_string();
    let watch = Watch::start(world.server.url(), &["--mqtt", &url, "--count", &count]).await;
    for part in 0..6 {
        ask(&world, part * OUTCOMES / 6..(part + 1) * OUTCOMES / 6).await;
        world.ledger().await;
        if part % 2 == 0 {
            broker.restart(&program).await;
        }
    }
    let (_, said) = watch.ended().await;
    assert!(said.contains("3000 outcomes published") && said.contains("is back"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_said_at_once() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    for (url, code, says) in [
        ("mqtt://127.0.0.1:1", 1, "cannot connect to 127.0.0.1:1"),
        ("http://127.0.0.1", 2, "must be mqtt://"),
    ] {
        let mut command = sferic(&["watch", "--url", world.server.url(), "--mqtt", url]);
        let (ended, _, said) = output(&mut command).await;
        assert!(ended == code && said.contains(says), "{ended} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_opens_in_duckdb_and_pandas() {
    let judge = sferic_tools::places("judges/sinks/bin/python").find(|path| path.exists());
    let (Some(judge), true) = (judge, tools_are_there()) else {
        return sferic_tools::skip("duckdb is not there; run ops/setup judges");
    };
    // More than one group of rows.
    const OUTCOMES: u64 = 70_000;
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("day.parquet");
    let watch = Watch::start(server.url(), &["--parquet", path.to_str().unwrap()]).await;
    for n in 0..OUTCOMES {
        publish(&client, n).await;
        if n % 5000 == 0 {
            client.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    let failure = json!({"frame_id": "bad", "source": "=x,\n\"", "code": "internal", "message": "m",
        "retryable": true, "timestamp": "2026-11-28T01:00:00Z"});
    client.publish("iq.failures.x", rmp_serde::to_vec_named(&failure).unwrap().into()).await.unwrap();
    client.flush().await.unwrap();
    // A signal ends the table in order, with all that has arrived.
    tokio::time::sleep(Duration::from_secs(3)).await;
    watch.interrupt().await;
    let (printed, said) = watch.ended().await;
    assert!(printed.is_empty() && said.contains(&format!("{} outcomes in", OUTCOMES + 1)), "{said}");
    let judged = Command::new(judge)
        .args(["ops/judges/parquet_file.py", path.to_str().unwrap(), &OUTCOMES.to_string()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let judged = judged.await.unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_complete_however_the_watching_has_ended() {
    if !tools_are_there() {
        return;
    }
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("some.parquet");
    let mut command =
        sferic(&["watch", "--url", server.url(), "--json", "--parquet", path.to_str().unwrap()]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut process = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(process.stderr.take().unwrap());
    let mut said = String::new();
    timeout(PATIENCE, talk.read_line(&mut said)).await.unwrap().unwrap();
    publish(&client, 1).await;
    timeout(PATIENCE, talk.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(1), "{said}");
    assert!(said.contains("1 outcomes in") && said.contains("cannot write to standard output"), "{said}");
    assert!(std::fs::read(&path).unwrap().ends_with(b"PAR1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_are_what_sigmf_asks_for() {
    let judge = sferic_tools::places("judges/sigmf/bin/python").find(|path| path.exists());
    let (Some(judge), true) = (judge, tools_are_there()) else {
        return sferic_tools::skip("sigmf is not there; run ops/setup judges");
    };
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("new").join("folder");
    let arguments = ["--sigmf", below.to_str().unwrap(), "--csv", "--count", "21"];
    let watch = Watch::start(server.url(), &arguments).await;
    for n in 0..21 {
        publish(&client, n).await;
    }
    let (printed, said) = watch.ended().await;
    assert_eq!(printed.lines().count(), 22, "the form that was named is printed, too: {printed}");
    assert!(said.contains("21 annotations in 7 files"), "{said}");
    let files: Vec<_> = std::fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().path()).collect();
    let program = "import json, sys, sigmf\n\
        for path in sys.argv[1:]: sigmf.SigMFFile(metadata=json.load(open(path))).validate()";
    let judged = Command::new(judge).args(["-c", program]).args(&files).output().await.unwrap();
    assert!(judged.status.success() && files.len() == 7, "{}", String::from_utf8_lossy(&judged.stderr));
}
