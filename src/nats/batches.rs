//! The batch subject: requests of 1 to 100 frames, answered together.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::task::Task;
use sferic_wire as wire;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Connection;
use super::frames::from_headers;
use super::input::Frames;
use super::message::{headers_size, publish, with_service_error};
use super::reader::Reader;
use super::reply::Replies;
use crate::batch::{BatchRequest, Batches};
use crate::ingress::{Entry, Ingress, stopping};

/// Batches that are held at once, as far as their bytes allow; further ones wait in the client.
const MAX_HELD: u32 = 256;

/// Number of clients that may end while sending the same answer.
const MAX_CLIENTS: usize = 3;

/// Answers batches on `<prefix>.batch`.
pub struct BatchService {
    /// The connection.
    pub connection: Connection,
    /// The first tokens of the subject.
    pub prefix: String,
    /// How long an answer waits for a connection.
    pub bound: Duration,
    /// Where their frames go.
    pub ingress: Ingress,
    /// Runs them.
    pub batches: Arc<Batches>,
    /// The most bytes of batches that are held at once; one is always held.
    pub max_bytes: u64,
}

impl BatchService {
    /// Reads the subject in a queue group, paused and stopped with the frames.
    pub fn start(self, queue_group: &str, frames: &mut Frames) -> Task {
        let subject = format!("{}.batch", self.prefix);
        let reader = Reader::new(self.connection.clone(), subject, Some(queue_group), frames.seat_beside());
        let mut messages = reader.into_messages();
        let replies = Replies::new(self.connection.clone(), &self.prefix);
        let most = u32::try_from(self.max_bytes).unwrap_or(u32::MAX).max(MAX_HELD);
        let (service, held) = (Arc::new(self), Arc::new(Semaphore::new(most as usize)));
        Task::spawn(async move {
            while let Some(mut message) = messages.next().await {
                let reply = message.reply.take().and_then(|subject| replies.on(subject.to_string()));
                let reply = reply.map(|reply| reply.subject().to_owned());
                // Before the next one is waited for: the daemon stops only when every entry was left.
                let entry = service.ingress.enter();
                let bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
                let places = bytes.clamp(most / MAX_HELD, most);
                let Ok(place) = Arc::clone(&held).acquire_many_owned(places).await else { return };
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    service.serve(message, reply, entry).await;
                    drop(place);
                });
            }
            // To those who watch this task, its end would be a panic.
            std::future::pending::<()>().await;
        })
    }

    async fn serve(&self, message: Message, reply: Option<String>, entry: Option<Entry>) {
        let envelope = message.headers.as_ref().map(from_headers).unwrap_or_default();
        let encoding = envelope.encoding;
        let request = BatchRequest {
            payload: message.payload,
            encoding,
            answer_in: encoding,
            trace: envelope.trace,
            source: "batch",
        };
        let answer = match &entry {
            Some(entry) => self.batches.run(entry, request).await,
            None => Err(stopping()),
        };
        if let Some(subject) = reply {
            let (headers, payload) = written(answer, encoding, self.connection.client().max_payload());
            self.send(&subject, &headers, &payload).await;
        }
        // Left only now, so that the answer is sent before the connection closes.
        drop(entry);
    }

    /// Sends the answer and waits until it has left. Where the client ends meanwhile it goes to the next one:
    /// a second answer does no harm.
    async fn send(&self, subject: &str, headers: &HeaderMap, payload: &Bytes) {
        for _ in 0..MAX_CLIENTS {
            if !self.connection.is_up_within(self.bound).await {
                break;
            }
            let (generation, client) = (self.connection.generation(), self.connection.client());
            let sending = async {
                publish(&client, subject.to_owned(), headers.clone(), payload.clone()).await.is_err()
                    || client.flush().await.is_ok()
            };
            match timeout(self.bound, sending).await {
                Ok(true) if self.connection.generation() == generation => return,
                Ok(_) => drop(timeout(self.bound, self.connection.renewed(generation)).await),
                Err(_) => break,
            }
        }
        tracing::warn!(subject, "the answer to a batch could not be sent");
    }
}

/// The answer as a message that the server takes.
fn written(answer: Result<Bytes, Failure>, encoding: Encoding, limit: usize) -> (HeaderMap, Bytes) {
    let answer = answer.and_then(|payload| {
        let headers = headers(encoding, None);
        let size = payload.len() + headers_size(&headers);
        if size <= limit {
            return Ok((headers, payload));
        }
        let message =
            format!("the answer has {size} bytes with its headers, over the server's max_payload of {limit}");
        Err(Failure::new(FailureCode::Internal, message))
    });
    answer.unwrap_or_else(|failure| {
        let body = wire::encode_failure(&failure, encoding).unwrap_or_default();
        (headers(encoding, Some(&failure)), body.into())
    })
}

fn headers(encoding: Encoding, failure: Option<&Failure>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", wire::content_type(encoding));
    with_service_error(headers, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_over_the_limit_becomes_a_failure_with_both_sizes() {
        let payload = || Ok(Bytes::from(vec![b' '; 4000]));
        let (headers, fits) = written(payload(), Encoding::Json, 4100);
        assert_eq!((fits.len(), headers.get("Nats-Service-Error-Code")), (4000, None));
        let (headers, failure) = written(payload(), Encoding::Json, 4010);
        assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "500");
        let failure: serde_json::Value = serde_json::from_slice(&failure).unwrap();
        assert_eq!(failure["code"], "internal");
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains("max_payload of 4010") && message.contains("40"), "{message}");
    }
}
