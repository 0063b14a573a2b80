//! The recent calls.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Number of steps of the window.
const STEPS: usize = 10;

/// Number of calls by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Calls that tell something about the model.
    pub calls: u32,
    /// Failed calls.
    pub failed: u32,
    /// Slow calls.
    pub slow: u32,
}

/// A ring of tallies, one per step of time; the oldest is dropped when a new step begins.
#[derive(Debug)]
pub struct SlidingWindow {
    began: Instant,
    step_ns: u64,
    /// Number of the current step since `began`.
    newest: u64,
    tallies: [Tally; STEPS],
    sum: Tally,
}

impl SlidingWindow {
    /// An empty window of this length.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self {
            began: now,
            step_ns: nanos(length / STEPS as u32).max(1),
            newest: 0,
            tallies: Default::default(),
            sum: Tally::default(),
        }
    }

    /// Counts a call; returns the window.
    pub fn add(&mut self, failed: bool, slow: bool, now: Instant) -> Tally {
        self.turn(now);
        for tally in [&mut self.sum, &mut self.tallies[self.newest as usize % STEPS]] {
            tally.calls += 1;
            tally.failed += u32::from(failed);
            tally.slow += u32::from(slow);
        }
        self.sum
    }

    /// The calls in the window.
    pub fn tally(&mut self, now: Instant) -> Tally {
        self.turn(now);
        self.sum
    }

    /// Removes all calls.
    pub fn clear(&mut self) {
        (self.tallies, self.sum) = Default::default();
    }

    fn turn(&mut self, now: Instant) {
        let step = nanos(now - self.began) / self.step_ns;
        let begun = step.saturating_sub(self.newest).min(STEPS as u64);
        for n in 1..=begun {
            let left = std::mem::take(&mut self.tallies[(self.newest + n) as usize % STEPS]);
            self.sum.calls -= left.calls;
            self.sum.failed -= left.failed;
            self.sum.slow -= left.slow;
        }
        self.newest = self.newest.max(step);
    }
}

/// Enough for five centuries.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_dropped_step_by_step() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut window = SlidingWindow::new(Duration::from_secs(1), began);
        window.add(true, false, at(0));
        window.add(false, true, at(950));
        assert_eq!(window.tally(at(999)), Tally { calls: 2, failed: 1, slow: 1 });
        assert_eq!(window.tally(at(1000)), Tally { calls: 1, failed: 0, slow: 1 }, "the first step has left");
        assert_eq!(window.tally(at(1899)).calls, 1);
        assert_eq!(window.tally(at(1900)), Tally::default());
        window.add(true, true, at(3_600_000));
        assert_eq!(
            window.tally(at(3_600_000)),
            Tally { calls: 1, failed: 1, slow: 1 },
            "however long nothing came"
        );
    }
}
