//! Exponential backoff with jitter and a limit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use crate::jitter::jitter;
use crate::stages::ActorRole;

/// Counts restarts within a window; each doubles the delay of the same actor's next one.
#[derive(Debug)]
pub struct Backoff {
    config: Config,
    restarts: VecDeque<(Instant, ActorRole)>,
}

impl Backoff {
    /// No restarts yet.
    pub fn new(config: Config) -> Self {
        Self { config, restarts: VecDeque::new() }
    }

    /// Delay before an actor's next restart; `None` when there have been too many, of all actors.
    pub fn next(&mut self, role: ActorRole, now: Instant) -> Option<Duration> {
        while self.restarts.front().is_some_and(|&(first, _)| now - first >= self.config.window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.config.max_restarts {
            return None;
        }
        let of_role = self.restarts.iter().filter(|&&(_, each)| each == role).count();
        let doublings = u32::try_from(of_role).unwrap_or(u32::MAX).min(20);
        self.restarts.push_back((now, role));
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
        let mut next = |role, after| backoff.next(role, start + Duration::from_secs(after));
        let delays: Vec<_> = (0..7).map(|_| next(ActorRole::Cache, 0).unwrap().as_secs_f64()).collect();
        for (n, delay) in delays.iter().enumerate() {
            let full = (0.05 * f64::from(1 << n)).min(5.0);
            assert!((full / 2.0..=full).contains(delay), "delay {n} is {delay}");
        }
        assert!(next(ActorRole::Ingest, 0).unwrap() <= Duration::from_millis(50), "the first of this one");
        assert_eq!((next(ActorRole::Cache, 0), next(ActorRole::Gather, 0)), (None, None));
        assert!(next(ActorRole::Cache, 60).unwrap() <= Duration::from_millis(50));
    }
}
