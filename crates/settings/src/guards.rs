//! The sections that protect the daemon: breaker, limits, buffers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sferic_actors::breaker::{self, LONGEST_OPEN_FOR};
use sferic_samples::{Number, units};

use super::check::Check;

/// The longest `breaker.window`.
const LONGEST_WINDOW: Duration = Duration::from_secs(60 * 60);

/// Circuit breaker of failing models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Breaker {
    /// Failures in a row that open the circuit.
    pub failure_threshold: u32,
    /// Share of failed calls in the window that opens it; 0: off.
    pub failure_share: f64,
    /// Share of slow calls in the window that opens it; 0: off.
    pub slow_share: f64,
    /// Run time from which on a run is slow.
    #[serde(with = "units::duration")]
    pub slow_call: Duration,
    /// Length of the window of the shares.
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// Minimum number of calls in the window to evaluate a share.
    pub min_calls: u32,
    /// Time it stays open, before a jitter of at most 20 %.
    #[serde(with = "units::duration")]
    pub open_for: Duration,
    /// Probes that must succeed to close it again.
    pub success_threshold: u32,
    /// Stop reading frames while every circuit is open and another member of the queue group is healthy.
    pub pause_input: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        let breaker::Config {
            failure_threshold,
            failure_share,
            slow_share,
            slow_call,
            window,
            min_calls,
            open_for,
            success_threshold,
        } = breaker::Config::default();
        Self {
            failure_threshold,
            failure_share,
            slow_share,
            slow_call,
            window,
            min_calls,
            open_for,
            success_threshold,
            pause_input: false,
        }
    }
}

impl Breaker {
    pub(super) fn validate(&self, check: &mut Check) {
        check.at_least("failure_threshold", self.failure_threshold, 1);
        check.share("failure_share", self.failure_share);
        check.share("slow_share", self.slow_share);
        check.positive("slow_call", self.slow_call);
        check.positive("window", self.window);
        check.at_most("window", self.window, LONGEST_WINDOW);
        check.at_least("min_calls", self.min_calls, 1);
        check.positive("open_for", self.open_for);
        check.at_most("open_for", self.open_for, LONGEST_OPEN_FOR);
        check.at_least("success_threshold", self.success_threshold, 1);
    }
}

/// Bounds of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Limits {
    /// Frames in the pipeline at once.
    pub in_flight_frames: usize,
    /// Bytes of frames in the pipeline at once.
    #[serde(with = "units::size")]
    pub in_flight_bytes: u64,
    /// Samples per channel in one frame.
    pub frame_samples: usize,
    /// The time budget of a frame that states none, from its arrival.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// The longest budget a frame may ask for.
    #[serde(with = "units::duration")]
    pub max_timeout: Duration,
    /// Share of the frames in flight that one source may hold; 1: off.
    pub per_source_share: f64,
    /// Which frame is refused or shed when the pipeline is full.
    pub when_full: WhenFull,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_frames: 256,
            in_flight_bytes: 256 << 20,
            frame_samples: 1 << 20,
            timeout: Duration::from_millis(500),
            max_timeout: Duration::from_secs(60),
            per_source_share: 1.0,
            when_full: WhenFull::Reject,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, check: &mut Check) {
        check.at_least("in_flight_frames", self.in_flight_frames, 1);
        check.at_least("in_flight_bytes", self.in_flight_bytes, 1);
        check.at_least("frame_samples", self.frame_samples, 1);
        check.positive("timeout", self.timeout);
        check.not_above("timeout", self.timeout, "max_timeout", self.max_timeout);
        let share = self.per_source_share;
        check.rule(
            share > 0.0 && share <= 1.0,
            "per_source_share",
            format_args!("is {}, must be above 0 and at most 1", Number(share)),
        );
    }
}

/// Which frame is refused or shed when the pipeline is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The arriving frame.
    #[default]
    Reject,
    /// The oldest waiting frame of the lowest priority not above the arriving one's.
    ShedOldest,
}

/// The pool that lends tensors to frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Buffers {
    /// How long an idle tensor is kept.
    #[serde(with = "units::duration")]
    pub ttl: Duration,
    /// Bytes of pooled tensors, lent and idle.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300), max_bytes: 100 << 20 }
    }
}

impl Buffers {
    pub(super) fn validate(&self, check: &mut Check) {
        check.positive("ttl", self.ttl);
        check.at_least("max_bytes", self.max_bytes, 1);
    }
}
