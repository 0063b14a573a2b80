//! The daemon that is measured: one that runs, or one of its own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use sferic_settings::Settings;
use tokio::process::{Child, Command};

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
    /// Of a daemon of its own: its process, and the server.
    own: Option<(Child, PrivateServer)>,
}

impl Target {
    /// A daemon that runs.
    ///
    /// # Errors
    /// There is no server, or no daemon answers.
    pub async fn running(settings: &Settings) -> anyhow::Result<Self> {
        let connection = nats::connect(&settings.nats, "sferic bench").await?;
        let target = Self { connection, prefix: settings.nats.prefix.clone(), http: None, own: None };
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
        let server = PrivateServer::start(&[]).await?;
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
        let target = Self { connection, prefix: nats.prefix, http: Some(listen), own: Some((child, server)) };
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

    /// What the daemon counts, of `$SRV.STATS`.
    ///
    /// # Errors
    /// No answer.
    pub async fn statistics(&self) -> anyhow::Result<Value> {
        let message = self.connection.client().request("$SRV.STATS.sferic", "".into()).await?;
        let mut answer: Value = serde_json::from_slice(&message.payload)?;
        Ok(answer["endpoints"][0]["data"].take())
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
        if let Some((mut child, server)) = self.own {
            let _ = child.kill().await;
            let _ = server.kill().await;
        }
    }
}
