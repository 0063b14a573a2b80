//! Which frames' spans are kept: plain, told the time.

use std::time::Duration;

use tokio::time::Instant;

use super::context::SpanContext;

/// Failures and slow frames that are kept a second though their trace is not sampled. What is wrong with many frames is wrong with
/// these too, and a daemon that is overloaded does not burden itself with telling of every frame.
pub const KEPT_PER_SECOND: u32 = 100;

/// The share of new traces that are sampled.
#[derive(Debug, Clone, Copy)]
pub struct Ratio(u64);

impl Ratio {
    /// From 0 to 1.
    pub fn new(share: f64) -> Self {
        // Converting saturates: all bits for 1.
        Self((share * 2f64.powi(64)) as u64)
    }

    /// The parent's decision, else the share's by the trace's id, so that every daemon decides alike.
    pub fn samples(self, parent: Option<SpanContext>, trace_id: u128) -> bool {
        parent.map_or_else(|| self.0 == u64::MAX || (trace_id as u64) < self.0, |parent| parent.sampled)
    }
}

/// Lets so many through in a second, and counts the others.
#[derive(Debug)]
pub struct Allowance {
    per_second: u32,
    since: Instant,
    used: u32,
}

impl Allowance {
    /// From `now` on.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, since: now, used: 0 }
    }

    /// Whether one more goes through.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.used) = (now, 0);
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_decides_else_the_ratio_does() {
        let parent = |sampled| Some(SpanContext { trace_id: 1, span_id: 1, sampled });
        assert!(Ratio::new(0.0).samples(parent(true), 1));
        assert!(!Ratio::new(1.0).samples(parent(false), 1));
        let ids = super::super::context::Ids::default();
        for share in [0.0, 0.01, 0.5, 1.0] {
            let sampled = (0..20_000).filter(|_| Ratio::new(share).samples(None, ids.trace())).count() as f64;
            assert!((sampled - 20_000.0 * share).abs() <= 5.0 * (20_000.0 * share * (1.0 - share)).sqrt(), "{share}: {sampled}");
        }
    }

    #[test]
    fn so_many_a_second_and_no_more() {
        let start = Instant::now();
        let mut allowance = Allowance::new(2, start);
        let taken: Vec<_> = [0, 1, 2, 999, 1000, 1500, 1999].map(|ms| allowance.take(start + Duration::from_millis(ms))).into();
        assert_eq!(taken, [true, true, false, false, true, true, false]);
    }
}
