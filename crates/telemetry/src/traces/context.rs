//! W3C trace context. The propagator of OpenTelemetry accepts ids that are too short, so headers are parsed
//! here by the standard.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use sferic_actors::frame::TraceHeaders;

/// The sender's span; `None` where the headers name none.
pub fn sender(headers: &TraceHeaders) -> Option<SpanContext> {
    let mut parts = headers.traceparent.as_deref()?.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits| {
        let good = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| u128::from_str_radix(text, 16).ok()).flatten()
    };
    let version = hex(version, 2)?;
    // Of a later version the known part is read and the rest ignored; this version has no rest.
    if version == 0xff || version == 0 && parts.next().is_some() {
        return None;
    }
    let (trace_id, span_id) = (TraceId::from(hex(trace_id, 32)?), SpanId::from(hex(span_id, 16)? as u64));
    let flags = TraceFlags::new(hex(flags, 2)? as u8) & TraceFlags::SAMPLED;
    let state = headers.tracestate.as_deref().and_then(|state| state.parse().ok()).unwrap_or_default();
    Some(SpanContext::new(trace_id, span_id, flags, true, state)).filter(SpanContext::is_valid)
}

/// The `traceparent` header of a span.
pub fn traceparent(trace_id: TraceId, span_id: SpanId, sampled: bool) -> String {
    format!("00-{trace_id}-{span_id}-{:02x}", u8::from(sampled))
}

/// The id of a new trace.
pub fn new_trace_id() -> TraceId {
    RandomIdGenerator::default().new_trace_id()
}

/// The id of a new span.
pub fn new_span_id() -> SpanId {
    RandomIdGenerator::default().new_span_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_standard_has_it() {
        let read = |header: &str| {
            sender(&TraceHeaders {
                traceparent: Some(header.into()),
                tracestate: Some("a=1,b=2".into()),
                ..TraceHeaders::default()
            })
        };
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = read(header).unwrap();
        assert_eq!(context.trace_id(), TraceId::from(0x0af7651916cd43dd8448eb211c80319c));
        assert_eq!(context.span_id(), SpanId::from(0xb7ad6b7169203331));
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_state().header(), "a=1,b=2");
        assert_eq!(traceparent(context.trace_id(), context.span_id(), true), header);
        assert!(
            read(&header.replace("00-", "cc-").replace("-01", "-01-more")).is_some(),
            "a version to come"
        );
        assert!(!read(&header.replace("-01", "-02")).unwrap().is_sampled());
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920é-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
