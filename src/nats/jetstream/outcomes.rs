//! Publishes outcomes to their stream, and decides which failures are not final.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::jetstream::context::{PublishError as StreamError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use sferic_actors::account::ledger::End;
use sferic_actors::jitter::{jitter, jitter_of};
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::OutcomeSink;
use sferic_telemetry::Throttle;
use sferic_wire as wire;
use tokio::time::Instant;

use super::duplicates::{Duplicates, Sending, answered};
use super::failing::Failing;
use super::retry::RetryPolicy;
use super::streams::Streams;
use crate::nats::Connection;
use crate::nats::message::{headers, headers_size, publish_error, with_service_error};

/// Time for the acknowledgement of an outcome.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before outcomes that were not acknowledged are sent again.
const PAUSE: Duration = Duration::from_millis(200);

/// Publishes outcomes. One counts as published once its stream has acknowledged it.
pub struct StreamOutcomes {
    connection: Connection,
    streams: Streams,
    predictions: String,
    failures: String,
    bound: Duration,
    policy: RetryPolicy,
    duplicates: Duplicates,
    unanswered: Throttle,
    failing: Failing,
}

impl StreamOutcomes {
    /// Publishes on `<prefix>.predictions.…` and `<prefix>.failures.…`. What the stream has not acknowledged
    /// within `bound` goes back to the stream of frames.
    pub fn new(connection: Connection, streams: Streams, bound: Duration) -> Self {
        let prefix = streams.prefix();
        let (predictions, failures) = (format!("{prefix}.predictions."), format!("{prefix}.failures."));
        let policy = RetryPolicy::new(streams.settings());
        let duplicates = Duplicates::new(connection.clone(), streams.clone());
        let (unanswered, failing) = (Throttle::new(Duration::from_secs(1)), Failing::default());
        Self { connection, streams, predictions, failures, bound, policy, duplicates, unanswered, failing }
    }

    /// Whether outcomes are acknowledged.
    pub fn failing(&self) -> Failing {
        self.failing.clone()
    }

    async fn publish_all(&self, outcomes: &mut [Outcome]) -> Vec<Result<End, PublishError>> {
        let mut results: Vec<_> = outcomes.iter().map(|_| Err(unacknowledged(self.bound))).collect();
        let mut sending = Vec::with_capacity(outcomes.len());
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            if let Some(end) = self.retried(outcome) {
                results[index] = Ok(end);
                continue;
            }
            match self.encode(outcome) {
                Ok((subject, headers, payload, end)) => {
                    let (is_repeated, is_renamed) = (false, false);
                    sending.push(Sending { index, subject, headers, payload, end, is_repeated, is_renamed });
                }
                Err(error) => results[index] = Err(publish_error("not_encodable", error.to_string())),
            }
        }
        let give_up = Instant::now() + self.bound;
        let asked = sending.len();
        loop {
            // What is sent while it is down goes out later, unlooked at.
            if !self.connection.is_up_within(self.bound).await {
                break;
            }
            // Each time: the pause may have been a long one.
            self.duplicates.leave_out(&mut sending, outcomes, &mut results).await;
            if sending.is_empty() {
                break;
            }
            let sent = self.send(&mut sending, outcomes, &mut results).await;
            let Err(error) = sent else { continue };
            if sending.len() == asked {
                self.failing.set(&error);
            }
            if let Some(suppressed) = self.unanswered.pass(Instant::now()) {
                let waiting = sending.len();
                tracing::warn!(
                    error,
                    waiting,
                    suppressed,
                    "outcomes are not acknowledged; they are sent again, or their frames come back"
                );
            }
            if Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if sending.len() < asked {
            self.failing.clear();
        }
        let delay = self.streams.settings().ack_wait;
        for Sending { index, .. } in sending {
            if outcomes[index].envelope.delivery.is_some() {
                results[index] = Ok(End::Redelivered(delay));
            }
        }
        results
    }

    /// Sends these and waits for their acknowledgements; leaves those that got none, with the last reason.
    async fn send(
        &self,
        sending: &mut Vec<Sending>,
        outcomes: &[Outcome],
        results: &mut [Result<End, PublishError>],
    ) -> Result<(), String> {
        let epoch = self.connection.epoch();
        let mut context = self.streams.context();
        context.set_timeout(ACK_TIMEOUT);
        let acks = sending.iter().map(|each| {
            let message = PublishMessage::build().headers(each.headers.clone()).payload(each.payload.clone());
            let context = &context;
            async move { context.send_publish(each.subject.clone(), message).await }
        });
        // In order, and without waiting for one before the next is sent.
        let mut sent = Vec::with_capacity(sending.len());
        for ack in acks {
            sent.push(ack.await);
        }
        // What was not acknowledged when the connection was lost will not be.
        let lost = self.connection.reconnected(epoch).boxed().shared();
        let acks = sent.into_iter().map(|sent| async {
            let ack = async { sent?.await };
            tokio::select! {
                biased;
                ack = ack => Some(ack),
                () = lost.clone() => None,
            }
        });
        let acks = future::join_all(acks).await;
        let (mut failed, mut left) = (None, Vec::new());
        for (mut each, ack) in std::mem::take(sending).into_iter().zip(acks) {
            let outcome = &outcomes[each.index];
            match ack {
                Some(Ok(PublishAck { duplicate: false, .. })) => {
                    results[each.index] = Ok(answered(outcome, &each, each.end).await);
                }
                Some(Ok(PublishAck { sequence, .. })) => {
                    match self.duplicates.end(outcome, &mut each, sequence).await {
                        Ok(Some(end)) => results[each.index] = Ok(answered(outcome, &each, end).await),
                        // It has another id now.
                        Ok(None) => left.push(each),
                        Err(error) => {
                            failed = Some(format!("a duplicate cannot be looked at: {error:#}"));
                            left.push(each);
                        }
                    }
                }
                unacknowledged => {
                    failed = Some(match unacknowledged {
                        Some(Err(error)) => in_words(&error),
                        _ => "the connection was lost".to_owned(),
                    });
                    each.is_repeated = true;
                    left.push(each);
                }
            }
        }
        *sending = left;
        if failed.is_some() {
            self.remake().await;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Makes the streams again, where one was deleted: that looks like a server that does not answer where
    /// anybody else listens to outcomes.
    async fn remake(&self) {
        if let Err(error) = self.streams.answered(self.streams.ensure()).await
            && let Some(suppressed) = self.unanswered.pass(Instant::now())
        {
            tracing::warn!(error = format!("{error:#}"), suppressed, "the streams cannot be had");
        }
    }

    /// The end of a frame whose failure is not final.
    fn retried(&self, outcome: &Outcome) -> Option<End> {
        let (delivery, failure) = (outcome.envelope.delivery.as_ref()?, outcome.result.as_ref().err()?);
        // The frames of a session have to meet again.
        let chance = outcome.info.session_id.as_deref().map_or_else(jitter, jitter_of);
        self.policy.retry_after(delivery, failure, chance).map(End::Redelivered)
    }

    /// Writes the message. The frame itself goes with the failure that ends its retries, where it fits.
    fn encode(&self, outcome: &mut Outcome) -> Result<(String, HeaderMap, Bytes, End), wire::EncodeError> {
        let limit = self.connection.client().max_payload();
        let ends_retries = matches!(
            (&outcome.envelope.delivery, &outcome.result),
            (Some(delivery), Err(failure)) if self.policy.ends_retries(delivery, failure)
        );
        let keeps_payload = ends_retries && self.streams.settings().dead_letter_payload;
        let message = |outcome: &Outcome| {
            let payload = wire::encode(outcome)?;
            let mut headers = headers(outcome);
            // Another stream that has their subjects must not answer for it.
            headers.insert(NATS_EXPECTED_STREAM, self.streams.settings().outcomes_stream.as_str());
            // Frame ids are the senders': two of them may be equal, and the stream would drop one outcome.
            if let Some(id) = &outcome.envelope.direct_id {
                headers.insert("Nats-Msg-Id", id.as_str());
            }
            let largest = with_service_error(headers.clone(), outcome.result.as_ref().err());
            let size = payload.len() + headers_size(&largest);
            Ok(((payload.into(), headers), size))
        };
        if let Some(delivery) = &mut outcome.envelope.delivery
            && !keeps_payload
        {
            delivery.payload = None;
        }
        if outcome.envelope.delivery.as_ref().is_some_and(|delivery| delivery.payload.is_some())
            && message(outcome)?.1 > limit
            && let Some(delivery) = &mut outcome.envelope.delivery
        {
            delivery.payload = None;
        }
        let (payload, headers) = wire::within(outcome, limit, message)?;
        let (end, subject) = match &outcome.result {
            Ok(_) => (End::Prediction, &self.predictions),
            Err(_) => (End::Failure, &self.failures),
        };
        Ok((format!("{subject}{}", outcome.envelope.source), headers, payload, end))
    }
}

fn unacknowledged(bound: Duration) -> PublishError {
    publish_error("unacknowledged", format!("the stream did not acknowledge it within {bound:?}"))
}

fn in_words(error: &StreamError) -> String {
    match std::error::Error::source(error) {
        Some(source) if error.kind() == PublishErrorKind::Other => source.to_string(),
        _ => error.to_string(),
    }
}

impl OutcomeSink for StreamOutcomes {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        self.publish_all(outcomes).boxed()
    }
}
