//! A private nats-server, for the demo and for tests.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use sferic_tools as tools;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Timeout of the server to report its port.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running nats-server on a free loopback port, ended when this is dropped.
#[derive(Debug)]
pub struct PrivateServer {
    url: String,
    process: Child,
    // Holds the ports file of the server; removed with it.
    _folder: TempDir,
}

impl PrivateServer {
    /// Starts `.tools/bin/nats-server`, else the one on the `PATH`, with these arguments beside address and
    /// port.
    ///
    /// # Errors
    /// There is none, or it does not start; says what to do.
    pub async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = tools::places("bin/nats-server")
            .find(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from("nats-server"));
        let folder = tempfile::tempdir().context("no temporary folder for nats-server")?;
        let mut process = Command::new(&program)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(folder.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {}: run ops/setup, or put nats-server on the PATH", program.display())
            })?;
        let began = Instant::now();
        loop {
            if let Some(url) = listening_at(&folder)? {
                return Ok(Self { url, process, _folder: folder });
            }
            if let Some(status) = process.try_wait()? {
                bail!("{} ended at its start, {status}", program.display());
            }
            if began.elapsed() > START_TIMEOUT {
                bail!("{} did not say within {START_TIMEOUT:?} where it listens", program.display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it and waits until it has ended.
    ///
    /// # Errors
    /// The system does not let it be ended.
    pub async fn kill(mut self) -> std::io::Result<()> {
        self.process.kill().await
    }
}

/// The address in the ports file, once it is complete.
fn listening_at(folder: &TempDir) -> anyhow::Result<Option<String>> {
    for entry in folder.path().read_dir()? {
        let text = std::fs::read(entry?.path())?;
        if let Ok(ports) = serde_json::from_slice::<serde_json::Value>(&text) {
            return Ok(ports["nats"][0].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}
