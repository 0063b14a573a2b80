//! What the measuring programs share: figures with their spread, what a process uses, where the daemon is and
//! when it is ready.

pub mod open_loop;
pub mod responder;
pub mod statistics;
pub use sferic::usage;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use sferic::nats::PrivateServer;
use sferic_samples::Datatype;
use sferic_scene::FrameSimulator;
use sferic_wire::FrameMessage;
use tokio::process::{Child, Command};

/// Frames that are different from each other.
const DIFFERENT: u64 = 64;

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

/// Copies a folder with what is in it.
///
/// # Errors
/// One of its files cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Different frames of the simulated scene as messages, to be sent again and again.
///
/// # Errors
/// A defect.
pub fn simulated_frames(samples: usize) -> anyhow::Result<Vec<Bytes>> {
    let simulator = FrameSimulator::new(1, samples);
    let encode = |index| {
        let samples = simulator.frame(index).bytes();
        let message = FrameMessage {
            frame_id: "bench",
            datatype: Datatype::Cf32Le.name(),
            sample_rate: Some(250e3),
            num_channels: 1,
            samples: &samples,
            ..FrameMessage::default()
        };
        Ok(message.encode()?.into())
    };
    (0..DIFFERENT).map(encode).collect()
}
