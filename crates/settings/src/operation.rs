//! The sections about operation: restarts, shutdown, telemetry, the ONNX Runtime library.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sferic_actors::supervision;
use sferic_samples::{Number, units};
use sferic_telemetry::OtlpProtocol;
use tracing_subscriber::EnvFilter;

use super::check::{Check, quoted};
use super::secrets::hide_userinfo;
use super::values::given;

/// Restarts of failed actors: the component's own configuration.
pub(super) fn validate_supervision(supervision: &supervision::Config, check: &mut Check) {
    check.positive("backoff_min", supervision.backoff_min);
    check.not_above("backoff_min", supervision.backoff_min, "backoff_max", supervision.backoff_max);
    check.positive("window", supervision.window);
}

/// Shutdown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Shutdown {
    /// How long accepted frames may take to end after SIGTERM or SIGINT.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10) }
    }
}

impl Shutdown {
    pub(super) fn validate(&self, check: &mut Check) {
        check.positive("timeout", self.timeout);
    }
}

/// Logs, traces and metrics.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Telemetry {
    /// Endpoint of traces and metrics, `http://` or `https://`; empty: none.
    pub otlp_endpoint: String,
    /// The protocol.
    pub otlp_protocol: OtlpProtocol,
    /// Share of traces that are kept, of those the sender has not decided on.
    pub sample_ratio: f64,
    /// Traces a second that the daemon itself begins at most; those that a sender has decided on are not
    /// counted.
    pub traces_per_second: f64,
    /// Frames that took at least this long are kept though their trace is not sampled.
    #[serde(with = "units::duration")]
    pub slow_frame: Duration,
    /// How often metrics are exported.
    #[serde(with = "units::duration")]
    pub metrics_interval: Duration,
    /// Maximum number of sources that metrics distinguish; further ones are `other`.
    pub max_sources: usize,
    /// Log levels: `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,sferic=debug`.
    pub log: String,
    /// How a log line looks.
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_protocol: OtlpProtocol::Grpc,
            sample_ratio: 1.0,
            traces_per_second: 50.0,
            slow_frame: Duration::from_millis(250),
            metrics_interval: Duration::from_secs(15),
            max_sources: 64,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl Telemetry {
    pub(super) fn validate(&self, check: &mut Check) {
        if let Some(endpoint) = given(&self.otlp_endpoint) {
            let shown = quoted(&hide_userinfo(endpoint));
            check.web(
                "otlp_endpoint",
                endpoint,
                format_args!("is {shown}, must begin with http:// or https://, or be empty"),
            );
        }
        check.share("sample_ratio", self.sample_ratio);
        let traces = self.traces_per_second;
        check.rule(
            traces >= 0.0 && traces.is_finite(),
            "traces_per_second",
            format_args!("is {}, must be a number from 0", Number(traces)),
        );
        check.positive("slow_frame", self.slow_frame);
        check.positive("metrics_interval", self.metrics_interval);
        check.at_least("max_sources", self.max_sources, 1);
        check.rule(
            EnvFilter::try_new(&self.log).is_ok(),
            "log",
            format_args!("is {}, must be a level or directives such as info,sferic=debug", quoted(&self.log)),
        );
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The ONNX Runtime library.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Onnx {
    /// Path of the shared library; empty: `ORT_DYLIB_PATH`, then `.tools/lib` or `lib/sferic/lib`
    /// of the installation, then the system's.
    pub library: String,
    /// Folder where optimised graphs are kept, so that models open sooner the next time; empty: nowhere.
    pub graphs: String,
}
