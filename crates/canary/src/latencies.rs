//! Quantiles of times without their list.

use std::time::Duration;

/// Buckets for each doubling: a quantile is within 2.2 percent.
const STEPS: f64 = 32.0;

/// From a microsecond to about a minute and a half; beyond, the ends.
const BUCKETS: usize = 27 * STEPS as usize;

/// A histogram of times in buckets of equal ratio.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let doublings = (time.as_secs_f64() * 1e6).max(1.0).log2();
        let bucket = ((doublings * STEPS) as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The time that a share `quantile` of them is not above; `None` without any.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut sum = 0;
        let bucket = self.counts.iter().position(|count| {
            sum += count;
            sum >= rank
        })?;
        Some(Duration::from_secs_f64(((bucket as f64 + 0.5) / STEPS).exp2() * 1e-6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_their_bucket() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1000).for_each(|n| latencies.add(Duration::from_micros(10 * n)));
        for (quantile, expected_us) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let us = latencies.quantile(quantile).unwrap().as_secs_f64() * 1e6;
            assert!((us / expected_us - 1.0).abs() < 0.03, "{quantile}: {us}");
        }
        latencies.add(Duration::from_secs(3600));
        assert!(latencies.quantile(1.0).unwrap() > Duration::from_secs(60));
    }
}
