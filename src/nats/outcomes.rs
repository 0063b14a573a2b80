//! Publishes outcomes on their subject, and passes each to the origin of its frame.

use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::account::ledger::End;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::OutcomeSink;
use sferic_wire as wire;

use super::Connection;
use super::message::{headers, headers_size, publish, publish_error, with_service_error};
use super::permissions::{Asked, Permissions};

/// Number of clients that may end while sending the same outcomes before these count as lost.
const MAX_CLIENTS: usize = 3;

/// Publishes outcomes. An outcome counts as published once it was sent to the server; the first of each
/// subject and connection, once the server is known to have accepted it.
#[derive(Debug)]
pub struct Outcomes {
    connection: Connection,
    predictions: String,
    failures: String,
    bound: Duration,
    permissions: Permissions,
}

impl Outcomes {
    /// Publishes on `<prefix>.predictions.…` and `<prefix>.failures.…`. While the connection is down,
    /// outcomes wait for it until it has been down for `bound`.
    pub fn new(connection: Connection, prefix: &str, bound: Duration) -> Self {
        let (predictions, failures) = (format!("{prefix}.predictions."), format!("{prefix}.failures."));
        Self { permissions: Permissions::new(connection.clone()), connection, predictions, failures, bound }
    }

    /// The outcome subjects that the server is known to accept and to refuse.
    pub fn permissions(&self) -> Permissions {
        self.permissions.clone()
    }

    async fn publish_all(&self, outcomes: &mut [Outcome]) -> Vec<Result<End, PublishError>> {
        let mut asked = Vec::new();
        let mut results = match self.send_all(outcomes, &mut asked).await {
            Ok(results) => results,
            Err(publish_error) => return vec![Err(publish_error); outcomes.len()],
        };
        if !asked.is_empty() {
            for (index, words) in self.permissions.ask(asked, self.bound).await {
                results[index] = Err(publish_error("refused", words));
            }
        }
        results
    }

    /// Sends all outcomes and waits for the flush. If the client ends meanwhile, or was already the next one
    /// when it was asked for, all go to the next one with the same `Nats-Msg-Id`: which of them were sent, or
    /// answered, is not known, and a duplicate is better than a loss.
    async fn send_all(
        &self,
        outcomes: &mut [Outcome],
        asked: &mut Vec<Asked>,
    ) -> Result<Vec<Result<End, PublishError>>, PublishError> {
        for _ in 0..MAX_CLIENTS {
            if !self.connection.is_up_within(self.bound).await {
                return Err(publish_error(
                    "connection_down",
                    format!("the connection has been down for {:?}", self.bound),
                ));
            }
            let (generation, client) = (self.connection.generation(), self.connection.client());
            self.permissions.refresh();
            asked.clear();
            let sending = async {
                let mut results = Vec::with_capacity(outcomes.len());
                for (index, outcome) in outcomes.iter_mut().enumerate() {
                    results.push(self.send((generation, &client), outcome, index, asked).await);
                }
                client.flush().await.map(|()| results)
            };
            match tokio::time::timeout(self.bound, sending).await {
                Ok(Ok(results)) if self.connection.generation() == generation => return Ok(results),
                Ok(_) => {
                    outcomes.iter_mut().for_each(|outcome| {
                        (outcome.published.subject, outcome.published.origin) = (false, false)
                    });
                    let _ = tokio::time::timeout(self.bound, self.connection.renewed(generation)).await;
                }
                Err(_) => {
                    return Err(publish_error(
                        "not_sent",
                        format!("the client did not send it within {:?}", self.bound),
                    ));
                }
            }
        }
        Err(publish_error("client_ended", format!("{MAX_CLIENTS} NATS clients ended before it was sent")))
    }

    async fn send(
        &self,
        (generation, client): (u64, &Client),
        outcome: &mut Outcome,
        index: usize,
        asked: &mut Vec<Asked>,
    ) -> Result<End, PublishError> {
        let (payload, headers) = Self::encode(outcome, client.max_payload())
            .map_err(|error| publish_error("not_encodable", error.to_string()))?;
        let (end, subject) = match &outcome.result {
            Ok(_) => (End::Prediction, &self.predictions),
            Err(_) => (End::Failure, &self.failures),
        };
        if !outcome.published.subject {
            let subject = format!("{subject}{}", outcome.envelope.source);
            asked.extend(self.permissions.unknown(&subject, index));
            publish(client, subject, headers, payload.clone()).await?;
            outcome.published.subject = true;
        }
        // Where this client has ended meanwhile, the flush fails and all is sent again over the next one.
        if let Some(origin) = outcome.origin.clone().filter(|_| !outcome.published.origin)
            && self.connection.generation() == generation
        {
            origin.answer(outcome, &payload).await;
            outcome.published.origin = true;
        }
        Ok(end)
    }

    /// Encodes the message; an outcome larger than the server accepts becomes a failure with both sizes.
    fn encode(outcome: &mut Outcome, limit: usize) -> Result<(Bytes, HeaderMap), wire::EncodeError> {
        wire::within(outcome, limit, |outcome| {
            let payload = wire::encode(outcome)?;
            let headers = headers(outcome);
            // The reply to a failure has headers of its own.
            let largest = match (&outcome.origin, &outcome.result) {
                (Some(_), Err(failure)) => headers_size(&with_service_error(headers.clone(), Some(failure))),
                _ => headers_size(&headers),
            };
            let size = payload.len() + largest;
            Ok(((payload.into(), headers), size))
        })
    }
}

impl OutcomeSink for Outcomes {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        self.publish_all(outcomes).boxed()
    }
}
