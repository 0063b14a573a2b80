//! Exponential backoff with jitter and a limit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use crate::jitter::jitter;

/// Counts restarts within a window; each doubles the delay of the next.
#[derive(Debug)]
pub struct Backoff {
    config: Config,
    restarts: VecDeque<Instant>,
}

impl Backoff {
    /// No restarts yet.
    pub fn new(config: Config) -> Self {
        Self { config, restarts: VecDeque::new() }
    }

    /// Delay before the next restart; `None` when there have been too many.
    pub fn next(&mut self, now: Instant) -> Option<Duration> {
        while self.restarts.front().is_some_and(|&first| now - first >= self.config.window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.config.max_restarts {
            return None;
        }
        let doublings = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX).min(20);
        self.restarts.push_back(now);
        let delay = self.config.backoff_min.saturating_mul(1 << doublings).min(self.config.backoff_max);
        Some(delay.mul_f64(0.5 + 0.5 * jitter()))
    }

    /// Why there will be no further restart.
    pub fn exhausted(&self) -> String {
        format!("{} restarts within {:?} are too many", self.config.max_restarts, self.config.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_maximum_then_gives_up_until_the_window_has_passed() {
        let config = Config { max_restarts: 8, ..Config::default() };
        let mut backoff = Backoff::new(config);
        let start = Instant::now();
        let delays: Vec<_> = (0..8).map(|_| backoff.next(start).unwrap().as_secs_f64()).collect();
        for (n, delay) in delays.iter().enumerate() {
            let full = (0.05 * f64::from(1 << n)).min(5.0);
            assert!((full / 2.0..=full).contains(delay), "delay {n} is {delay}");
        }
        assert_eq!(backoff.next(start), None);
        assert!(backoff.next(start + Duration::from_secs(60)).unwrap() <= Duration::from_millis(50));
    }
}
