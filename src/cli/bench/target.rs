//! The daemon that is measured: one that runs, or one of its own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream;
use serde_json::{Value, json};
use sferic_settings::{Mode, Settings};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cli::daemons::find;
use crate::nats::{self, Connection, PrivateServer};

/// Time for a daemon of its own to get ready.
const START: Duration = Duration::from_secs(60);

/// The daemon.
pub struct Target {
    /// The connection to its server.
    pub connection: Connection,
    /// The prefix of its subjects.
    pub prefix: String,
    /// Where its HTTP listens, of a daemon of its own.
    http: Option<SocketAddr>,
    /// Of a daemon of its own: its process, the server, and what that stores.
    own: Option<(Child, PrivateServer, TempDir)>,
    /// The ids of the daemons, once they were asked for.
    ids: Mutex<Vec<String>>,
}

impl Target {
    /// A daemon that runs.
    ///
    /// # Errors
    /// There is no server, or no daemon answers.
    pub async fn running(settings: &Settings) -> anyhow::Result<Self> {
        let connection = nats::connect(&settings.nats, "sferic bench").await?;
        let prefix = settings.nats.prefix.clone();
        let target = Self { connection, prefix, http: None, own: None, ids: Mutex::default() };
        let health = target.ask("health", &json!({})).await;
        let server = settings.nats.shown_url();
        health.with_context(|| format!("no daemon answers at {server}; is `sferic run` running?"))?;
        Ok(target)
    }

    /// A daemon of its own, with a private server, as `settings` have it; HTTP listens on a free port.
    ///
    /// # Errors
    /// The server or the daemon does not start.
    pub async fn embedded(config: Option<&std::path::Path>, settings: &Settings) -> anyhow::Result<Self> {
        let store = tempfile::tempdir().context("no temporary folder for streams")?;
        let folder = store.path().to_string_lossy();
        let streams = ["-js", "-sd", &*folder];
        let server = match settings.nats.mode {
            Mode::Core => PrivateServer::start(&[]).await?,
            Mode::Jetstream => PrivateServer::start(&streams).await?,
        };
        let program = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new(program);
        command.args(["run", "--url", server.url()]).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        // Free when it is looked for; nothing else says which one the daemon has.
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        command.env("SFERIC__HTTP__LISTEN", listen.to_string()).env("SFERIC__TELEMETRY__LOG", "warn");
        let child = command.kill_on_drop(true).spawn().context("cannot start the daemon")?;
        let nats = sferic_settings::Nats { url: server.url().to_owned(), ..settings.nats.clone() };
        let connection = nats::connect(&nats, "sferic bench").await?;
        let own = Some((child, server, store));
        let target = Self { connection, prefix: nats.prefix, http: Some(listen), own, ids: Mutex::default() };
        let ready = async {
            while target.ask("health", &json!({})).await.is_ok_and(|health| health["status"] != "ok") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waiting = async {
            while target.ask("health", &json!({})).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ready.await;
        };
        tokio::time::timeout(START, waiting).await.context("the daemon does not get ready")?;
        Ok(target)
    }

    /// The process, of a daemon of its own.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.0.id()
    }

    /// Address of HTTP, of a daemon of its own.
    pub fn http(&self) -> Option<String> {
        self.http.map(|address| format!("http://{address}"))
    }

    /// The stream that takes the frames, if one does.
    pub async fn stream(&self) -> Option<String> {
        let context = jetstream::new(self.connection.client());
        context.stream_by_subject(format!("{}.frames.bench.0", self.prefix)).await.ok()
    }

    /// What each daemon of the prefix counts, of `$SRV.STATS`.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn statistics(&self) -> anyhow::Result<Vec<Value>> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !ids.is_empty()
            && let Ok(statistics) = self.statistics_of(&ids).await
        {
            return Ok(statistics);
        }
        // A daemon whose connection was made anew has another id.
        let ids = find(&self.connection, &self.prefix).await?;
        let statistics = self.statistics_of(&ids).await?;
        *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        Ok(statistics)
    }

    async fn statistics_of(&self, ids: &[String]) -> anyhow::Result<Vec<Value>> {
        let asked = ids.iter().map(async |id| {
            let subject = format!("$SRV.STATS.sferic.{id}");
            let message = self.connection.client().request(subject, "".into()).await?;
            let mut answer: Value = serde_json::from_slice(&message.payload)?;
            anyhow::Ok(answer["endpoints"][0]["data"].take())
        });
        futures::future::try_join_all(asked).await
    }

    /// Asks a control endpoint.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn ask(&self, endpoint: &str, request: &Value) -> anyhow::Result<Value> {
        let subject = format!("sferic.{endpoint}");
        let message = self.connection.client().request(subject, request.to_string().into()).await?;
        let error = message.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error"));
        if let Some(error) = error {
            bail!("{error}");
        }
        Ok(serde_json::from_slice(&message.payload)?)
    }

    /// Ends a daemon of its own.
    pub async fn end(self, bound: Duration) {
        self.connection.close(bound).await;
        if let Some((mut child, server, _store)) = self.own {
            let _ = child.kill().await;
            let _ = server.kill().await;
        }
    }
}
