//! Outcomes to their subject, and to the reply subject of a frame that was sent as a request.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::ledger::End;
use sferic_actors::outcome::{Failure, Outcome};
use sferic_actors::ports::{OutcomeSink, Untold};

use super::Connection;
use crate::wire;

/// Publishes outcomes.
#[derive(Debug)]
pub struct Outcomes {
    connection: Connection,
    predictions: String,
    failures: String,
    bound: Duration,
}

impl Outcomes {
    /// On `<prefix>.predictions.…` and `<prefix>.failures.…`; while the connection is down, outcomes wait for it until it has
    /// been down for `bound`.
    pub fn new(connection: Connection, prefix: &str, bound: Duration) -> Self {
        Self { connection, predictions: format!("{prefix}.predictions."), failures: format!("{prefix}.failures."), bound }
    }

    async fn tell(&self, outcome: &mut Outcome) -> Result<End, Untold> {
        if !self.connection.is_up_within(self.bound).await {
            return Err(untold("connection_down", format!("the connection has been down for {:?}", self.bound)));
        }
        let (payload, headers) = self.encode(outcome).map_err(|error| untold("not_encodable", error.to_string()))?;
        let (end, subject) = match &outcome.result {
            Ok(_) => (End::Prediction, &self.predictions),
            Err(_) => (End::Failure, &self.failures),
        };
        if !outcome.told.subject {
            let subject = format!("{subject}{}", outcome.envelope.source);
            self.publish(subject, headers.clone(), payload.clone()).await?;
            outcome.told.subject = true;
        }
        if let Some(reply_to) = &outcome.envelope.reply_to {
            let headers = with_service_error(headers, outcome.result.as_ref().err());
            self.publish(reply_to.clone(), headers, payload).await?;
        }
        Ok(end)
    }

    /// The message; an outcome larger than the server takes becomes a failure that says so.
    fn encode(&self, outcome: &mut Outcome) -> Result<(Bytes, HeaderMap), wire::EncodeError> {
        wire::within(outcome, self.connection.client.max_payload(), |outcome| {
            let encoded = wire::encode(outcome)?;
            let headers = headers(outcome, encoded.content_type);
            // A failure's reply has headers of its own.
            let largest = match (&outcome.envelope.reply_to, &outcome.result) {
                (Some(_), Err(failure)) => headers_size(&with_service_error(headers.clone(), Some(failure))),
                _ => headers_size(&headers),
            };
            let size = encoded.payload.len() + largest;
            Ok(((encoded.payload.into(), headers), size))
        })
    }

    async fn publish(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<(), Untold> {
        let publishing = self.connection.client.publish_with_headers(subject, headers, payload);
        match tokio::time::timeout(self.bound, publishing).await {
            Ok(result) => result.map_err(|error| untold("not_published", error.to_string())),
            Err(_) => Err(untold("no_room", format!("no room to publish within {:?}", self.bound))),
        }
    }
}

impl OutcomeSink for Outcomes {
    fn publish<'a>(&'a self, outcome: &'a mut Outcome) -> BoxFuture<'a, Result<End, Untold>> {
        self.tell(outcome).boxed()
    }
}

fn untold(reason: &'static str, message: String) -> Untold {
    Untold { reason, message }
}

fn headers(outcome: &Outcome, content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", content_type);
    headers.insert("Nats-Msg-Id", outcome.info.frame_id.as_str());
    let trace = &outcome.envelope.trace;
    for (name, value) in [("traceparent", &trace.traceparent), ("tracestate", &trace.tracestate), ("baggage", &trace.baggage)] {
        if let Some(value) = value {
            headers.insert(name, value.as_str());
        }
    }
    headers
}

fn with_service_error(mut headers: HeaderMap, failure: Option<&Failure>) -> HeaderMap {
    if let Some(failure) = failure {
        headers.insert("Nats-Service-Error-Code", failure.code.service_code().to_string());
        // A header is one line.
        headers.insert("Nats-Service-Error", failure.message.replace(['\r', '\n'], " "));
    }
    headers
}

/// What the headers take on the wire: `NATS/1.0`, then `name: value` per line, and an empty line.
fn headers_size(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| name.to_string().len() + value.as_str().len() + 4));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}
