//! Histograms of seconds, with the last sampled frame of each bucket as its exemplar.

use std::time::SystemTime;

use opentelemetry::trace::{SpanId, TraceId};

/// Upper bounds of the buckets, seconds; the last bucket has none. They range from the decoding of a small
/// frame to the longest budget.
pub const SECONDS: [f64; 20] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3,
    500e-3, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// A histogram of durations.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; SECONDS.len() + 1],
    sum: f64,
    exemplars: [Option<Exemplar>; SECONDS.len() + 1],
}

/// A measurement of a frame whose trace is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: f64,
    /// The time of the measurement.
    pub time: SystemTime,
    /// The trace of the frame.
    pub trace_id: TraceId,
    /// The span in it.
    pub span_id: SpanId,
}

impl Histogram {
    /// Counts `seconds`; `of` is the frame's trace and span, where they are kept.
    pub fn record(&mut self, seconds: f64, of: Option<(TraceId, SpanId)>, time: SystemTime) {
        let bucket = SECONDS.partition_point(|&bound| bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
        if let Some((trace_id, span_id)) = of {
            self.exemplars[bucket] = Some(Exemplar { value: seconds, time, trace_id, span_id });
        }
    }

    /// Reads the histogram.
    pub fn read(&self) -> Buckets {
        Buckets {
            bounds: SECONDS.to_vec(),
            counts: self.counts.to_vec(),
            sum: self.sum,
            exemplars: self.exemplars.to_vec(),
        }
    }
}

/// A histogram as it is exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Upper bounds, each within its bucket.
    pub bounds: Vec<f64>,
    /// Counts of each bucket alone; one more than bounds.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
    /// One per bucket, or none at all.
    pub exemplars: Vec<Option<Exemplar>>,
}

impl Buckets {
    /// Counts of whole numbers from 1 on, each with a bucket of its own.
    pub fn of_sizes(counts: &[u64]) -> Self {
        let sizes = || (1..=counts.len()).map(|size| size as f64);
        let sum = sizes().zip(counts).map(|(size, &count)| size * count as f64).sum();
        Self {
            bounds: sizes().collect(),
            counts: counts.iter().copied().chain([0]).collect(),
            sum,
            exemplars: Vec::new(),
        }
    }

    /// The value that a share of all values is at most, from 0 to 1, interpolated within its bucket; `None`
    /// without values, the last bound for values above it.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = share * self.count() as f64;
        let mut before = 0.0;
        for (index, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = count as f64;
            if before + count >= rank {
                let lower = index.checked_sub(1).map_or(0.0, |index| self.bounds[index]);
                let upper = self.bounds.get(index).copied().unwrap_or(lower);
                return Some(lower + (upper - lower) * (rank - before) / count);
            }
            before += count;
        }
        None
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_within_its_bucket_and_the_last_sampled_is_the_example() {
        let mut histogram = Histogram::default();
        let now = SystemTime::now();
        for (seconds, of) in [
            (10e-6, None),
            (10.1e-6, Some((7.into(), 8.into()))),
            (24e-6, Some((9.into(), 1.into()))),
            (61.0, None),
        ] {
            histogram.record(seconds, of, now);
        }
        let read = histogram.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[20], read.count()), (1, 2, 1, 4));
        assert!((read.sum - 61.0000441).abs() < 1e-9);
        assert_eq!(
            read.exemplars[1],
            Some(Exemplar { value: 24e-6, time: now, trace_id: 9.into(), span_id: 1.into() })
        );
        assert_eq!(read.exemplars[0], None);
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let of = |counts: &[u64], share| {
            let (bounds, counts) = (vec![1.0, 2.0, 4.0], counts.to_vec());
            Buckets { bounds, counts, sum: 0.0, exemplars: Vec::new() }.quantile(share)
        };
        assert_eq!(of(&[0; 4], 0.5), None);
        assert_eq!(of(&[4, 0, 0, 0], 0.5), Some(0.5));
        assert_eq!(of(&[5, 0, 5, 0], 0.5), Some(1.0));
        assert_eq!(of(&[5, 0, 5, 0], 0.9), Some(3.6));
        assert_eq!(of(&[0, 0, 0, 3], 0.99), Some(4.0), "no more is known of what is above the last bound");
    }

    #[test]
    fn sizes_have_a_bucket_each() {
        let read = Buckets::of_sizes(&[3, 0, 2]);
        assert_eq!((read.bounds, read.counts, read.sum), (vec![1.0, 2.0, 3.0], vec![3, 0, 2, 0], 9.0));
    }
}
