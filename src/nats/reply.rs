//! The reply to a frame or a batch that was sent as a request.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::outcome::{Origin, Outcome};
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::Connection;
use super::message::{headers, publish, with_service_error};

/// The longest subject of a reply, bytes; see [`LONGEST_SOURCE`](sferic_actors::frame::LONGEST_SOURCE).
const LONGEST: usize = 1024;

/// Makes the replies to frames.
pub struct Replies {
    connection: Connection,
    prefix: String,
    refused: Throttle,
}

impl Replies {
    /// Over the client that the connection has then.
    pub fn new(connection: Connection, prefix: &str) -> Self {
        Self { connection, prefix: prefix.to_owned(), refused: Throttle::new(Duration::from_secs(1)) }
    }

    /// A reply on `subject`; `None` where a frame would make the daemon speak to JetStream, to the server, to
    /// other services or as a source, or where the subject is too long.
    pub fn on(&self, subject: String) -> Option<Reply> {
        let own =
            subject.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        let is_own = |kind: &str| own.split('.').next() == Some(kind);
        let is_service = subject.starts_with('$') || subject.starts_with("sferic.");
        if subject.len() <= LONGEST
            && !is_service
            && !["frames", "predictions", "failures", "sessions", "batch", "truth"].into_iter().any(is_own)
        {
            return Some(Reply { connection: self.connection.clone(), subject });
        }
        if let Some(suppressed) = self.refused.pass(Instant::now()) {
            let shown = &subject[..subject.floor_char_boundary(100)];
            let length = subject.len();
            let text = "no outcome goes to the reply subject of a frame";
            tracing::warn!(subject = shown, length, longest = LONGEST, suppressed, "{text}");
        }
        None
    }
}

/// Publishes the outcome of a frame to the subject that its sender reads.
#[derive(Debug)]
pub struct Reply {
    connection: Connection,
    subject: String,
}

impl Reply {
    /// The subject that the sender reads.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl Origin for Reply {
    fn answer<'a>(&'a self, outcome: &'a Outcome, payload: &'a Bytes) -> BoxFuture<'a, ()> {
        let headers = with_service_error(headers(outcome), outcome.result.as_ref().err());
        async move {
            let (client, subject) = (self.connection.client(), self.subject.clone());
            // The requester may have chosen a subject that cannot be published to; that does not fail the
            // outcome.
            if let Err(error) = publish(&client, subject, headers, payload.clone()).await {
                tracing::debug!(%error, reply_to = self.subject, "no reply could be sent");
            }
        }
        .boxed()
    }
}
