//! Traces: the spans of a frame are written from its trail when its outcome is published, off the data path.
//!
//! Whether they are kept is decided just before, when the outcome is known and its headers are not yet
//! written. So a failure or a slow frame can be kept though its trace is not sampled, and the flag passed on
//! is right.

pub mod attributes;
pub mod context;
mod frame;
mod kept;
mod runs;
mod sampler;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::trace::Sampler;
use sferic_actors::account::ledger::End;
use sferic_actors::outcome::PublishError;
use sferic_actors::outcome::{FailureCode, Outcome};
use tokio::time::Instant;

use self::context::{new_span_id, new_trace_id};
use self::frame::{Clock, FrameSpans};
pub use self::frame::{Names, SPANS};
pub use self::kept::{Begun, Kept};
use self::runs::{FrameInRun, Gathering, Runs};
use self::sampler::{Allowance, KEPT_PER_SECOND, is_sampled};
use super::otlp::{Reservation, TraceQueue};
use crate::TraceOptions;

/// Creates the spans of outcomes and queues them for export.
pub struct Traces {
    names: Names,
    sampler: Sampler,
    slow: Duration,
    allowance: Mutex<Allowance>,
    runs: Mutex<Runs>,
    queue: TraceQueue,
}

impl Begun {
    /// Trace and span of a frame whose spans are kept.
    pub fn exemplar(&self) -> Option<(TraceId, SpanId)> {
        self.kept.map(|_| (self.trace_id, self.root))
    }

    /// The frame's trace, for the log.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// One of its spans.
    fn context(&self, span_id: SpanId) -> SpanContext {
        let state = self.parent.as_ref().map(|parent| parent.trace_state().clone()).unwrap_or_default();
        SpanContext::new(self.trace_id, span_id, TraceFlags::SAMPLED, false, state)
    }
}

impl Traces {
    /// Traces that are queued in `queue`.
    pub fn new(options: &TraceOptions<'_>, queue: TraceQueue) -> Self {
        Self {
            names: Names::new(options),
            sampler: Sampler::TraceIdRatioBased(options.sample_ratio),
            slow: options.slow_frame,
            allowance: Mutex::new(Allowance::new(KEPT_PER_SECOND, Instant::now())),
            runs: Mutex::default(),
            queue,
        }
    }

    /// Decides whether the spans are kept, and puts the trace context into the headers of the outcome. `None`
    /// for an outcome that has crashed the publisher before: its headers are written already.
    pub fn begin(&self, outcome: &mut Outcome) -> Option<Begun> {
        if outcome.published.attempts > 1 {
            return None;
        }
        let headers = &mut outcome.envelope.trace;
        let parent = context::sender(headers);
        let trace_id = parent.as_ref().map_or_else(new_trace_id, SpanContext::trace_id);
        let kept = if is_sampled(&self.sampler, parent.as_ref(), trace_id) {
            Some(Kept::Sampled)
        } else if outcome.result.is_err() {
            self.allowed(Kept::Failed, outcome.settled_at)
        } else if outcome.settled_at.saturating_duration_since(outcome.received_at) >= self.slow {
            self.allowed(Kept::Slow, outcome.settled_at)
        } else {
            None
        };
        let (root, publish) = (new_span_id(), new_span_id());
        if parent.is_none() {
            // `tracestate` without a valid `traceparent` is dropped: it belongs to a trace that is not known.
            headers.tracestate = None;
        }
        // Without spans of this frame, the span of the sender stays the parent.
        if parent.is_none() || kept.is_some() {
            headers.traceparent = Some(context::traceparent(trace_id, publish, kept.is_some()));
        }
        Some(Begun { parent, trace_id, root, publish, kept })
    }

    /// Queues the spans of a frame whose outcome was published or lost, if they are kept, and the span of a
    /// run that it was the last frame of.
    pub fn end(
        &self,
        outcome: &Outcome,
        mut begun: Begun,
        published: &Result<End, PublishError>,
        published_at: Instant,
    ) {
        if published.is_err() && begun.kept.is_none() {
            begun.kept = self.allowed(Kept::Lost, published_at);
        }
        let trail = &outcome.trail;
        let mut reservation = begun.kept.and_then(|_| self.queue.reserve());
        let clock = Clock::new(outcome);
        let frame = reservation
            .is_some()
            .then(|| FrameSpans::new(&self.names, outcome, &begun, clock, published, published_at));
        let mut over = Vec::new();
        let last = trail.runs().count().saturating_sub(1);
        for (index, run) in trail.runs().enumerate() {
            let inference = frame.as_ref().map(|_| begun.context(new_span_id()));
            let halved = index < last;
            let failed = halved
                || outcome.result.as_ref().is_err_and(|failure| failure.code == FailureCode::InferenceFailed);
            let time = [clock.at(run.begun), clock.at(run.ended.unwrap_or(outcome.settled_at))];
            let joining = FrameInRun {
                run,
                model: trail.model.as_ref(),
                time,
                failed,
                inference: inference.clone(),
                now: published_at,
            };
            let (context, ended) = self.runs().join(&joining);
            over.extend(ended);
            if let (Some(frame), Some(reservation), Some(inference)) = (&frame, &mut reservation, &inference)
            {
                frame.inference(run, inference, &context, halved, reservation);
            }
        }
        if let (Some(frame), Some(reservation)) = (frame, &mut reservation) {
            frame.finish(reservation);
        }
        self.queue_runs(&over, reservation);
    }

    /// Queues the spans of incomplete runs; called at shutdown.
    pub fn flush(&self) {
        let runs: Vec<_> = self.runs().drain().collect();
        self.queue_runs(&runs, None);
    }

    /// Queues the spans of these runs, in the reservation of a frame if it has one.
    fn queue_runs(&self, runs: &[Gathering], reservation: Option<Reservation<'_>>) {
        if !runs.is_empty()
            && let Some(mut reservation) = reservation.or_else(|| self.queue.reserve())
        {
            runs.iter().for_each(|run| run.write(&mut reservation));
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
