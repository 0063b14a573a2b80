//! A settled frame on its way to those who wait for it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use tokio::time::Instant;

use super::failure::Failure;
use super::prediction::Prediction;
use crate::account::admission::FramePermit;
use crate::account::ledger::{End, Ticket};
use crate::account::trail::Trail;
use crate::frame::{Envelope, FrameInfo};

/// The outcome of a frame, on its way to its subject and its origin, with its ledger ticket.
#[derive(Debug)]
pub struct Outcome {
    /// The echoed part of the frame.
    pub info: FrameInfo,
    /// Where the frame came from and how it is written.
    pub envelope: Envelope,
    /// Who waits for it beside the outcome subject.
    pub origin: Option<Arc<dyn Origin>>,
    /// When the frame arrived.
    pub received_at: Instant,
    /// The stages it has passed, with times.
    pub trail: Trail,
    /// The prediction or the failure.
    pub result: Result<Prediction, Failure>,
    /// When that was settled.
    pub settled_at: Instant,
    /// The same, by the wall clock.
    pub timestamp: SystemTime,
    /// How far its publication has come; kept here so that a restarted publisher does not publish twice.
    pub published: Published,
    pub(crate) ticket: Ticket,
    /// Held until the outcome is published: this is what bounds the queue of outcomes.
    pub(crate) permit: Option<Arc<FramePermit>>,
}

/// Which destinations of an outcome have been served.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The outcome subject.
    pub subject: bool,
    /// The origin of the frame.
    pub origin: bool,
    /// How many publications were begun. Bounded, so that an outcome that crashes the publisher does not do
    /// so for ever.
    pub attempts: u8,
}

/// Who sent a frame and is served when it ends: a requester that waits for a reply, the acknowledgement of a
/// durable stream, an HTTP response, a slot of a batch, a replay. The outcome subject is the sink's.
///
/// Where the daemon ends before the frame does, the origin is dropped without [`ended`](Self::ended): a
/// durable stream delivers the frame again.
pub trait Origin: fmt::Debug + Send + Sync + 'static {
    /// Sends the outcome to whoever waits for it; `payload` is the outcome as it is published. Called by the
    /// sink beside the publication, and again only where the publication had to be repeated.
    fn answer<'a>(&'a self, _outcome: &'a Outcome, _payload: &'a Bytes) -> BoxFuture<'a, ()> {
        future::ready(()).boxed()
    }

    /// Called once, when the outcome was published or is lost, or the frame goes back to its stream.
    fn ended(&self, _end: Result<End, &PublishError>, _result: &Result<Prediction, Failure>) {}
}

/// Why an outcome could not be published.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PublishError {
    /// The reason as a metric label.
    pub reason: &'static str,
    /// The reason as text.
    pub message: String,
}

impl Outcome {
    /// Ends the frame: counts it, and notifies its origin.
    pub(crate) fn close(self, end: Result<End, &PublishError>) {
        // When the ledger says that nothing is in flight, no permit is held, and every origin was notified: a
        // stream's acknowledgement is queued before the daemon ends.
        drop(self.permit);
        if let Some(origin) = self.origin {
            origin.ended(end, &self.result);
        }
        match end {
            Ok(end) => self.ticket.close(end),
            // Dropped unclosed, it counts as lost.
            Err(_) => drop(self.ticket),
        }
    }
}
