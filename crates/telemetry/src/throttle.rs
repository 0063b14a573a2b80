//! Rate limit for log lines of repeating faults, with the number of suppressed lines.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets one line through per interval.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Lets one line through per `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// The number of lines suppressed since the last one, if this one is to be logged.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_counts_the_suppressed_ones() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let start = Instant::now();
        let passed: Vec<_> =
            [0, 1, 999, 1000, 1001, 5000].map(|ms| throttle.pass(start + Duration::from_millis(ms))).into();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
