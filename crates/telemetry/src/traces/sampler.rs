//! Decides which spans are kept: plain, the time is an argument.

use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};
use tokio::time::Instant;

/// Failures and slow frames kept per second though their trace is not sampled. A fault of many frames shows
/// in these, and an overloaded daemon does not export every frame.
pub const KEPT_PER_SECOND: u32 = 100;

/// Whether a frame's trace is sampled: the parent's decision, else that of `root`.
pub fn is_sampled(root: &Sampler, parent: Option<&SpanContext>, trace_id: TraceId) -> bool {
    let root = || root.should_sample(None, trace_id, "", &SpanKind::Consumer, &[], &[]).decision;
    parent.map_or_else(|| root() == SamplingDecision::RecordAndSample, SpanContext::is_sampled)
}

/// Lets a number of frames through per second.
#[derive(Debug)]
pub struct Allowance {
    per_second: u32,
    since: Instant,
    used: u32,
}

impl Allowance {
    /// An allowance from `now` on.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, since: now, used: 0 }
    }

    /// Whether one more is let through.
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
    use opentelemetry::trace::{TraceFlags, TraceState};
    use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

    use super::*;

    #[test]
    fn the_parent_decides_else_the_ratio_does() {
        let parent = |flags| SpanContext::new(1.into(), 1.into(), flags, true, TraceState::NONE);
        assert!(is_sampled(&Sampler::TraceIdRatioBased(0.0), Some(&parent(TraceFlags::SAMPLED)), 1.into()));
        assert!(!is_sampled(
            &Sampler::TraceIdRatioBased(1.0),
            Some(&parent(TraceFlags::NOT_SAMPLED)),
            1.into()
        ));
        let ids = RandomIdGenerator::default();
        for share in [0.0, 0.01, 0.5, 1.0] {
            let root = Sampler::TraceIdRatioBased(share);
            let sampled = (0..20_000).filter(|_| is_sampled(&root, None, ids.new_trace_id())).count() as f64;
            assert!(
                (sampled - 20_000.0 * share).abs() <= 5.0 * (20_000.0 * share * (1.0 - share)).sqrt(),
                "{share}: {sampled}"
            );
        }
    }

    #[test]
    fn the_allowance_per_second_is_kept() {
        let start = Instant::now();
        let mut allowance = Allowance::new(2, start);
        let taken: Vec<_> = [0, 1, 2, 999, 1000, 1500, 1999]
            .map(|ms| allowance.take(start + Duration::from_millis(ms)))
            .into();
        assert_eq!(taken, [true, true, false, false, true, true, false]);
    }
}
