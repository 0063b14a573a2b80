//! Options of the export and of traces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How traces and metrics are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// OTLP over gRPC.
    #[default]
    Grpc,
    /// OTLP over HTTP with protobuf.
    Http,
}

/// Options of the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// The protocol.
    pub protocol: OtlpProtocol,
    /// How often metrics are exported.
    pub metrics_interval: Duration,
}

/// Options of traces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceOptions<'a> {
    /// Share of traces that are kept, of those the sender has not decided on.
    pub sample_ratio: f64,
    /// Frames that took at least this long are kept though their trace is not sampled.
    pub slow_frame: Duration,
    /// First tokens of all subjects.
    pub prefix: &'a str,
    /// The queue group of the daemon's subscription.
    pub queue_group: &'a str,
}
