//! Quantiles of times.

use std::time::Duration;

use crate::histogram::Histogram;

/// A histogram of times, from a microsecond on.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(1e-6))
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.add(time.as_secs_f64());
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The time that a share `quantile` of them is not above; `None` without any.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        self.0.quantile(quantile).map(Duration::from_secs_f64)
    }
}
