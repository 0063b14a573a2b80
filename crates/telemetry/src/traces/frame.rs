//! The spans of one frame, from its trail.

use opentelemetry::trace::{SpanContext, SpanId, SpanKind};
use sferic_actors::account::ledger::End;
use sferic_actors::account::trail::Run;
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::PublishError;
use sferic_actors::outcome::{Failure, FailureCode, Outcome};
use tokio::time::Instant;

use super::attributes as names;
use super::context::new_span_id;
use super::kept::{Begun, Kept};
use crate::TraceOptions;
use crate::otlp::spans::{Attribute, Attributes, Fields, Span, Spans, nanoseconds};

/// Every span: its name, kind, parent, and what it covers.
pub const SPANS: &[(&str, &str, &str, &str)] = &[
    (
        "process <prefix>.frames.{source}",
        "consumer",
        "the sender's span, where there is one",
        "the frame, from its arrival until its outcome is published",
    ),
    ("decode", "internal", "the frame", "reading its encoding and selecting its model"),
    ("cache", "internal", "the frame", "waiting for the cache, and its answer"),
    ("features", "internal", "the frame", "computing its features; before it the frame waited for a worker"),
    ("queue", "internal", "the frame", "waiting for a session"),
    (
        "inference",
        "internal",
        "the frame",
        "in a session's run, linked to that run's span; of a batch that failed and was halved there are \
         several",
    ),
    (
        "publish <prefix>.predictions.{source}",
        "producer",
        "the frame",
        "from the outcome until it is published (of a failure: `<prefix>.failures.{source}`); its context \
         is in the outcome's headers",
    ),
    (
        "run",
        "internal",
        "none: a trace of its own",
        "one run of a session, linked to the inference span of every frame in it whose spans are kept",
    ),
];

/// Subjects and span names, composed once.
#[derive(Debug)]
pub struct Names {
    frames: Subject,
    predictions: Subject,
    failures: Subject,
}

#[derive(Debug)]
struct Subject {
    prefix: String,
    /// Name of its span.
    span: String,
    /// Attributes that do not depend on the frame.
    attributes: Attributes,
}

impl Names {
    /// The names for one connection.
    pub fn new(options: &TraceOptions<'_>) -> Self {
        let subject = |operation: &str, kind: &str, of: &str, more: &[Attribute<'_>]| {
            let prefix = format!("{}.{of}.", options.prefix);
            let template = format!("{prefix}{{source}}");
            let mut attributes = vec![
                (names::MESSAGING_SYSTEM, "nats".into()),
                (names::OPERATION_NAME, operation.into()),
                (names::OPERATION_TYPE, kind.into()),
                (names::DESTINATION_TEMPLATE, template.as_str().into()),
            ];
            attributes.extend_from_slice(more);
            Subject {
                span: format!("{operation} {template}"),
                attributes: Attributes::new(&attributes),
                prefix,
            }
        };
        let group = (names::CONSUMER_GROUP, options.queue_group.into());
        Self {
            frames: subject("process", "process", "frames", &[group]),
            predictions: subject("publish", "send", "predictions", &[]),
            failures: subject("publish", "send", "failures", &[]),
        }
    }
}

/// Turns the instants of an outcome's trail into nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    instant: Instant,
    nanoseconds: u64,
}

impl Clock {
    /// Based on the instant at which the outcome was settled, whose wall time is known.
    pub fn new(outcome: &Outcome) -> Self {
        Self { instant: outcome.settled_at, nanoseconds: nanoseconds(outcome.timestamp) }
    }

    /// The wall-clock time of an instant.
    pub fn at(&self, instant: Instant) -> u64 {
        let [later, earlier] = [(instant, self.instant), (self.instant, instant)]
            .map(|(to, from)| to.saturating_duration_since(from).as_nanos() as u64);
        self.nanoseconds + later - earlier
    }
}

/// Writes a frame's spans.
pub struct FrameSpans<'a> {
    names: &'a Names,
    outcome: &'a Outcome,
    begun: &'a Begun,
    trace_state: String,
    clock: Clock,
    publish_error: Option<&'a PublishError>,
    published_at: Instant,
}

impl<'a> FrameSpans<'a> {
    /// The spans of a frame whose outcome was published, or failed to be, at `published_at`.
    pub fn new(
        names: &'a Names,
        outcome: &'a Outcome,
        begun: &'a Begun,
        clock: Clock,
        published: &'a Result<End, PublishError>,
        published_at: Instant,
    ) -> Self {
        let trace_state =
            begun.parent.as_ref().map(|parent| parent.trace_state().header()).unwrap_or_default();
        Self {
            names,
            outcome,
            begun,
            trace_state,
            clock,
            publish_error: published.as_ref().err(),
            published_at,
        }
    }

    /// Writes the inference span of a run with the span `run_span`; `halved`: the batch failed and its frames
    /// were run again.
    pub fn inference(
        &self,
        run: &Run,
        inference: &SpanContext,
        run_span: &SpanContext,
        halved: bool,
        to: &mut Spans,
    ) {
        let ended = run.ended.unwrap_or(self.outcome.settled_at);
        to.push(&self.child("inference", inference.span_id(), run.begun, ended), |span| {
            span.attribute(names::BATCH_SIZE, run.batch_size);
            span.attribute(names::SESSION, run.session);
            span.link(run_span);
            if halved {
                span.error("the batch failed and was halved");
            } else if self.failure().is_some_and(|failure| failure.code == FailureCode::InferenceFailed) {
                span.error("the model failed");
            }
        });
    }

    /// Writes all other spans.
    pub fn finish(&self, to: &mut Spans) {
        let trail = &self.outcome.trail;
        let hit = self.outcome.result.as_ref().is_ok_and(|prediction| prediction.cache_hit);
        self.root(to);
        self.stage("decode", trail.decode_begun, trail.decoded, to, |_| {});
        self.stage("cache", trail.decoded, trail.looked_up, to, |span| span.attribute(names::CACHE_HIT, hit));
        self.stage("features", trail.features_begun, trail.features_ended, to, |_| {});
        // A frame that was answered while queued for a session waited until then.
        let acquired = trail.acquired().unwrap_or(self.outcome.settled_at);
        self.stage("queue", trail.queued, Some(acquired), to, |_| {});
        self.publish(to);
    }

    fn failure(&self) -> Option<&'a Failure> {
        self.outcome.result.as_ref().err()
    }

    fn stage(
        &self,
        name: &str,
        from: Option<Instant>,
        until: Option<Instant>,
        to: &mut Spans,
        rest: impl FnOnce(&mut Fields<'_>),
    ) {
        if let (Some(from), Some(until)) = (from, until) {
            to.push(&self.child(name, new_span_id(), from, until), rest);
        }
    }

    fn child<'b>(&'b self, name: &'b str, span_id: SpanId, from: Instant, until: Instant) -> Span<'b> {
        Span {
            trace_id: self.begun.trace_id,
            span_id,
            trace_state: &self.trace_state,
            parent: Some(self.begun.root),
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name,
            begun: self.clock.at(from),
            ended: self.clock.at(until),
        }
    }

    fn publish(&self, to: &mut Spans) {
        let subject = if self.failure().is_some() { &self.names.failures } else { &self.names.predictions };
        let child = self.child(&subject.span, self.begun.publish, self.outcome.settled_at, self.published_at);
        to.push(&Span { kind: SpanKind::Producer, ..child }, |span| {
            self.messaging(subject, span);
            if let Some(publish_error) = self.publish_error {
                span.attribute(names::ERROR_TYPE, publish_error.reason);
                span.error(&publish_error.message);
            }
        });
    }

    fn root(&self, to: &mut Spans) {
        let (outcome, trail, begun) = (self.outcome, &self.outcome.trail, self.begun);
        let child = self.child(&self.names.frames.span, begun.root, outcome.received_at, self.published_at);
        let parent = begun.parent.as_ref().map(SpanContext::span_id);
        to.push(
            &Span { kind: SpanKind::Consumer, parent, parent_is_remote: parent.is_some(), ..child },
            |span| {
                let code = match (self.publish_error, &outcome.result) {
                    (Some(_), _) => "lost",
                    (None, Ok(_)) => "prediction",
                    (None, Err(failure)) => failure.code.as_str(),
                };
                self.messaging(&self.names.frames, span);
                span.attribute(names::BODY_SIZE, trail.payload_bytes);
                span.attribute(names::SOURCE, outcome.envelope.source.as_str());
                span.attribute(names::OUTCOME, code);
                span.attribute(names::KEPT, begun.kept.map_or("", Kept::as_str));
                if let Some(model) = &trail.model {
                    span.model(model);
                }
                if let Some(datatype) = trail.datatype {
                    span.attribute(names::DATATYPE, datatype.name());
                    span.attribute(names::SAMPLES, trail.samples);
                }
                if let Ok(prediction) = &outcome.result {
                    span.attribute(names::BATCH_SIZE, prediction.batch_size);
                    span.attribute(names::CACHE_HIT, prediction.cache_hit);
                }
                if let Some(failure) = self.failure() {
                    let attributes = [
                        (names::EXCEPTION_TYPE, failure.code.as_str().into()),
                        (names::EXCEPTION_MESSAGE, failure.message.as_str().into()),
                    ];
                    span.event("exception", self.clock.at(outcome.settled_at), &attributes);
                }
                let publish_error =
                    self.publish_error.map(|publish_error| (publish_error.reason, &publish_error.message));
                if let Some((kind, message)) =
                    publish_error.or_else(|| self.failure().map(|failure| (code, &failure.message)))
                {
                    span.attribute(names::ERROR_TYPE, kind);
                    span.error(message);
                }
            },
        );
    }

    fn messaging(&self, subject: &Subject, span: &mut Fields<'_>) {
        span.attributes(&subject.attributes);
        span.attribute(
            names::DESTINATION,
            format!("{}{}", subject.prefix, self.outcome.envelope.source).as_str(),
        );
        span.attribute(names::MESSAGE_ID, self.outcome.info.frame_id.as_str());
    }
}

impl Fields<'_> {
    /// Adds the attributes that name a model.
    pub fn model(&mut self, id: &ModelId) {
        self.attribute(names::MODEL, &*id.name);
        self.attribute(names::MODEL_VERSION, &*id.version);
    }
}

impl Kept {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Failed => "failed",
            Self::Slow => "slow",
            Self::Lost => "lost",
        }
    }
}
