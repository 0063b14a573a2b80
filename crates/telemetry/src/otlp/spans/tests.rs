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
