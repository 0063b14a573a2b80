//! Publishes outcomes to their stream, and decides which failures are not final.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
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
use sferic_actors::jitter::jitter;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::OutcomeSink;
use sferic_telemetry::Throttle;
use sferic_wire as wire;
use tokio::time::Instant;

use super::earlier::Wanted;
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
    unanswered: Throttle,
    failing: Failing,
}

/// How long it holds against the stream that it did not acknowledge: where nothing more is sent because of
/// that, nothing more is learnt.
const FAILING_FOR: Duration = Duration::from_secs(60);

/// Why no outcome is acknowledged, while that is so; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Failing(Arc<Mutex<Option<(Instant, String)>>>);

impl Failing {
    /// The reason.
    pub fn reason(&self) -> Option<String> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failed.filter(|(at, _)| at.elapsed() < FAILING_FOR).map(|(_, reason)| reason)
    }

    fn set(&self, reason: &str) {
        let reason = format!("their stream does not acknowledge them: {reason}");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reason));
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An outcome on its way.
struct Sending {
    index: usize,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    end: End,
    /// It was sent before: the stream may have it from then.
    is_repeated: bool,
}

impl StreamOutcomes {
    /// Publishes on `<prefix>.predictions.…` and `<prefix>.failures.…`. What the stream has not acknowledged
    /// within `bound` goes back to the stream of frames.
    pub fn new(connection: Connection, streams: Streams, bound: Duration) -> Self {
        let prefix = streams.prefix();
        let (predictions, failures) = (format!("{prefix}.predictions."), format!("{prefix}.failures."));
        let policy = RetryPolicy::new(streams.settings());
        let unanswered = Throttle::new(Duration::from_secs(1));
        let failing = Failing::default();
        Self { connection, streams, predictions, failures, bound, policy, unanswered, failing }
    }

    /// Whether outcomes are acknowledged.
    pub fn failing(&self) -> Failing {
        self.failing.clone()
    }

    async fn publish_all(&self, outcomes: &mut [Outcome]) -> Vec<Result<End, PublishError>> {
        let mut results = Vec::with_capacity(outcomes.len());
        let mut sending = Vec::with_capacity(outcomes.len());
        let earlier = self.earlier(outcomes).await;
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            let end = self.retried(outcome).or_else(|| self.known(outcome, &earlier));
            results.push(end.map_or_else(|| Err(unacknowledged(self.bound)), Ok));
            if results[index].is_ok() {
                continue;
            }
            match self.encode(outcome) {
                Ok((subject, headers, payload, end)) => {
                    sending.push(Sending { index, subject, headers, payload, end, is_repeated: false });
                }
                Err(error) => results[index] = Err(publish_error("not_encodable", error.to_string())),
            }
        }
        let give_up = Instant::now() + self.bound;
        let asked = sending.len();
        while !sending.is_empty() {
            let sent = self.send(&mut sending, outcomes, &mut results).await;
            let Err(error) = sent else { break };
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
            let _ = tokio::time::timeout_at(give_up, self.connection.is_up_within(self.bound)).await;
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
                Some(Ok(PublishAck { duplicate, .. })) => {
                    if let Some(origin) = &outcome.origin {
                        origin.answer(outcome, &each.payload).await;
                    }
                    results[each.index] =
                        Ok(end(outcome, &each, duplicate, self.connection.traffic().connects > 1));
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
        self.policy.retry_after(delivery, failure, jitter()).map(End::Redelivered)
    }

    /// Whether the stream may have an outcome of this frame that it no longer takes for a duplicate.
    fn may_be_forgotten(&self, outcome: &Outcome) -> bool {
        outcome.envelope.delivery.as_ref().is_some_and(|delivery| {
            delivery.deliveries > 1 && self.streams.age(delivery) > self.streams.settings().duplicate_window
        })
    }

    /// The ids of those that have an outcome already, of frames whose ids may be forgotten; `None` where that
    /// cannot be told.
    async fn earlier(&self, outcomes: &[Outcome]) -> Option<HashSet<String>> {
        let mut wanted = Wanted::default();
        for outcome in outcomes.iter().filter(|outcome| self.may_be_forgotten(outcome)) {
            if let Some(delivery) = &outcome.envelope.delivery {
                wanted.add(&outcome.envelope.source, delivery);
            }
        }
        match self.streams.answered(wanted.find(&self.streams)).await {
            Ok(found) => Some(found),
            Err(error) => {
                if let Some(suppressed) = self.unanswered.pass(Instant::now()) {
                    let error = format!("{error:#}");
                    tracing::warn!(error, suppressed, "earlier outcomes cannot be looked for; trying again");
                }
                None
            }
        }
    }

    /// How a frame ends whose outcome is in the stream already, or may be.
    fn known(&self, outcome: &Outcome, earlier: &Option<HashSet<String>>) -> Option<End> {
        if !self.may_be_forgotten(outcome) {
            return None;
        }
        let delivery = outcome.envelope.delivery.as_ref()?;
        match earlier {
            Some(earlier) => earlier.contains(&delivery.id).then_some(End::Duplicate),
            // Published without a look, it might be there twice.
            None => Some(End::Redelivered(self.streams.settings().ack_wait)),
        }
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

/// How a frame ended whose outcome was acknowledged. A duplicate is expected where the frame was delivered
/// before, or its outcome sent before, or the server may forget what it has delivered because it was killed;
/// and else a defect: two frames with one id.
fn end(outcome: &Outcome, sent: &Sending, is_duplicate: bool, may_forget: bool) -> End {
    if !is_duplicate || sent.is_repeated {
        return sent.end;
    }
    let deliveries = outcome.envelope.delivery.as_ref().map_or(1, |delivery| delivery.deliveries);
    if deliveries == 1 && !may_forget {
        let (frame_id, source) = (&outcome.info.frame_id, &outcome.envelope.source);
        tracing::error!(frame_id, source, "the stream had an outcome of a frame that was delivered once");
    }
    End::Duplicate
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
