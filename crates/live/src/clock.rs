//! When samples were taken that come with delays.

use jiff::{SignedDuration, Timestamp};

/// Time over which the shortest delay is looked for, seconds of samples. Longer, and the clock of the radio
/// drifts; shorter, and delays of buffers show.
const WINDOW: f64 = 5.0;

/// Estimates when samples were taken, from when they came.
///
/// Samples come after they were taken, by delays that vary: of buffers, of a busy machine. The sample that
/// came with the shortest delay says best when the first one was taken, so that is looked for over the last
/// five to ten seconds of samples. Thus the time follows a radio whose clock drifts, a wall clock that is
/// set, and samples that were lost on the way without a word; what remains is the shortest delay itself.
#[derive(Debug)]
pub struct SampleClock {
    /// Samples per second, Hz.
    rate: f64,
    /// Samples so far.
    count: u64,
    /// The earliest estimates of when sample 0 was taken, in this window and the one before.
    current: Option<Timestamp>,
    previous: Option<Timestamp>,
    /// Where the current window ends.
    window_end: u64,
}

impl SampleClock {
    /// No sample has come; `rate` in Hz, over 0.
    pub fn new(rate: f64) -> Self {
        let window_end = (WINDOW * rate) as u64;
        Self { rate, count: 0, current: None, previous: None, window_end }
    }

    /// So many more samples have come, at `now`.
    pub fn received(&mut self, samples: u64, now: Timestamp) {
        self.count += samples;
        if self.count >= self.window_end {
            self.window_end = self.count + (WINDOW * self.rate) as u64;
            self.previous = self.current.take();
        }
        // As if the last of them was taken now.
        let Ok(estimate) = now.checked_sub(self.time_of(self.count)) else { return };
        self.current = Some(self.current.map_or(estimate, |current| current.min(estimate)));
    }

    /// When a sample was taken. `None` before any has come.
    pub fn at(&self, sample: u64) -> Option<Timestamp> {
        let start = [self.current, self.previous].into_iter().flatten().min()?;
        start.checked_add(self.time_of(sample)).ok()
    }

    fn time_of(&self, samples: u64) -> SignedDuration {
        SignedDuration::from_nanos((samples as f64 * 1e9 / self.rate).round() as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: f64 = 1e6;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn after(seconds: f64) -> Timestamp {
        start() + SignedDuration::from_nanos((seconds * 1e9).round() as i64)
    }

    /// Seconds that the clock is behind the truth for its latest sample, after blocks of 10 ms of a radio
    /// whose rate is `1 + drift` times the nominal one; `delay` of the n-th block, seconds.
    fn error(drift: f64, blocks: u64, lost: u64, delay: impl Fn(u64) -> f64) -> f64 {
        let mut clock = SampleClock::new(RATE);
        let actual = RATE * (1.0 + drift);
        let (mut taken, mut error) = (0u64, 0.0);
        for block in 0..blocks {
            taken += 10_000;
            if block == blocks / 2 {
                taken += lost;
            }
            clock.received(10_000, after(taken as f64 / actual + delay(block)));
            let estimate = clock.at(clock.count).unwrap();
            error = estimate.duration_since(after(taken as f64 / actual)).as_secs_f64();
        }
        error
    }

    #[test]
    fn the_shortest_delay_counts() {
        let delays = |block: u64| if block % 50 == 7 { 0.002 } else { 0.002 + 0.05 * (block % 9) as f64 };
        assert!((error(0.0, 3000, 0, delays) - 0.002).abs() < 1e-6);
    }

    #[test]
    fn drift_and_lost_samples_are_followed() {
        for drift in [-100e-6, 100e-6] {
            // Of ten seconds at most.
            assert!(error(drift, 20_000, 0, |_| 0.0).abs() <= 1.01e-3, "{drift}");
        }
        // A tenth of a second is missing; ten seconds later nothing is left of it.
        assert!(error(0.0, 2500, 100_000, |_| 0.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_known_before_the_first_sample_and_a_file_is_not_of_the_future() {
        let mut clock = SampleClock::new(RATE);
        assert_eq!(clock.at(0), None);
        // All at once: the last sample is of now at the latest.
        for _ in 0..100 {
            clock.received(1_000_000, start());
            assert_eq!(clock.at(clock.count), Some(start()));
        }
    }

    proptest! {
        #[test]
        fn no_time_is_before_the_truth_nor_after_it_came(
            delays in prop::collection::vec(0.0..0.2f64, 1..200),
        ) {
            let mut clock = SampleClock::new(RATE);
            for (block, delay) in delays.iter().enumerate() {
                let taken = 0.01 * (block + 1) as f64;
                clock.received(10_000, after(taken + delay));
                let estimate = clock.at(clock.count).unwrap();
                prop_assert!(estimate >= after(taken - 1e-8) && estimate <= after(taken + delay + 1e-8));
            }
        }
    }
}
