//! Traces: a frame's spans are made from its trail when its outcome is told, off the frame's way.
//!
//! Whether they are kept is decided just before, when the outcome is known and its headers are not yet written: so a failure or a slow
//! frame can be kept though its trace is not sampled, and the flag that is passed on still says what is true.

pub mod attributes;
pub mod context;
mod frame;
mod runs;
mod sampler;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use sferic_actors::ledger::End;
use sferic_actors::outcome::{FailureCode, Outcome};
use sferic_actors::ports::Untold;
use tokio::time::Instant;

use self::context::{Ids, SpanContext};
use self::frame::{Clock, FrameSpans};
pub use self::frame::{Names, SPANS};
use self::runs::{Joining, Runs};
use self::sampler::{Allowance, KEPT_PER_SECOND, Ratio};
use super::otlp::TraceQueue;
use crate::settings::Settings;

/// Makes spans of outcomes and queues them for export.
pub struct Traces {
    names: Names,
    ratio: Ratio,
    slow: Duration,
    ids: Ids,
    allowance: Mutex<Allowance>,
    runs: Mutex<Runs>,
    queue: TraceQueue,
}

/// Why a frame's spans are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its trace is sampled.
    Sampled,
    /// It failed.
    Failed,
    /// It took longer than `telemetry.slow_frame`.
    Slow,
    /// Its outcome could not be told.
    Lost,
}

/// What was decided of a frame before its outcome was told.
#[derive(Debug)]
pub struct Begun {
    /// The sender's span.
    parent: Option<SpanContext>,
    tracestate: Option<String>,
    trace_id: u128,
    /// The frame's own span, under which the others are.
    root: u64,
    /// The span that tells its outcome; what its headers say.
    publish: u64,
    kept: Option<Kept>,
}

impl Begun {
    /// Trace and span of a frame whose spans are kept.
    pub fn exemplar(&self) -> Option<(u128, u64)> {
        self.kept.map(|_| (self.trace_id, self.root))
    }

    /// The frame's trace, for the log.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }
}

impl Traces {
    /// Traces that end in `queue`.
    pub fn new(settings: &Settings, queue: TraceQueue) -> Self {
        Self {
            names: Names::new(&settings.nats),
            ratio: Ratio::new(settings.telemetry.sample_ratio),
            slow: settings.telemetry.slow_frame,
            ids: Ids::default(),
            allowance: Mutex::new(Allowance::new(KEPT_PER_SECOND, Instant::now())),
            runs: Mutex::default(),
            queue,
        }
    }

    /// Decides whether the frame's spans are kept, and puts its context into the headers of its outcome. Where a publisher has died of
    /// it before, its headers stand already, and of its spans nothing is told.
    pub fn begin(&self, outcome: &mut Outcome) -> Option<Begun> {
        if outcome.told.attempts > 1 {
            return None;
        }
        let headers = &mut outcome.envelope.trace;
        let parent = headers.traceparent.as_deref().and_then(SpanContext::parse);
        let trace_id = parent.map_or_else(|| self.ids.trace(), |parent| parent.trace_id);
        let kept = if self.ratio.samples(parent, trace_id) {
            Some(Kept::Sampled)
        } else if outcome.result.is_err() {
            self.allowed(Kept::Failed, outcome.settled_at)
        } else if outcome.settled_at.saturating_duration_since(outcome.received_at) >= self.slow {
            self.allowed(Kept::Slow, outcome.settled_at)
        } else {
            None
        };
        let (root, publish) = (self.ids.span(), self.ids.span());
        if parent.is_none() {
            // The state belongs to the trace that the other header did not name.
            headers.tracestate = None;
        }
        // Of a frame whose spans are not kept, the sender's span stays the one to hang on to.
        if parent.is_none() || kept.is_some() {
            headers.traceparent = Some(SpanContext { trace_id, span_id: publish, sampled: kept.is_some() }.traceparent());
        }
        Some(Begun { parent, tracestate: headers.tracestate.clone(), trace_id, root, publish, kept })
    }

    /// The outcome was told, or could not be: queues the frame's spans where they are kept, and that of a run it was the last of.
    pub fn end(&self, outcome: &Outcome, mut begun: Begun, told: &Result<End, Untold>, told_at: Instant) {
        if told.is_err() && begun.kept.is_none() {
            begun.kept = self.allowed(Kept::Lost, told_at);
        }
        let trail = &outcome.trail;
        let place = begun.kept.and_then(|_| self.queue.reserve());
        let clock = Clock::new(outcome);
        let mut spans: Vec<Span> = Vec::new();
        let mut frame = place.is_some().then(|| FrameSpans::new(&self.names, outcome, &begun, clock, told, told_at, &self.ids));
        let last = trail.runs().count().saturating_sub(1);
        for (index, run) in trail.runs().enumerate() {
            let inference = frame.as_ref().map(|_| SpanContext { trace_id: begun.trace_id, span_id: self.ids.span(), sampled: true });
            let halved = index < last;
            let failed = halved || outcome.result.as_ref().is_err_and(|failure| failure.code == FailureCode::InferenceFailed);
            let time = [clock.at(run.begun), clock.at(run.ended.unwrap_or(outcome.settled_at))];
            let joining = Joining { run, model: trail.model.as_ref(), time, failed, inference, now: told_at };
            let (context, over) = self.runs().join(&joining, &self.ids);
            if let (Some(frame), Some(inference)) = (&mut frame, inference) {
                frame.inference(run, inference, context, halved);
            }
            spans.extend(over);
        }
        if let Some(frame) = frame {
            frame.finish(&mut spans);
        }
        match place {
            Some(place) => place.send(spans),
            None if !spans.is_empty() => self.queue.send(spans),
            None => {}
        }
    }

    /// Queues what is known of runs whose frames are not all told; at the end.
    pub fn flush(&self) {
        let spans: Vec<_> = self.runs().drain().collect();
        if !spans.is_empty() {
            self.queue.send(spans);
        }
    }

    fn allowed(&self, kept: Kept, now: Instant) -> Option<Kept> {
        let allowed = self.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if !allowed {
            self.queue.count_limited();
        }
        allowed.then_some(kept)
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
