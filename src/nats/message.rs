//! The messages that carry outcomes.

use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use sferic_actors::outcome::{Failure, Outcome, PublishError};
use sferic_wire as wire;

/// Passes a message to the client. An ended client is no error here: the flush reports it.
pub async fn publish(
    client: &Client,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<(), PublishError> {
    match client.publish_with_headers(subject, headers, payload).await {
        Err(error) if error.kind() != PublishErrorKind::Send => {
            Err(publish_error("not_published", error.to_string()))
        }
        _ => Ok(()),
    }
}

/// An error with its metric label and its text.
pub fn publish_error(reason: &'static str, message: String) -> PublishError {
    PublishError { reason, message }
}

/// Headers of an outcome.
pub fn headers(outcome: &Outcome) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", wire::content_type(outcome.envelope.encoding));
    let id = outcome.envelope.delivery.as_ref().map_or(&outcome.info.frame_id, |delivery| &delivery.id);
    headers.insert("Nats-Msg-Id", id.as_str());
    let trace = &outcome.envelope.trace;
    for (name, value) in
        [("traceparent", &trace.traceparent), ("tracestate", &trace.tracestate), ("baggage", &trace.baggage)]
    {
        if let Some(value) = value {
            headers.insert(name, value.as_str());
        }
    }
    headers
}

/// Adds the headers of a NATS service error, which a reply has.
pub fn with_service_error(mut headers: HeaderMap, failure: Option<&Failure>) -> HeaderMap {
    if let Some(failure) = failure {
        headers.insert("Nats-Service-Error-Code", failure.code.service_code().to_string());
        // A header is one line.
        headers.insert("Nats-Service-Error", failure.message.replace(['\r', '\n'], " "));
    }
    headers
}

/// Size of the headers on the wire: `NATS/1.0`, then `name: value` per line, and an empty line.
pub fn headers_size(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| name.to_string().len() + value.as_str().len() + 4)
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}
