//! Outcomes that are in their stream already, and those that only seem to be.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind};
use bytes::Bytes;
use sferic_actors::account::ledger::End;
use sferic_actors::frame::Delivery;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_telemetry::Throttle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::earlier::Earlier;
use super::streams::{Streams, nanoseconds};
use crate::nats::Connection;

/// An outcome on its way.
pub struct Sending {
    /// Its place among those that are published together.
    pub index: usize,
    /// Where it goes.
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
    /// How its frame ends once it is acknowledged.
    pub end: End,
    /// It was sent before: the stream may have it from then.
    pub is_repeated: bool,
    /// Its first id was that of another frame's outcome.
    pub is_renamed: bool,
}

/// Detects outcomes that are in their stream already.
pub struct Duplicates {
    connection: Connection,
    streams: Streams,
    earlier: Mutex<Earlier>,
    unanswered: Throttle,
    renamed: Throttle,
    looked: Throttle,
}

impl Duplicates {
    /// Of these streams.
    pub fn new(connection: Connection, streams: Streams) -> Self {
        let [unanswered, renamed, looked] = std::array::from_fn(|_| Throttle::new(Duration::from_secs(1)));
        Self { connection, streams, earlier: Mutex::default(), unanswered, renamed, looked }
    }

    /// Ends those that have an outcome already which the stream may have forgotten. While that cannot be told
    /// their frames go back: published without a look, it might be there twice.
    pub async fn leave_out(
        &self,
        sending: &mut Vec<Sending>,
        outcomes: &[Outcome],
        results: &mut [Result<End, PublishError>],
    ) {
        let delivery = |each: &Sending| outcomes[each.index].envelope.delivery.as_ref();
        let is_past_window =
            |each: &Sending| delivery(each).is_some_and(|delivery| self.streams.may_be_past_window(delivery));
        if !sending.iter().any(is_past_window) {
            return;
        }
        let (doubtful, certain): (Vec<_>, _) = std::mem::take(sending).into_iter().partition(is_past_window);
        *sending = certain;
        let mut earlier = self.earlier.lock().await;
        let frames = doubtful
            .iter()
            .filter_map(|each| Some((outcomes[each.index].envelope.source.as_str(), delivery(each)?)));
        let looked = self.streams.answered(earlier.look(&self.streams, frames)).await;
        if let Err(error) = &looked
            && let Some(suppressed) = self.unanswered.pass(Instant::now())
        {
            let error = format!("{error:#}");
            tracing::warn!(error, suppressed, "earlier outcomes cannot be looked for; trying again");
        }
        for each in doubtful {
            let outcome = &outcomes[each.index];
            if looked.is_err() {
                results[each.index] = Ok(End::Redelivered(self.streams.settings().ack_wait));
            } else if delivery(&each).is_some_and(|delivery| earlier.has(delivery)) {
                let end = if each.is_repeated { each.end } else { End::Duplicate };
                results[each.index] = Ok(answered(outcome, &each, end).await);
            } else {
                sending.push(each);
            }
        }
        sending.sort_unstable_by_key(|each| each.index);
    }

    /// How a frame ends whose outcome the stream takes for a duplicate of the message at `sequence`. `None`:
    /// not yet, since that is the outcome of another frame, of a stream that is gone, and this one gets
    /// another id.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn end(
        &self,
        outcome: &Outcome,
        sent: &mut Sending,
        sequence: u64,
    ) -> anyhow::Result<Option<End>> {
        let end = if sent.is_repeated { sent.end } else { End::Duplicate };
        let Some(delivery) = outcome.envelope.delivery.as_ref().filter(|_| !sent.is_renamed) else {
            return Ok(Some(end));
        };
        // Expected where the frame was delivered before, or the server may forget that because it was killed.
        let is_surprise = !sent.is_repeated
            && !self.streams.may_come_again(delivery)
            && self.connection.traffic().connects == 1;
        let is_first = delivery.deliveries == 1 && !sent.is_repeated;
        if !self.streams.answered(self.is_of_another_frame(delivery, sequence, is_first)).await? {
            if is_surprise {
                let (frame_id, source) = (&outcome.info.frame_id, &outcome.envelope.source);
                let what = "the stream had an outcome of a frame that was delivered once";
                tracing::error!(frame_id, source, "{what}");
            }
            return Ok(Some(end));
        }
        let (taken, id) = (&delivery.id, format!("{}:{}", delivery.id, self.streams.frames_made_ns()));
        if let Some(suppressed) = self.renamed.pass(Instant::now()) {
            let what = "an outcome has another id: a frame of a stream that is gone had its own";
            tracing::warn!(taken, id, suppressed, "{what}");
        }
        sent.headers.insert(NATS_MESSAGE_ID, id);
        sent.is_renamed = true;
        Ok(None)
    }

    /// Whether the outcome at `sequence` is older than the stream of frames: it has the same id, but is
    /// another frame's. `is_first`: the frame was delivered once, and its outcome sent once.
    async fn is_of_another_frame(
        &self,
        delivery: &Delivery,
        sequence: u64,
        is_first: bool,
    ) -> anyhow::Result<bool> {
        let (context, settings) = (self.streams.context(), self.streams.settings());
        if is_first && self.looked.pass(Instant::now()).is_some() {
            let frames = context.get_stream(&settings.frames_stream).await?;
            self.streams.saw_made(frames.cached_info().created, None);
        }
        if !self.streams.may_share_id(delivery) {
            return Ok(false);
        }
        let outcomes = context.get_stream_no_info(&settings.outcomes_stream).await?;
        match outcomes.get_raw_message(sequence).await {
            Ok(message) => Ok(nanoseconds(message.time) < self.streams.frames_made_ns()),
            // Its id outlives it; that of a frame that is here for the first time was another's.
            Err(error) if is_gone(&error) => Ok(is_first),
            Err(error) => Err(error.into()),
        }
    }
}

/// Passes the outcome to its sender; returns the end.
pub async fn answered(outcome: &Outcome, sent: &Sending, end: End) -> End {
    if let Some(origin) = &outcome.origin {
        origin.answer(outcome, &sent.payload).await;
    }
    end
}

fn is_gone(error: &RawMessageError) -> bool {
    error.kind() == RawMessageErrorKind::NoMessageFound
}
