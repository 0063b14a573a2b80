//! What the tests share: a private nats-server, the daemon as a process, frames, and the replies to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;
use sferic_settings::Settings;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Whatever is waited for comes within this time, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A client whose requests wait that long.
pub async fn client(url: &str) -> async_nats::Client {
    async_nats::ConnectOptions::new().request_timeout(Some(PATIENCE)).connect(url).await.unwrap()
}

/// The tests' own models.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}

/// A model repository of some of the tests' models.
pub fn repository(models: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for model in models {
        std::os::unix::fs::symlink(fixtures().join(model), folder.path().join(model)).unwrap();
    }
    folder
}

/// Whether ONNX Runtime and nats-server are there; says so where they are not.
pub fn tools_are_there() -> bool {
    let there =
        ["bin/nats-server", "lib"].iter().all(|file| sferic_tools::places(file).any(|path| path.exists()));
    if !there {
        sferic_tools::skip(".tools/ is not there; run ops/setup");
    }
    there
}

/// The program, started in the root of the package.
pub fn sferic(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sferic"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the program to its end: exit code, standard output, standard error.
pub async fn output(command: &mut Command) -> (i32, String, String) {
    let output =
        tokio::time::timeout(3 * PATIENCE, command.output()).await.expect("it does not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A nats-server and a daemon of its own.
pub struct World {
    pub server: PrivateServer,
    pub client: Client,
    pub daemon: Daemon,
    _repository: TempDir,
}

impl World {
    /// The daemon with these of the tests' models, the first the default, and these `SFERIC__` variables;
    /// ready.
    pub async fn start(models: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::on(PrivateServer::start(&[]).await.unwrap(), models, settings).await
    }

    /// The same on a given server.
    pub async fn on(server: PrivateServer, models: &[&str], settings: &[(&str, &str)]) -> Self {
        let client = client(server.url()).await;
        let repository = repository(models);
        let default =
            [("MODELS__REPOSITORY", repository.path().to_str().unwrap()), ("MODELS__DEFAULT", models[0])];
        let settings: Vec<_> = default.iter().chain(settings).copied().collect();
        let daemon = Daemon::start(server.url(), &settings).await;
        Self { server, client, daemon, _repository: repository }
    }

    /// Sends a frame and gives the outcome it is answered with.
    pub async fn ask(&self, frame: &Value) -> Reply {
        self.ask_raw(pack(frame), HeaderMap::new()).await
    }

    /// Sends bytes as a frame and gives the outcome it is answered with.
    pub async fn ask_raw(&self, payload: Vec<u8>, headers: HeaderMap) -> Reply {
        let asked = self.client.request_with_headers("iq.frames.t.rx", headers, payload.into());
        Reply::of(tokio::time::timeout(PATIENCE, asked).await.expect("no answer").expect("no answer"))
    }

    pub async fn health(&self) -> serde_json::Value {
        health(&self.client).await.expect("no answer")
    }

    /// The data in `$SRV.STATS`.
    pub async fn statistics(&self) -> serde_json::Value {
        let answer = self.client.request("$SRV.STATS.sferic", "".into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        answer["endpoints"][0]["data"].clone()
    }

    /// Waits until nothing is in flight, and gives the ledger, after the outcome law was found to hold.
    pub async fn ledger(&self) -> Ledger {
        let settled = async {
            loop {
                let ledger: Ledger = serde_json::from_value(self.health().await["ledger"].clone()).unwrap();
                assert_eq!(
                    ledger.received,
                    ledger.predictions + ledger.failures + ledger.lost + ledger.in_flight,
                    "{ledger:?}"
                );
                if ledger.in_flight == 0 {
                    return ledger;
                }
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("frames stay in flight")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
pub struct Ledger {
    pub received: u64,
    pub predictions: u64,
    pub failures: u64,
    pub lost: u64,
    pub in_flight: u64,
}

pub async fn health(client: &Client) -> Option<serde_json::Value> {
    let answer = client.request("sferic.health", "".into()).await.ok()?;
    Some(serde_json::from_slice(&answer.payload).unwrap())
}

/// For a daemon inside the test.
pub fn settings(server: &PrivateServer, models: &TempDir, default: &str) -> Settings {
    let mut settings = Settings::default();
    settings.nats.url = server.url().to_owned();
    settings.models.repository = models.path().to_owned();
    settings.models.default = default.to_owned();
    settings.http.listen = String::new();
    settings
}

/// `sferic run` as a process.
pub struct Daemon {
    process: Child,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub async fn start(url: &str, settings: &[(&str, &str)]) -> Self {
        Self::spawn(url, settings, sferic(&["run", "--url", url])).await
    }

    /// The same, its log kept for [`stderr_to_its_end`](Self::stderr_to_its_end).
    pub async fn start_piped(url: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = sferic(&["run", "--url", url]);
        command.stderr(Stdio::piped());
        Self::spawn(url, settings, command).await
    }

    /// The same, with further variables in its environment.
    pub async fn start_in(url: &str, settings: &[(&str, &str)], environment: &[(&str, &Path)]) -> Self {
        let mut command = sferic(&["run", "--url", url]);
        command.envs(environment.iter().copied());
        Self::spawn(url, settings, command).await
    }

    async fn spawn(url: &str, settings: &[(&str, &str)], mut command: Command) -> Self {
        command.env("SFERIC__HTTP__LISTEN", "");
        command.envs(settings.iter().map(|(key, value)| (format!("SFERIC__{key}"), value)));
        Self::spawn_for(&client(url).await, command).await
    }

    /// Starts the command and waits until it is ready for that client.
    pub async fn spawn_for(client: &Client, mut command: Command) -> Self {
        let mut daemon = Self { process: command.spawn().unwrap() };
        let ready = async {
            while health(client).await.is_none_or(|health| health["status"] != "ok") {
                assert_eq!(daemon.process.try_wait().unwrap(), None, "the daemon ended at its start");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, ready).await.expect("the daemon does not get ready");
        daemon
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id().expect("it has ended")
    }

    /// Its resident memory, where there is /proc.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()?)).ok()?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        Some(kib << 10)
    }

    /// Sends it a signal, by name.
    pub async fn signal(&self, name: &str) {
        let pid = self.process.id().expect("it has ended").to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    /// What it has written to standard error, once it has ended.
    pub async fn stderr_to_its_end(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.process.stderr.take().unwrap();
        tokio::time::timeout(2 * PATIENCE, stderr.read_to_string(&mut text))
            .await
            .expect("the daemon does not end")
            .unwrap();
        text
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(2 * PATIENCE, self.process.wait())
            .await
            .expect("the daemon does not end")
            .unwrap()
    }
}

/// The message and the outcome in it.
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: serde_json::Value,
}

impl Reply {
    pub fn of(message: Message) -> Self {
        let headers = message.headers.expect("an outcome has headers");
        let body = match headers.get("Content-Type").map(|value| value.as_str()) {
            Some("application/json") => serde_json::from_slice(&message.payload).unwrap(),
            Some("application/msgpack") => unpack(&message.payload),
            other => panic!("content type {other:?}"),
        };
        Self { headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }

    pub fn number(&self, key: &str) -> f64 {
        self.body[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {}", self.body))
    }
}

/// MessagePack as JSON; `bin` as an array of its bytes.
pub fn unpack(payload: &[u8]) -> serde_json::Value {
    rmp_serde::from_slice(payload).unwrap()
}

pub fn pack(frame: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, frame).unwrap();
    bytes
}

/// A frame of these samples, `cf32_le`, one channel.
pub fn frame(id: &str, samples: &[[f32; 2]]) -> Value {
    let bytes = samples.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    map(&[("frame_id", id.into()), ("datatype", "cf32_le".into()), ("samples", Value::Binary(bytes))])
}

pub fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
}

/// The frame with other or further keys; a nil takes one away.
pub fn with(frame: &Value, changes: &[(&str, Value)]) -> Value {
    let mut entries = frame.as_map().unwrap().clone();
    for (key, value) in changes {
        entries.retain(|(name, _)| name.as_str() != Some(key));
        if !value.is_nil() {
            entries.push(((*key).into(), value.clone()));
        }
    }
    Value::Map(entries)
}

/// A GeoJSON Point.
pub fn point(longitude: f64, latitude: f64) -> Value {
    let coordinates = Value::Array(vec![longitude.into(), latitude.into()]);
    Value::Map(vec![("type".into(), "Point".into()), ("coordinates".into(), coordinates)])
}

/// A frame whose answer is worked out by hand: of model `degrees`, 90·I and 360·Q degrees.
pub fn steady(id: &str) -> Value {
    frame(id, &[[0.5, 0.25]; 64])
}

/// As JSON.
pub fn as_json(frame: &serde_json::Value) -> (Vec<u8>, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    (json!(frame).to_string().into_bytes(), headers)
}

/// A page over HTTP: its status and its text.
pub async fn get(address: SocketAddr, path: &str, accept: &str) -> (u16, String) {
    let getting = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, getting).await.expect("no page");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
