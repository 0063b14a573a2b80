//! The commands. Data goes to standard output, messages to standard error; the exit code is 0 for success, 1
//! for a failure and 2 for wrong usage or configuration.

pub mod bench;
pub mod breaker;
pub mod cache;
pub mod calibrate;
pub mod config;
mod connect;
mod cot;
mod csv;
mod daemons;
pub mod demo;
pub mod doctor;
mod escaped;
mod geojson;
mod logging;
pub mod models;
mod outcome;
mod output;
pub mod publish;
mod push;
pub mod record;
mod refusal;
pub mod replay;
pub mod run;
mod sending;
mod shadow;
pub mod simulate;
mod sinks;
pub mod soak;
mod split;
mod stages;
mod table;
pub mod watch;

use std::process::ExitCode;

pub use connect::ConnectArgs;
use escaped::Escaped;
use sferic_telemetry::with_causes;

/// The command line or the configuration is wrong; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Prints the error of a command to standard error.
pub fn report(error: &anyhow::Error) {
    for line in format!("error: {}", with_causes(error)).lines() {
        eprintln!("{}", Escaped(line));
    }
}

/// The exit code of an error: 2 for wrong usage or configuration, else 1.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}
