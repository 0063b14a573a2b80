//! What the measuring programs share: figures with their spread, what a process uses, where the daemon is and
//! when it is ready.

pub mod statistics;
pub mod usage;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use sferic::nats::PrivateServer;
use tokio::process::{Child, Command};

/// The program `sferic`, built beside the one that runs.
///
/// # Errors
/// Where it is not there.
pub fn daemon() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program has no path")?.with_file_name("sferic");
    ensure!(program.is_file(), "{} is not there: `cargo build --release --bin sferic`", program.display());
    Ok(program)
}

/// Starts a daemon without HTTP, which logs warnings, with these `SFERIC__` variables. It ends when this is
/// dropped.
///
/// # Errors
/// Where it cannot be started.
pub fn start(server: &PrivateServer, settings: &[(&str, &str)]) -> anyhow::Result<Child> {
    let program = daemon()?;
    let mut command = Command::new(&program);
    command.args(["run", "--url", server.url()]);
    for (key, value) in [("HTTP__LISTEN", ""), ("TELEMETRY__LOG", "warn")].iter().chain(settings) {
        command.env(format!("SFERIC__{key}"), value);
    }
    let started = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
    started.with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until the daemon says that it is ready: it answers before frames reach it.
///
/// # Errors
/// It is not within a minute.
pub async fn ready(client: &async_nats::Client) -> anyhow::Result<()> {
    let is_ready = async || {
        let answer = client.request("sferic.health", "".into()).await.ok()?;
        let health: serde_json::Value = serde_json::from_slice(&answer.payload).ok()?;
        (health["status"] == "ok").then_some(())
    };
    let ready = async {
        while is_ready().await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.context("the daemon does not get ready")
}
