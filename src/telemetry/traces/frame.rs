//! One frame's spans, from its trail.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sferic_actors::frame::ModelId;
use sferic_actors::ledger::End;
use sferic_actors::outcome::{Failure, FailureCode, Outcome};
use sferic_actors::ports::Untold;
use sferic_actors::trail::Run;
use tokio::time::Instant;

use super::attributes as names;
use super::context::new_span_id;
use super::{Begun, Kept};
use crate::settings::Nats;
use crate::telemetry::otlp;

/// Every span there is: its name, kind, parent, and what it covers.
pub const SPANS: &[(&str, &str, &str, &str)] = &[
    (
        "process <prefix>.frames.{source}",
        "consumer",
        "the sender's span, where there is one",
        "the frame, from its arrival until its outcome is told",
    ),
    ("decode", "internal", "the frame", "reading its encoding and hashing its samples"),
    ("cache", "internal", "the frame", "waiting for the cache, and its answer"),
    ("features", "internal", "the frame", "computing its features; before it the frame waited for a worker"),
    ("queue", "internal", "the frame", "waiting for a session"),
    (
        "inference",
        "internal",
        "the frame",
        "in a session's run, linked to that run's span; of a batch that failed and was halved there are several",
    ),
    (
        "publish <prefix>.predictions.{source}",
        "producer",
        "the frame",
        "from the outcome until it is told (of a failure: `<prefix>.failures.{source}`); its context is in the outcome's headers",
    ),
    (
        "run",
        "internal",
        "none: a trace of its own",
        "one run of a session, linked to the inference span of every frame in it whose spans are kept",
    ),
];

/// Subjects and names, put together once.
#[derive(Debug)]
pub struct Names {
    group: Arc<str>,
    frames: Subject,
    predictions: Subject,
    failures: Subject,
}

#[derive(Debug)]
struct Subject {
    prefix: String,
    /// With `{source}` for the source.
    template: Arc<str>,
}

impl Names {
    /// Those of one connection.
    pub fn new(nats: &Nats) -> Self {
        let subject = |kind: &str| {
            let prefix = format!("{}.{kind}.", nats.prefix);
            Subject { template: format!("{prefix}{{source}}").into(), prefix }
        };
        Self {
            group: nats.queue_group.as_str().into(),
            frames: subject("frames"),
            predictions: subject("predictions"),
            failures: subject("failures"),
        }
    }
}

/// Turns the instants of an outcome's trail into wall time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    instant: Instant,
    time: SystemTime,
}

impl Clock {
    /// By the instant at which the outcome was settled, whose wall time is known.
    pub fn new(outcome: &Outcome) -> Self {
        Self { instant: outcome.settled_at, time: outcome.timestamp }
    }

    /// By the wall clock.
    pub fn at(&self, instant: Instant) -> SystemTime {
        self.time + instant.saturating_duration_since(self.instant) - self.instant.saturating_duration_since(instant)
    }
}

/// A span with nothing to it yet.
pub fn span(context: SpanContext, name: impl Into<Cow<'static, str>>, start_time: SystemTime, end_time: SystemTime) -> SpanData {
    SpanData {
        span_context: context,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time,
        end_time,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: otlp::scope(),
    }
}

/// The attributes that name a model.
pub fn model(id: &ModelId) -> [KeyValue; 2] {
    [KeyValue::new(names::MODEL, id.name.clone()), KeyValue::new(names::MODEL_VERSION, id.version.clone())]
}

/// A frame's spans in the making.
pub struct FrameSpans<'a> {
    names: &'a Names,
    outcome: &'a Outcome,
    begun: &'a Begun,
    clock: Clock,
    untold: Option<&'a Untold>,
    told_at: Instant,
    spans: Vec<SpanData>,
}

impl<'a> FrameSpans<'a> {
    /// None yet.
    pub fn new(
        names: &'a Names,
        outcome: &'a Outcome,
        begun: &'a Begun,
        clock: Clock,
        told: &'a Result<End, Untold>,
        told_at: Instant,
    ) -> Self {
        Self { names, outcome, begun, clock, untold: told.as_ref().err(), told_at, spans: Vec::with_capacity(8) }
    }

    /// The frame was in this run, whose span is `run_span`; `halved`: which failed, so that its frames were in further ones.
    pub fn inference(&mut self, run: &Run, inference: SpanContext, run_span: SpanContext, halved: bool) {
        let ended = run.ended.unwrap_or(self.outcome.settled_at);
        let mut span = self.child("inference", inference, run.begun, ended);
        span.attributes = vec![KeyValue::new(names::BATCH_SIZE, run.batch_size as i64), KeyValue::new(names::SESSION, run.session as i64)];
        span.links.links = vec![Link::with_context(run_span)];
        if halved {
            span.status = Status::error("the batch failed and was halved");
        } else if self.failure().is_some_and(|failure| failure.code == FailureCode::InferenceFailed) {
            span.status = Status::error("the model failed");
        }
        self.spans.push(span);
    }

    /// All of them, the frame's own the first.
    pub fn finish(mut self, to: &mut Vec<SpanData>) {
        let trail = &self.outcome.trail;
        let run = trail.runs().next().map(|run| run.begun);
        self.stage("decode", trail.decode_begun, trail.decoded);
        let hit = self.outcome.result.as_ref().is_ok_and(|prediction| prediction.cache_hit);
        if let Some(cache) = self.stage("cache", trail.decoded, trail.looked_up) {
            cache.attributes = vec![KeyValue::new(names::CACHE_HIT, hit)];
        }
        self.stage("features", trail.features_begun, trail.features_ended);
        // A frame that was answered while it waited for a session waited until then.
        self.stage("queue", trail.features_ended, Some(run.unwrap_or(self.outcome.settled_at)));
        to.reserve(self.spans.len() + 2);
        to.push(self.root());
        to.push(self.publish());
        to.append(&mut self.spans);
    }

    fn failure(&self) -> Option<&'a Failure> {
        self.outcome.result.as_ref().err()
    }

    fn stage(&mut self, name: &'static str, from: Option<Instant>, to: Option<Instant>) -> Option<&mut SpanData> {
        let span = self.child(name, self.begun.context(new_span_id()), from?, to?);
        self.spans.push(span);
        self.spans.last_mut()
    }

    fn child(&self, name: impl Into<Cow<'static, str>>, context: SpanContext, from: Instant, to: Instant) -> SpanData {
        SpanData { parent_span_id: self.begun.root, ..span(context, name, self.clock.at(from), self.clock.at(to)) }
    }

    fn publish(&self) -> SpanData {
        let subject = if self.failure().is_some() { &self.names.failures } else { &self.names.predictions };
        let name = format!("publish {}", subject.template);
        let mut span = self.child(name, self.begun.context(self.begun.publish), self.outcome.settled_at, self.told_at);
        span.span_kind = SpanKind::Producer;
        span.attributes = self.messaging("publish", "send", subject, 1);
        if let Some(untold) = self.untold {
            span.attributes.push(KeyValue::new(names::ERROR_TYPE, untold.reason));
            span.status = Status::error(untold.message.clone());
        }
        span
    }

    fn root(&self) -> SpanData {
        let (outcome, trail, begun) = (self.outcome, &self.outcome.trail, self.begun);
        let name = format!("process {}", self.names.frames.template);
        let mut span = span(begun.context(begun.root), name, self.clock.at(outcome.received_at), self.clock.at(self.told_at));
        span.span_kind = SpanKind::Consumer;
        if let Some(parent) = &begun.parent {
            (span.parent_span_id, span.parent_span_is_remote) = (parent.span_id(), true);
        }
        let code = match (self.untold, &outcome.result) {
            (Some(_), _) => "lost",
            (None, Ok(_)) => "prediction",
            (None, Err(failure)) => failure.code.as_str(),
        };
        span.attributes = self.messaging("process", "process", &self.names.frames, 12);
        span.attributes.extend([
            KeyValue::new(names::CONSUMER_GROUP, Arc::clone(&self.names.group)),
            KeyValue::new(names::BODY_SIZE, trail.payload_bytes as i64),
            KeyValue::new(names::SOURCE, outcome.envelope.source.clone()),
            KeyValue::new(names::OUTCOME, code),
            KeyValue::new(names::KEPT, begun.kept.map_or("", Kept::as_str)),
        ]);
        span.attributes.extend(trail.model.as_deref().into_iter().flat_map(model));
        if let Some(datatype) = trail.datatype {
            span.attributes.push(KeyValue::new(names::DATATYPE, datatype.name()));
            span.attributes.push(KeyValue::new(names::SAMPLES, trail.samples as i64));
        }
        if let Ok(prediction) = &outcome.result {
            span.attributes.push(KeyValue::new(names::BATCH_SIZE, prediction.batch_size as i64));
            span.attributes.push(KeyValue::new(names::CACHE_HIT, prediction.cache_hit));
        }
        if let Some(failure) = self.failure() {
            let attributes = vec![
                KeyValue::new(names::EXCEPTION_TYPE, failure.code.as_str()),
                KeyValue::new(names::EXCEPTION_MESSAGE, failure.message.clone()),
            ];
            span.events.events = vec![Event::new("exception", self.clock.at(outcome.settled_at), attributes, 0)];
        }
        let untold = self.untold.map(|untold| (untold.reason, &untold.message));
        if let Some((kind, message)) = untold.or_else(|| self.failure().map(|failure| (code, &failure.message))) {
            span.attributes.push(KeyValue::new(names::ERROR_TYPE, kind));
            span.status = Status::error(message.clone());
        }
        span
    }

    fn messaging(&self, name: &'static str, kind: &'static str, subject: &Subject, more: usize) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(6 + more);
        attributes.extend([
            KeyValue::new(names::MESSAGING_SYSTEM, "nats"),
            KeyValue::new(names::OPERATION_NAME, name),
            KeyValue::new(names::OPERATION_TYPE, kind),
            KeyValue::new(names::DESTINATION, format!("{}{}", subject.prefix, self.outcome.envelope.source)),
            KeyValue::new(names::DESTINATION_TEMPLATE, Arc::clone(&subject.template)),
            KeyValue::new(names::MESSAGE_ID, self.outcome.info.frame_id.clone()),
        ]);
        attributes
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
