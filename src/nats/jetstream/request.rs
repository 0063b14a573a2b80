//! A request for frames: how many, and what is still to come of it.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, Subscriber};
use serde::Serialize;
use tokio::time::Instant;

use super::streams::Streams;

/// How long the server keeps a request that it cannot fill.
const EXPIRES: Duration = Duration::from_secs(10);

/// How often it says that it still has the request.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What the server adds to a message when it counts the bytes of a request: subjects and headers' framing.
const FRAMING: usize = 16 << 10;

/// A request that ends within this time, with nothing, was refused.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A request for frames as the server reads it; the library's has no place for a pin.
#[derive(Serialize)]
struct PullRequest<'a> {
    #[serde(flatten)]
    batch: BatchConfig,
    #[serde(rename = "id", skip_serializing_if = "Option::is_none")]
    pin: Option<&'a str>,
}

/// A request for at most so many frames and bytes, by whom the server has pinned the consumer to as `pin`;
/// `is_grouped` for a consumer that has the priority group of the settings.
///
/// # Errors
/// None that can happen: it is plain JSON.
pub fn encode(
    streams: &Streams,
    is_grouped: bool,
    frames: usize,
    bytes: usize,
    pin: Option<&str>,
) -> serde_json::Result<Vec<u8>> {
    let settings = streams.settings();
    let batch = BatchConfig {
        batch: frames,
        expires: Some(EXPIRES),
        max_bytes: bytes.max(1),
        idle_heartbeat: HEARTBEAT,
        group: streams.group().filter(|_| is_grouped).map(str::to_owned),
        min_pending: (is_grouped && settings.min_pending > 0).then_some(settings.min_pending),
        priority: (is_grouped && settings.priority > 0).then_some(settings.priority),
        ..BatchConfig::default()
    };
    serde_json::to_vec(&PullRequest { batch, pin })
}

/// What is still to come of the one request that is out.
#[derive(Debug)]
pub struct Request {
    /// Counts the requests of an inbox.
    pub number: u64,
    /// Frames that are still to come for it.
    pub frames: usize,
    /// No frame has come for it yet.
    pub is_untouched: bool,
    /// When it was sent.
    pub asked: Instant,
    /// When the server last said something.
    pub heard: Instant,
}

impl Request {
    /// One that is sent now.
    pub fn new(number: u64, frames: usize) -> Self {
        let now = Instant::now();
        Self { number, frames, is_untouched: true, asked: now, heard: now }
    }
}

/// A subscription on which frames arrive, and the request for them.
pub struct Inbox {
    /// Of all requests; the number of each follows.
    pub subject: String,
    pub subscriber: Subscriber,
    /// The connection it was made on: a request does not outlive it.
    pub epoch: u64,
    /// Of the client.
    pub generation: u64,
    /// The one that is out, or was.
    pub request: Request,
}

impl Inbox {
    /// The subject of what the server says to the request.
    pub fn answers_to(&self) -> String {
        format!("{}.{}", self.subject, self.request.number)
    }

    /// Whether the end of the request was a refusal, because too many requests wait for example.
    pub fn is_refused(&self, message: &Message) -> bool {
        *message.subject == *self.answers_to()
            && self.request.is_untouched
            && self.request.asked.elapsed() < AT_ONCE
    }
}

/// How many frames and bytes to ask for. Only while the largest frame fits: the server answers a request
/// whose bytes the next frame exceeds with an error, again and again.
pub fn to_ask(free: (usize, usize), largest: usize, limit: usize) -> Option<(usize, usize)> {
    let (frames, bytes) = free;
    // With nothing in flight the next frame has to come, even to be refused as too large.
    let is_idle = bytes >= limit;
    let bytes = if is_idle { bytes.max(largest + FRAMING) } else { bytes };
    (frames > 0 && (is_idle || bytes >= largest)).then_some((frames, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_much_is_asked_for_as_there_is_room_for() {
        assert_eq!(to_ask((3, 5000), 1000, 10_000), Some((3, 5000)));
        assert_eq!(to_ask((0, 5000), 1000, 10_000), None);
        assert_eq!(to_ask((3, 999), 1000, 10_000), None, "the next frame may have 1000 bytes");
        assert_eq!(to_ask((3, 400), 1000, 500), None, "until nothing is in flight");
        assert_eq!(to_ask((3, 500), 1000, 500), Some((3, 1000 + FRAMING)), "to be refused");
    }
}
