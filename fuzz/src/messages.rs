//! What comes over NATS: frames, broken frames, headers.

use bytes::Bytes;
use sferic_actors::frame::{Encoding, TraceHeaders};
use sferic_samples::{Datatype, Samples};
use sferic_telemetry::traces::context;
use sferic_wire::{
    FrameInBatch, MAX_BATCH, frame_id_is_valid, read, read_batch, read_source, shortened, to_nanoseconds,
};

/// The first byte says how the rest is encoded.
fn encoded(data: &[u8]) -> Option<(Encoding, &[u8])> {
    let (first, payload) = data.split_first()?;
    Some((if first % 2 == 0 { Encoding::MessagePack } else { Encoding::Json }, payload))
}

/// A frame is read, or refused with a message; what is read of it as a frame and as a broken frame agrees.
pub fn frames(data: &[u8]) {
    let Some((encoding, payload)) = encoded(data) else { return };
    let body = match read(payload, encoding) {
        Ok(body) => body,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let echo = sferic_wire::salvage(payload, encoding);
    assert_eq!(echo.seq, body.seq);
    assert_eq!(echo.session_id, body.session_id);
    assert_eq!(echo.datetime, body.datetime.map(to_nanoseconds));
    assert_eq!(echo.frequency.map(f64::to_bits), body.frequency.map(f64::to_bits));
    let id = body.frame_id.as_ref().map(|id| id.as_str()).filter(|id| frame_id_is_valid(id));
    assert_eq!(echo.frame_id, id.unwrap_or_default());
    let datatype = body.datatype.as_ref().and_then(|name| name.as_str().parse::<Datatype>().ok());
    let channels = usize::try_from(body.num_channels.unwrap_or(1));
    if let (Some(samples), Some(datatype), Ok(channels)) = (&body.samples, datatype, channels)
        && let Ok(samples) = Samples::new(&samples.0, datatype, channels)
    {
        assert!(samples.len() >= 1);
        let _ = samples.check_finite();
    }
}

/// A batch is read or refused with a message; each of its frames is a message of its own.
pub fn batches(data: &[u8]) {
    let Some((encoding, payload)) = encoded(data) else { return };
    let payload = Bytes::copy_from_slice(payload);
    match read_batch(&payload, encoding) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(batch) => {
            assert!((1..=MAX_BATCH).contains(&batch.frames.len()));
            for FrameInBatch { payload, source } in batch.frames {
                // Keys are added before those of the frame, so its own source stands.
                assert_eq!(read_source(&payload, encoding), source);
                let _ = read(&payload, encoding);
            }
        }
    }
}

/// Of a broken frame only what is right is echoed.
pub fn salvage(data: &[u8]) {
    let Some((encoding, payload)) = encoded(data) else { return };
    let echo = sferic_wire::salvage(payload, encoding);
    assert!(echo.frame_id.is_empty() || frame_id_is_valid(&echo.frame_id));
    for text in [echo.session_id, echo.datetime].into_iter().flatten() {
        // An echo of an echo is the same, and a bound of the echo holds, but for the mark of the cut.
        assert_eq!(to_nanoseconds(to_nanoseconds(text.clone())), to_nanoseconds(text.clone()));
        assert!(shortened(&text, 64).len() <= 64 + '…'.len_utf8());
    }
}

/// A sender's span is one that would be written as it was read.
pub fn traceparent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (parent, state) = text.split_once('\n').unwrap_or((text, ""));
    let headers = TraceHeaders {
        traceparent: Some(parent.to_owned()),
        tracestate: Some(state.to_owned()),
        ..TraceHeaders::default()
    };
    let Some(sender) = context::sender(&headers) else { return };
    assert!(sender.is_valid() && sender.is_remote());
    let written = context::traceparent(sender.trace_id(), sender.span_id(), sender.is_sampled());
    assert_eq!(written[3..52], parent[3..52]);
    let headers = TraceHeaders { traceparent: Some(written), ..TraceHeaders::default() };
    let again = context::sender(&headers).expect("what is written is read");
    assert_eq!((again.trace_id(), again.span_id()), (sender.trace_id(), sender.span_id()));
    assert_eq!(again.is_sampled(), sender.is_sampled());
}
