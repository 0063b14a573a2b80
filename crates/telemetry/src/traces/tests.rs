//! The spans of outcomes as the collector gets them, beside what it got before: `snapshots/`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sferic_actors::account::trail::{Run, Trail};
use sferic_actors::outcome::Failure;
use sferic_actors::testing::{OutcomeBuilder, assert_snapshot};

use super::*;
use crate::otlp::ExportCounts;
use crate::otlp::spans::{Spans, nanoseconds};

/// Ids are random, so each is shown by its place among those of its kind, from 1.
#[derive(Default)]
struct Numbers(Vec<Vec<u8>>);

impl Numbers {
    fn of(&mut self, id: &[u8]) -> usize {
        let known = self.0.iter().position(|other| other == id);
        known.unwrap_or_else(|| {
            self.0.push(id.to_owned());
            self.0.len() - 1
        }) + 1
    }
}

/// Spans as text, their times in milliseconds since the frame's arrival.
struct Shown {
    text: String,
    arrival: u64,
    traces: Numbers,
    spans: Numbers,
}

impl Shown {
    fn ms(&self, time: u64) -> f64 {
        (time as f64 - self.arrival as f64) / 1e6
    }

    fn line(&mut self, indent: usize, line: &str) {
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn attributes(&mut self, indent: usize, attributes: &[KeyValue]) {
        for KeyValue { key, value, .. } in attributes {
            let Some(AnyValue { value: Some(value) }) = value else { panic!("{key} has no value") };
            let value = match value {
                Value::StringValue(text) => format!("{text:?}"),
                Value::IntValue(number) => number.to_string(),
                Value::BoolValue(flag) => flag.to_string(),
                other => panic!("{key} is {other:?}"),
            };
            self.line(indent, &format!("{key} = {value}"));
        }
    }

    fn span(&mut self, span: &Span) {
        self.line(0, &span.name);
        let (trace, id) = (self.traces.of(&span.trace_id), self.spans.of(&span.span_id));
        let parent = match &span.parent_span_id[..] {
            [] => "no span".to_owned(),
            parent => format!("span {}", self.spans.of(parent)),
        };
        let (kind, flags, state) = (span.kind().as_str_name(), span.flags, &span.trace_state);
        self.line(
            2,
            &format!("{kind}, trace {trace}, span {id} under {parent}, flags {flags:#x}, state {state:?}"),
        );
        let times = [span.start_time_unix_nano, span.end_time_unix_nano].map(|time| self.ms(time));
        self.line(2, &format!("{:.3} to {:.3} ms", times[0], times[1]));
        self.attributes(2, &span.attributes);
        for event in &span.events {
            self.line(2, &format!("event {} at {:.3} ms", event.name, self.ms(event.time_unix_nano)));
            self.attributes(4, &event.attributes);
        }
        for link in &span.links {
            let (trace, id) = (self.traces.of(&link.trace_id), self.spans.of(&link.span_id));
            self.line(2, &format!("link to trace {trace}, span {id}, flags {:#x}", link.flags));
        }
        if let Some(status) = &span.status {
            self.line(2, &format!("{}: {}", status.code().as_str_name(), status.message));
        }
    }
}

/// Compares the spans of an outcome that was published, or failed to be, 2 ms after it was settled.
#[track_caller]
fn assert_spans(name: &str, outcome: OutcomeBuilder, published: &Result<End, PublishError>) {
    let queue = TraceQueue::new(Arc::<ExportCounts>::default());
    let options = TraceOptions {
        sample_ratio: 1.0,
        slow_frame: Duration::from_secs(1),
        prefix: "iq",
        queue_group: "sferic",
    };
    let traces = Traces::new(&options, queue.clone());
    let mut outcome = outcome
        .with(|outcome| {
            let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            outcome.envelope.trace.traceparent = Some(header.to_owned());
            outcome.envelope.trace.tracestate = Some("vendor=1".to_owned());
        })
        .build();
    let begun = traces.begin(&mut outcome).unwrap();
    traces.end(&outcome, begun, published, outcome.settled_at + Duration::from_millis(2));
    let mut spans = Spans::default();
    queue.take(&mut spans);
    let scope = InstrumentationScope::builder("sferic").build();
    let request = ExportTraceServiceRequest::decode(spans.request(&Default::default(), &scope)).unwrap();
    let before = (outcome.settled_at - outcome.received_at).as_nanos() as u64;
    let arrival = nanoseconds(outcome.timestamp) - before;
    let mut shown =
        Shown { text: String::new(), arrival, traces: Numbers::default(), spans: Numbers::default() };
    request.resource_spans[0].scope_spans[0].spans.iter().for_each(|span| shown.span(span));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/traces/snapshots");
    assert_snapshot(folder.join(name), &shown.text);
}

#[test]
fn a_prediction_has_a_span_for_each_stage_and_for_its_run() {
    assert_spans("prediction.txt", OutcomeBuilder::default(), &Ok(End::Prediction));
}

#[test]
fn a_frame_that_was_not_decoded_has_the_spans_it_came_to() {
    let refused = OutcomeBuilder::default()
        .failure(Failure::new(FailureCode::InvalidFrame, "`seq`: not a number"))
        .with(|outcome| outcome.trail = Trail { payload_bytes: 600, ..Trail::default() });
    assert_spans("invalid_frame.txt", refused, &Ok(End::Failure));
}

#[test]
fn a_halved_batch_has_an_inference_span_for_each_run() {
    let halved = OutcomeBuilder::default()
        .failure(Failure::new(FailureCode::InferenceFailed, "the model failed: NaN"))
        .with(|outcome| {
            let earlier = outcome.received_at + Duration::from_millis(10);
            let ended = Some(earlier + Duration::from_millis(4));
            outcome.trail.earlier_runs =
                vec![Run { id: 9, session: 1, batch_size: 2, begun: earlier, ended }];
        });
    assert_spans("halved.txt", halved, &Ok(End::Failure));
}

#[test]
fn a_lost_outcome_has_the_reason_on_the_frame_and_on_its_publication() {
    let lost = PublishError { reason: "refused", message: "Permissions Violation".to_owned() };
    assert_spans("lost.txt", OutcomeBuilder::default(), &Err(lost));
}
