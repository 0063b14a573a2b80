//! `sferic bench`: a load test of a running daemon, or of one of its own.

pub mod args;
mod client;
pub mod costs;
mod frames;
mod load;
mod oip;
pub mod run;
pub mod target;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use sferic_load::{CompareOptions, Report, compare, comparison_text, csv, html, interval_log, text};

use self::args::LoadArgs;
use super::Usage;
use super::output::Output;

/// Measures what a daemon gets through, and how fast.
///
/// A closed loop (`--users 50 --requests 10`) or an open one (`--rate 500 --seconds 60`), in which latency
/// counts from when a frame should have been sent. Each level is met or missed; exits 1 where one is missed,
/// where answers differ (`--verify`), or where the run is not valid, because the generator could not keep up:
/// such a run says nothing of the daemon.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Compares two reports of `--json`; exits 1 where the second is worse.
    Compare(CompareArgs),
}

#[derive(Args, Clone, Debug)]
struct CompareArgs {
    /// The report before.
    before: PathBuf,
    /// The report after.
    after: PathBuf,
    /// How much worse it may be.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    tolerance: f64,
    /// Also runs that are not alike.
    #[arg(long)]
    force: bool,
    /// Prints the comparison as one JSON object.
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, no daemon, or a frame that its model does not take.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(Action::Compare(compare)) = &self.action {
            return compare.run();
        }
        let load = &self.load;
        let report = run::run(load).await?;
        let output = Output::plain();
        if let Some(path) = &load.csv {
            write(path, &csv(&report))?;
        }
        if let Some(path) = &load.html {
            write(path, &html(&report))?;
        }
        if let Some(path) = &load.interval_log {
            write(path, &interval_log(&report)?)?;
        }
        match load.json {
            true => output.raw(serde_json::to_string(&report)?)?,
            false => output.raw(text(&report).trim_end())?,
        }
        Ok(if report.passed() && !report.answers_differ() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl CompareArgs {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let (before, after) = (read(&self.before)?, read(&self.after)?);
        let options = CompareOptions { tolerance: self.tolerance, force: self.force, seed: 0 };
        let comparison = compare(&before, &after, options).map_err(|error| Usage(error.to_string()))?;
        let output = Output::plain();
        match self.json {
            true => output.raw(serde_json::to_string(&comparison)?)?,
            false => output.raw(comparison_text(&comparison).trim_end())?,
        }
        Ok(if comparison.is_worse() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn read(path: &Path) -> Result<Report, Usage> {
    let wrong = |error: &dyn std::fmt::Display| Usage(format!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(&error))
}

/// Writes a report.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
