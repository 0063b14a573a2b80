//! Metrics: every metric there is, what is recorded when an outcome is published, and one reading of all.
//!
//! Nothing here is on the data path. A reading has every metric once; `/metrics` and OTLP are two formats of
//! it.

pub mod catalogue;
mod family;
mod histogram;
pub mod prometheus;
mod recorded;

use std::sync::Arc;

pub use family::{Family, Point, Reading, Value};
pub use histogram::{Buckets, Exemplar, Histogram};
pub use recorded::{FrameTimes, ModelRecord, ModelTimes, Recorded};

/// Reads all metrics.
pub type ReadMetrics = Arc<dyn Fn() -> Reading + Send + Sync>;
