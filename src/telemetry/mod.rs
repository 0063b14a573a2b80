//! Telemetry: metrics, traces, and the logs beside them.

#[cfg(test)]
mod docs;
mod events;
pub mod metrics;
pub mod otlp;
mod sink;
mod stages;
pub mod traces;

pub use sink::Observed;
