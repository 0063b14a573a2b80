//! The reply to a frame that was sent as a request.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::outcome::{Origin, Outcome};

use super::Connection;
use super::message::{headers, publish, with_service_error};

/// Publishes the outcome of a frame to the subject that its sender reads.
#[derive(Debug)]
pub struct Reply {
    connection: Connection,
    subject: String,
}

impl Reply {
    /// Replies on `subject`, over the client that the connection has then.
    pub fn new(connection: Connection, subject: String) -> Self {
        Self { connection, subject }
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
