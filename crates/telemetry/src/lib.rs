//! Telemetry: metrics, traces, and the logs beside them, off the frame's way.
//!
//! [`Observed`] wraps the sink of outcomes: what it publishes is counted in [`metrics::Recorded`], written as
//! spans from the frame's trail by [`traces::Traces`], and logged where it is a fault. [`otlp::Exporter`]
//! sends spans, and the readings of metrics that the daemon takes, to a collector.
//!
//! It names no broker, no model and no settings: [`ExportOptions`] and [`TraceOptions`] configure it.

mod causes;
#[cfg(test)]
mod docs;
mod events;
pub mod metrics;
mod options;
pub mod otlp;
mod sink;
mod stages;
mod throttle;
pub mod traces;

pub use causes::with_causes;
pub use options::{ExportOptions, OtlpProtocol, TraceOptions};
pub use sink::Observed;
pub use stages::Stage;
pub use throttle::Throttle;
