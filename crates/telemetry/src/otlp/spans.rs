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
mod tests;
