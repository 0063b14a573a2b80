//! What the measuring programs share: figures with their spread, what a process uses, where the daemon is.

pub mod statistics;
pub mod usage;

use std::path::PathBuf;

use anyhow::{Context, ensure};

/// The program `sferic`, built beside the one that runs.
///
/// # Errors
/// Where it is not there.
pub fn daemon() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program has no path")?.with_file_name("sferic");
    ensure!(program.is_file(), "{} is not there: `cargo build --release --bin sferic`", program.display());
    Ok(program)
}
