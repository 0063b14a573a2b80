//! Logging to standard error, as text for people or JSON for programs.

use std::io::IsTerminal;

use anyhow::Context;
use sferic_settings::{LogFormat, Telemetry};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

use super::escaped::{JsonLog, log_field};
use crate::nats::words;

/// Starts logging as the settings say.
///
/// # Errors
/// `telemetry.log` is no filter.
pub fn start(telemetry: &Telemetry) -> anyhow::Result<()> {
    // Libraries report errors through their results; their logs only repeat them.
    let filter = format!(
        "{},ractor=warn,ort=warn,async_nats=off,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,\
         rustls=warn",
        telemetry.log
    );
    let filter = EnvFilter::builder()
        .parse(&filter)
        .with_context(|| format!("telemetry.log is {:?}", telemetry.log))?;
    let layer = match telemetry.log_format {
        LogFormat::Text => fmt::layer()
            .fmt_fields(debug_fn(log_field).delimited(" "))
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(|| JsonLog).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(words::layer()).init();
    Ok(())
}
