//! Where logs go: standard error, as text for people or JSON for machines.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Telemetry};

/// Starts logging as the settings say.
///
/// # Errors
/// `telemetry.log` is no filter.
pub fn start(telemetry: &Telemetry) -> anyhow::Result<()> {
    // Libraries tell what matters through their results; their own chatter only repeats it.
    let filter = format!(
        "{},ractor=warn,ort=warn,async_nats=error,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,rustls=warn",
        telemetry.log
    );
    let filter = EnvFilter::builder().parse(&filter).with_context(|| format!("telemetry.log is {:?}", telemetry.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match telemetry.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
