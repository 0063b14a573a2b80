//! Spans in the encoding of OTLP. A frame has eight with some thirty attributes, so they are encoded directly
//! and never held in another form. Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto` and
//! `common/v1/common.proto`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes};
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceId};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span;
use opentelemetry_proto::tonic::trace::v1::{SpanFlags, status::StatusCode};
use prost::encoding::{WireType, encode_varint, encoded_len_varint, message};

/// The fixed fields of a span.
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The trace state, as in the header `tracestate`.
    pub trace_state: &'a str,
    /// Its parent.
    pub parent: Option<SpanId>,
    /// Whether the parent belongs to another process.
    pub parent_is_remote: bool,
    /// Its kind.
    pub kind: SpanKind,
    /// Its name.
    pub name: &'a str,
    /// Start, nanoseconds since 1970.
    pub begun: u64,
    /// End, nanoseconds since 1970.
    pub ended: u64,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number as i64)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// An attribute.
pub type Attribute<'a> = (&'static str, Value<'a>);

/// Encoded spans, as repeated fields of `ScopeSpans`.
#[derive(Debug, Default)]
pub struct Spans(Vec<u8>);

/// The optional fields of a span.
pub struct Fields<'a>(&'a mut Vec<u8>);

/// Attributes that many spans have, encoded once.
#[derive(Debug)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Encodes these attributes.
    pub fn new(attributes: &[Attribute<'_>]) -> Self {
        let mut written = Vec::new();
        attributes.iter().for_each(|&(name, value)| attribute(&mut written, 9, name, value));
        Self(written)
    }
}

impl Spans {
    /// Their size in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Removes all spans and keeps the buffer.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a span, with the fields that `rest` adds.
    pub fn push(&mut self, span: &Span<'_>, rest: impl FnOnce(&mut Fields<'_>)) {
        nested(&mut self.0, 2, 2, |to| {
            text(to, 1, &span.trace_id.to_bytes());
            text(to, 2, &span.span_id.to_bytes());
            trace_state(to, span.trace_state);
            if let Some(parent) = span.parent {
                text(to, 4, &parent.to_bytes());
            }
            text(to, 5, span.name.as_bytes());
            number(to, 6, span::SpanKind::from(span.kind.clone()) as u64);
            time(to, 7, span.begun);
            time(to, 8, span.ended);
            flags(to, 16, true, span.parent_is_remote);
            rest(&mut Fields(to));
        });
    }

    /// The export request of these spans, with their resource and scope.
    pub fn request(&self, resource: &Resource, scope: &InstrumentationScope) -> Bytes {
        let (mut inner, mut outer, mut request) = (Vec::new(), Vec::new(), Vec::new());
        message::encode(
            1,
            &opentelemetry_proto::tonic::common::v1::InstrumentationScope::from((scope, None)),
            &mut inner,
        );
        message::encode(1, resource, &mut outer);
        length(&mut outer, 2, inner.len() + self.0.len());
        let rest = outer.len() + inner.len() + self.0.len();
        request.reserve_exact(rest + 8);
        length(&mut request, 1, rest);
        for part in [&outer, &inner, &self.0] {
            request.extend_from_slice(part);
        }
        request.into()
    }
}

impl Fields<'_> {
    /// Adds an attribute.
    pub fn attribute<'v>(&mut self, name: &str, value: impl Into<Value<'v>>) {
        attribute(self.0, 9, name, value.into());
    }

    /// Adds encoded attributes.
    pub fn attributes(&mut self, attributes: &Attributes) {
        self.0.extend_from_slice(&attributes.0);
    }

    /// Adds an event, nanoseconds since 1970.
    pub fn event(&mut self, name: &str, at: u64, attributes: &[Attribute<'_>]) {
        nested(self.0, 11, 2, |to| {
            time(to, 1, at);
            text(to, 2, name.as_bytes());
            attributes.iter().for_each(|&(name, value)| attribute(to, 3, name, value));
        });
    }

    /// Adds a link to another span.
    pub fn link(&mut self, context: &SpanContext) {
        nested(self.0, 13, 1, |to| {
            text(to, 1, &context.trace_id().to_bytes());
            text(to, 2, &context.span_id().to_bytes());
            trace_state(to, &context.trace_state().header());
            flags(to, 6, context.is_sampled(), context.is_remote());
        });
    }

    /// Sets the status to an error.
    pub fn error(&mut self, message: &str) {
        nested(self.0, 15, 1, |to| {
            text(to, 2, message.as_bytes());
            number(to, 3, StatusCode::Error as u64);
        });
    }
}

fn attribute(to: &mut Vec<u8>, field: u32, name: &str, value: Value<'_>) {
    let value_length = match value {
        Value::Text(text) => 1 + encoded_len_varint(text.len() as u64) + text.len(),
        Value::Number(number) => 1 + encoded_len_varint(number as u64),
        Value::Flag(_) => 2,
    };
    let name_length = 1 + encoded_len_varint(name.len() as u64) + name.len();
    length(to, field, name_length + 1 + encoded_len_varint(value_length as u64) + value_length);
    text(to, 1, name.as_bytes());
    length(to, 2, value_length);
    match value {
        Value::Text(value) => text(to, 1, value.as_bytes()),
        Value::Flag(flag) => number(to, 2, flag.into()),
        Value::Number(value) => number(to, 3, value as u64),
    }
}

/// Writes a message field, whose length will probably take this many bytes.
fn nested(to: &mut Vec<u8>, field: u32, expected: usize, write: impl FnOnce(&mut Vec<u8>)) {
    key(to, field, WireType::LengthDelimited);
    let at = to.len();
    to.put_bytes(0, expected);
    write(to);
    let mut length = [0; 10];
    let mut unused = &mut length[..];
    encode_varint((to.len() - at - expected) as u64, &mut unused);
    let taken = 10 - unused.len();
    if taken == expected {
        to[at..at + expected].copy_from_slice(&length[..taken]);
    } else {
        to.splice(at..at + expected, length[..taken].iter().copied());
    }
}

/// A field of bytes or text.
fn text(to: &mut Vec<u8>, field: u32, value: &[u8]) {
    length(to, field, value.len());
    to.extend_from_slice(value);
}

/// Writes the trace state of a span or link; most have none.
fn trace_state(to: &mut Vec<u8>, state: &str) {
    if !state.is_empty() {
        text(to, 3, state.as_bytes());
    }
}

/// Writes the head of a field of this many bytes.
fn length(to: &mut Vec<u8>, field: u32, length: usize) {
    key(to, field, WireType::LengthDelimited);
    varint(to, length as u64);
}

fn number(to: &mut Vec<u8>, field: u32, value: u64) {
    key(to, field, WireType::Varint);
    varint(to, value);
}

fn time(to: &mut Vec<u8>, field: u32, nanoseconds: u64) {
    key(to, field, WireType::SixtyFourBit);
    to.put_u64_le(nanoseconds);
}

/// Writes the flags: sampled, and whether the parent (of a link, the span) belongs to another process.
fn flags(to: &mut Vec<u8>, field: u32, is_sampled: bool, is_remote: bool) {
    let remote = if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    key(to, field, WireType::ThirtyTwoBit);
    to.put_u32_le(SpanFlags::ContextHasIsRemoteMask as u32 | remote | u32::from(is_sampled));
}

fn key(to: &mut Vec<u8>, field: u32, kind: WireType) {
    varint(to, (field << 3 | kind as u32).into());
}

fn varint(to: &mut Vec<u8>, value: u64) {
    // Nearly all values are lengths below 128.
    match value {
        0..0x80 => to.push(value as u8),
        _ => encode_varint(value, to),
    }
}

/// Nanoseconds since 1970.
pub fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Event, Link, Status, TraceFlags};
    use opentelemetry_http::{HttpClient, HttpError, Request, Response};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
    use prost::Message;

    use super::*;

    /// Keeps what it is to send.
    #[derive(Debug, Clone, Default)]
    struct Keep(Arc<Mutex<Bytes>>);

    #[tonic::async_trait]
    impl HttpClient for Keep {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            *self.0.lock().unwrap() = request.into_body();
            Ok(Response::new(Bytes::new()))
        }
    }

    fn context(id: u64, is_remote: bool, state: &str) -> SpanContext {
        SpanContext::new(
            TraceId::from(7),
            SpanId::from(id),
            TraceFlags::SAMPLED,
            is_remote,
            state.parse().unwrap(),
        )
    }

    fn plain(name: &'static str, scope: &InstrumentationScope) -> SpanData {
        SpanData {
            span_context: context(1, false, ""),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: UNIX_EPOCH + std::time::Duration::from_nanos(1_700_000_000_000_000_001),
            end_time: UNIX_EPOCH + std::time::Duration::from_nanos(1_700_000_000_000_000_002),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope.clone(),
        }
    }

    /// The same span, with the same more to it.
    fn write(data: &SpanData, to: &mut Spans) {
        let state = data.span_context.trace_state().header();
        let span = Span {
            trace_id: data.span_context.trace_id(),
            span_id: data.span_context.span_id(),
            trace_state: &state,
            parent: Some(data.parent_span_id).filter(|&parent| parent != SpanId::INVALID),
            parent_is_remote: data.parent_span_is_remote,
            kind: data.span_kind.clone(),
            name: &data.name,
            begun: nanoseconds(data.start_time),
            ended: nanoseconds(data.end_time),
        };
        let value = |value: &opentelemetry::Value| match value {
            opentelemetry::Value::Bool(flag) => Value::Flag(*flag),
            opentelemetry::Value::I64(number) => Value::Number(*number),
            opentelemetry::Value::String(text) => Value::Text(text.as_str().to_owned().leak()),
            other => panic!("{other:?}"),
        };
        let pair = |pair: &KeyValue| (&*pair.key.as_str().to_owned().leak(), value(&pair.value));
        to.push(&span, |fields| {
            let (first, rest) = data.attributes.split_at(data.attributes.len() / 2);
            fields.attributes(&Attributes::new(&first.iter().map(pair).collect::<Vec<_>>()));
            rest.iter().map(pair).for_each(|(name, value)| fields.attribute(name, value));
            for event in data.events.iter() {
                let attributes: Vec<_> = event.attributes.iter().map(pair).collect();
                fields.event(&event.name, nanoseconds(event.timestamp), &attributes);
            }
            data.links.iter().for_each(|link| fields.link(&link.span_context));
            if let Status::Error { description } = &data.status {
                fields.error(description);
            }
        });
    }

    #[tokio::test]
    async fn the_encoding_equals_that_of_the_opentelemetry_exporter() {
        let scope = InstrumentationScope::builder("sferic").with_version("1.2").build();
        let resource = opentelemetry_sdk::Resource::builder_empty().with_service_name("sferic").build();
        let long = "x".repeat(20_000);
        let texts = ["", "é", &long[..100], &long[..127], &long[..128], &long];
        let mut full = plain("process iq.frames.{source}", &scope);
        full.span_context = context(u64::MAX, false, "vendor=1,other=2");
        (full.parent_span_id, full.parent_span_is_remote) = (SpanId::from(3), true);
        full.span_kind = SpanKind::Consumer;
        full.attributes = texts.iter().map(|&text| KeyValue::new("sferic.text", text.to_owned())).collect();
        full.attributes
            .extend([0, 1, 127, 128, i64::MAX, -1].map(|number| KeyValue::new("sferic.number", number)));
        full.attributes.extend([true, false].map(|flag| KeyValue::new("sferic.flag", flag)));
        full.events.events = texts
            .iter()
            .map(|&text| {
                Event::new(
                    "exception",
                    full.end_time,
                    vec![KeyValue::new("exception.message", text.to_owned())],
                    0,
                )
            })
            .collect();
        full.links.links = [context(4, true, &format!("vendor={}", &long[..200])), context(5, false, "")]
            .map(Link::with_context)
            .into();
        full.status = Status::error("the run failed");
        let mut producer = plain("publish", &scope);
        (producer.span_kind, producer.status) = (SpanKind::Producer, Status::error(long.clone()));
        let all = [full, producer, plain("decode", &scope)];

        let keep = Keep::default();
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(keep.clone())
            .with_endpoint("http://h/v1/traces")
            .build()
            .unwrap();
        exporter.set_resource(&resource);
        exporter.export(all.to_vec()).await.unwrap();
        let mut spans = Spans::default();
        all.iter().for_each(|data| write(data, &mut spans));

        let theirs = ExportTraceServiceRequest::decode(keep.0.lock().unwrap().clone()).unwrap();
        let mut ours = ExportTraceServiceRequest::decode(spans.request(&(&resource).into(), &scope)).unwrap();
        // It writes a status that says nothing, too.
        for span in ours
            .resource_spans
            .iter_mut()
            .flat_map(|resource| &mut resource.scope_spans)
            .flat_map(|scope| &mut scope.spans)
        {
            span.status.get_or_insert_default();
        }
        assert_eq!(theirs.resource_spans[0].scope_spans[0].spans.len(), 3);
        assert_eq!(ours, theirs);
    }
}
