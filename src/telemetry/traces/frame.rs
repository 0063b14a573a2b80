//! One frame's spans, from its trail.

use std::time::UNIX_EPOCH;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};
use sferic_actors::ledger::End;
use sferic_actors::outcome::{Failure, FailureCode, Outcome};
use sferic_actors::ports::Untold;
use sferic_actors::trail::Run;
use tokio::time::Instant;

use super::attributes::{self as names, attribute};
use super::context::{Ids, SpanContext};
use super::{Begun, Kept};
use crate::settings::Nats;

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
    group: String,
    frames: String,
    predictions: String,
    failures: String,
}

impl Names {
    /// Those of one connection.
    pub fn new(nats: &Nats) -> Self {
        let subject = |kind: &str| format!("{}.{kind}.", nats.prefix);
        Self {
            group: nats.queue_group.clone(),
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
    unix_ns: u64,
}

impl Clock {
    /// By the instant at which the outcome was settled, whose wall time is known.
    pub fn new(outcome: &Outcome) -> Self {
        let since = outcome.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: outcome.settled_at, unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Nanoseconds since 1970.
    pub fn at(&self, instant: Instant) -> u64 {
        let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let after = ns(instant.saturating_duration_since(self.instant));
        self.unix_ns.saturating_add(after).saturating_sub(ns(self.instant.saturating_duration_since(instant)))
    }
}

/// A failed span's status.
pub fn error(message: &str) -> Option<Status> {
    Some(Status { message: message.to_owned(), code: StatusCode::Error.into() })
}

/// A link to a span.
pub fn link(to: SpanContext) -> Link {
    Link {
        trace_id: to.trace_id.to_be_bytes().into(),
        span_id: to.span_id.to_be_bytes().into(),
        flags: u32::from(to.sampled) | SpanFlags::ContextHasIsRemoteMask as u32,
        ..Link::default()
    }
}

/// A frame's spans in the making.
pub struct FrameSpans<'a> {
    names: &'a Names,
    outcome: &'a Outcome,
    begun: &'a Begun,
    clock: Clock,
    untold: Option<&'a Untold>,
    told_at: Instant,
    ids: &'a Ids,
    spans: Vec<Span>,
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
        ids: &'a Ids,
    ) -> Self {
        Self { names, outcome, begun, clock, untold: told.as_ref().err(), told_at, ids, spans: Vec::with_capacity(8) }
    }

    /// The frame was in this run, whose span is `run_span`; `halved`: which failed, so that its frames were in further ones.
    pub fn inference(&mut self, run: &Run, inference: SpanContext, run_span: SpanContext, halved: bool) {
        let ended = run.ended.unwrap_or(self.outcome.settled_at);
        let mut span = self.child("inference", inference.span_id, run.begun, ended);
        span.attributes = vec![attribute(names::BATCH_SIZE, run.batch_size), attribute(names::SESSION, run.session)];
        span.links.push(link(run_span));
        let failed = self.failure().is_some_and(|failure| failure.code == FailureCode::InferenceFailed);
        if halved || failed {
            span.status = error(if halved { "the batch failed and was halved" } else { "the model failed" });
        }
        self.spans.push(span);
    }

    /// Adds them all.
    pub fn finish(mut self, to: &mut Vec<Span>) {
        let trail = &self.outcome.trail;
        let run = trail.runs().next().map(|run| run.begun);
        self.stage("decode", trail.decode_begun, trail.decoded, vec![]);
        let hit = self.outcome.result.as_ref().is_ok_and(|prediction| prediction.cache_hit);
        self.stage("cache", trail.decoded, trail.looked_up, vec![attribute(names::CACHE_HIT, hit)]);
        self.stage("features", trail.features_begun, trail.features_ended, vec![]);
        // A frame that was answered while it waited for a session waited until then.
        self.stage("queue", trail.features_ended, Some(run.unwrap_or(self.outcome.settled_at)), vec![]);
        let publish = self.publish();
        let root = self.root();
        to.reserve(self.spans.len() + 2);
        to.push(root);
        to.append(&mut self.spans);
        to.push(publish);
    }

    fn failure(&self) -> Option<&'a Failure> {
        self.outcome.result.as_ref().err()
    }

    fn stage(&mut self, name: &str, from: Option<Instant>, to: Option<Instant>, attributes: Vec<KeyValue>) {
        if let (Some(from), Some(to)) = (from, to) {
            let span = self.child(name, self.ids.span(), from, to);
            self.spans.push(Span { attributes, ..span });
        }
    }

    fn child(&self, name: &str, span_id: u64, from: Instant, to: Instant) -> Span {
        Span {
            trace_id: self.begun.trace_id.to_be_bytes().into(),
            span_id: span_id.to_be_bytes().into(),
            parent_span_id: self.begun.root.to_be_bytes().into(),
            trace_state: self.begun.tracestate.clone().unwrap_or_default(),
            flags: 1 | SpanFlags::ContextHasIsRemoteMask as u32,
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.clock.at(from),
            end_time_unix_nano: self.clock.at(to),
            ..Span::default()
        }
    }

    fn publish(&self) -> Span {
        let subject = if self.failure().is_some() { &self.names.failures } else { &self.names.predictions };
        let name = format!("publish {subject}{{source}}");
        let span = self.child(&name, self.begun.publish, self.outcome.settled_at, self.told_at);
        let mut attributes = self.messaging("publish", "send", subject, 1);
        if let Some(untold) = self.untold {
            attributes.push(attribute(names::ERROR_TYPE, untold.reason));
        }
        Span { attributes, kind: SpanKind::Producer.into(), status: self.untold.and_then(|untold| error(&untold.message)), ..span }
    }

    fn root(&self) -> Span {
        let (outcome, trail) = (self.outcome, &self.outcome.trail);
        let name = format!("process {}{{source}}", self.names.frames);
        let span = self.child(&name, self.begun.root, outcome.received_at, self.told_at);
        let mut attributes = self.messaging("process", "process", &self.names.frames, 12);
        let code = match (self.untold, &outcome.result) {
            (Some(_), _) => "lost",
            (None, Ok(_)) => "prediction",
            (None, Err(failure)) => failure.code.as_str(),
        };
        attributes.push(attribute(names::CONSUMER_GROUP, self.names.group.as_str()));
        attributes.push(attribute(names::BODY_SIZE, trail.payload_bytes));
        attributes.push(attribute(names::SOURCE, outcome.envelope.source.as_str()));
        attributes.push(attribute(names::OUTCOME, code));
        attributes.push(attribute(names::KEPT, self.begun.kept.map_or("", Kept::as_str)));
        if let Some(model) = &trail.model {
            attributes.push(attribute(names::MODEL, model.name.as_str()));
            attributes.push(attribute(names::MODEL_VERSION, model.version.as_str()));
        }
        if let Some(datatype) = trail.datatype {
            attributes.push(attribute(names::DATATYPE, datatype.name()));
            attributes.push(attribute(names::SAMPLES, trail.samples));
        }
        if let Ok(prediction) = &outcome.result {
            attributes.push(attribute(names::BATCH_SIZE, prediction.batch_size));
            attributes.push(attribute(names::CACHE_HIT, prediction.cache_hit));
        }
        let (mut status, mut events) = (None, Vec::new());
        if let Some(untold) = self.untold {
            attributes.push(attribute(names::ERROR_TYPE, untold.reason));
            status = error(&untold.message);
        } else if let Some(failure) = self.failure() {
            attributes.push(attribute(names::ERROR_TYPE, code));
            status = error(&failure.message);
        }
        if let Some(failure) = self.failure() {
            events.push(Event {
                time_unix_nano: self.clock.at(outcome.settled_at),
                name: "exception".into(),
                attributes: vec![
                    attribute(names::EXCEPTION_TYPE, failure.code.as_str()),
                    attribute(names::EXCEPTION_MESSAGE, failure.message.as_str()),
                ],
                ..Event::default()
            });
        }
        let remote = self.begun.parent.map_or(0, |_| SpanFlags::ContextIsRemoteMask as u32);
        Span {
            parent_span_id: self.begun.parent.map(|parent| parent.span_id.to_be_bytes().into()).unwrap_or_default(),
            flags: span.flags | remote,
            kind: SpanKind::Consumer.into(),
            attributes,
            events,
            status,
            ..span
        }
    }

    fn messaging(&self, name: &str, kind: &str, subject: &str, more: usize) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(6 + more);
        attributes.extend([
            attribute(names::MESSAGING_SYSTEM, "nats"),
            attribute(names::OPERATION_NAME, name),
            attribute(names::OPERATION_TYPE, kind),
            attribute(names::DESTINATION, format!("{subject}{}", self.outcome.envelope.source)),
            attribute(names::DESTINATION_TEMPLATE, format!("{subject}{{source}}")),
            attribute(names::MESSAGE_ID, self.outcome.info.frame_id.as_str()),
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
