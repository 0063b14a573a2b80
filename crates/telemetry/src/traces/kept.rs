//! Which frames have spans.

use opentelemetry::trace::{SpanContext, SpanId, TraceId};

/// Why a frame's spans are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its trace is sampled.
    Sampled,
    /// It failed.
    Failed,
    /// It took longer than `telemetry.slow_frame`.
    Slow,
    /// Its outcome could not be published.
    Lost,
}

/// The decision about a frame before its outcome is published.
#[derive(Debug)]
pub struct Begun {
    /// The sender's span.
    pub(super) parent: Option<SpanContext>,
    pub(super) trace_id: TraceId,
    /// The span of the frame, parent of the others.
    pub(super) root: SpanId,
    /// The publish span, which the headers of the outcome name.
    pub(super) publish: SpanId,
    pub(super) kept: Option<Kept>,
}
