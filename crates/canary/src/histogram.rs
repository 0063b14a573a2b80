//! Quantiles of numbers without their list.

/// Buckets for each doubling: a quantile is within 2.2 percent.
const STEPS: f64 = 32.0;

/// A factor of 134 million above the least; beyond, the ends.
const BUCKETS: usize = 27 * STEPS as usize;

/// A histogram of numbers of one unit in buckets of equal ratio.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// What is smaller counts as this.
    least: f64,
    counts: Vec<u64>,
    total: u64,
    sum: f64,
}

impl Histogram {
    /// An empty one, of numbers from `least` on.
    pub fn new(least: f64) -> Self {
        Self { least, counts: vec![0; BUCKETS], total: 0, sum: 0.0 }
    }

    /// Adds one.
    pub fn add(&mut self, value: f64) {
        let doublings = (value / self.least).max(1.0).log2();
        let bucket = ((doublings * STEPS) as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum += value;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Their mean; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.total > 0).then(|| self.sum / self.total as f64)
    }

    /// The number that a share `quantile` of them is not above; `None` without any.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = (quantile * self.total as f64).ceil().max(1.0) as u64;
        let mut sum = 0;
        let bucket = self.counts.iter().position(|count| {
            sum += count;
            sum >= rank
        })?;
        Some(((bucket as f64 + 0.5) / STEPS).exp2() * self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_their_bucket() {
        let mut histogram = Histogram::new(1e-6);
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (None, None));
        (1..=1000).for_each(|n| histogram.add(f64::from(n) * 1e-5));
        for (quantile, expected) in [(0.5, 5e-3), (0.99, 9.9e-3), (1.0, 1e-2)] {
            let value = histogram.quantile(quantile).unwrap();
            assert!((value / expected - 1.0).abs() < 0.03, "{quantile}: {value}");
        }
        assert!((histogram.mean().unwrap() - 5.005e-3).abs() < 1e-9);
        histogram.add(3600.0);
        assert!(histogram.quantile(1.0).unwrap() > 60.0);
    }
}
