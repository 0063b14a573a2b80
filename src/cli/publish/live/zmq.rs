//! GNU Radio's ZeroMQ sinks.

use futures::StreamExt;
use sferic_live::gnu_radio::{Tagged, tagged};
use tokio::time::timeout;
use zeromq::{PullSocket, Socket, SocketEvent, SocketRecv, SubSocket, ZmqError};

use super::feed::{Ended, Feed};
use super::retry::{ANSWERS_WITHIN, Retry, SILENCE};

/// What the library says where the other side is of another kind.
const INCOMPATIBLE: &str = "not compatible";

/// Why a connection ended.
enum Stop {
    /// Nobody takes frames any more.
    Ended,
    /// The other side is of another kind.
    OtherKind,
    /// It may come back.
    Away(String),
}

impl From<ZmqError> for Stop {
    fn from(error: ZmqError) -> Self {
        match error {
            ZmqError::Other(words) if words.contains(INCOMPATIBLE) => Self::OtherKind,
            error => Self::Away(error.to_string()),
        }
    }
}

/// Reads samples, across connections, until nobody takes them any more: of a PUB socket, or where the other
/// side is none, of a PUSH socket.
///
/// # Errors
/// The other side is neither.
pub async fn read(
    address: &str,
    bytes_per_sample: usize,
    mut feed: Feed,
    mut retry: Retry<'_>,
) -> anyhow::Result<()> {
    let (mut is_push, mut refused) = (false, 0);
    loop {
        let reader = Reader { feed: &mut feed, retry: &mut retry, bytes_per_sample };
        let stop = if is_push {
            reader.read(PullSocket::new(), true, address).await
        } else {
            reader.subscribe(address).await
        };
        match stop {
            Stop::Ended => return Ok(()),
            Stop::OtherKind => {
                is_push = !is_push;
                refused += 1;
                anyhow::ensure!(refused < 3, "{address} is a ZeroMQ socket, and neither PUB nor PUSH");
            }
            Stop::Away(why) => {
                refused = 0;
                retry.wait(why).await;
            }
        }
    }
}

struct Reader<'a, 'b> {
    feed: &'a mut Feed,
    retry: &'a mut Retry<'b>,
    bytes_per_sample: usize,
}

impl Reader<'_, '_> {
    async fn subscribe(self, address: &str) -> Stop {
        let mut socket = SubSocket::new();
        if let Err(error) = socket.subscribe("").await {
            return error.into();
        }
        self.read(socket, false, address).await
    }

    /// Reads messages until the connection ends.
    async fn read(self, mut socket: impl Socket + SocketRecv, is_push: bool, address: &str) -> Stop {
        // A PUB socket throws away what is not read; a PUSH socket waits.
        self.feed.set_waits(is_push);
        let mut events = socket.monitor();
        match timeout(ANSWERS_WITHIN, socket.connect(address)).await {
            Ok(Ok(())) => self.retry.connected(if is_push { "PUSH" } else { "PUB" }),
            Ok(Err(error)) => return error.into(),
            Err(_) => return Stop::Away(format!("does not answer within {ANSWERS_WITHIN:?}")),
        }
        let mut stream = Stream::default();
        let why = loop {
            let message = tokio::select! {
                biased;
                message = timeout(SILENCE, socket.recv()) => message,
                () = disconnected(&mut events) => break "has ended the connection".to_owned(),
            };
            match message {
                Ok(Ok(message)) => {
                    self.retry.sends();
                    // A key, where the sink has one, is the part before.
                    let Some(message) = message.into_vec().pop() else { continue };
                    let (samples, is_gap) = stream.samples(&message, self.bytes_per_sample);
                    if is_gap {
                        self.feed.restart();
                    }
                    if let Err(Ended) = self.feed.take(samples).await {
                        return Stop::Ended;
                    }
                }
                Ok(Err(error)) => break error.to_string(),
                Err(_) => break format!("has sent nothing for {SILENCE:?}"),
            }
        };
        self.feed.stopped();
        Stop::Away(why)
    }
}

async fn disconnected(events: &mut (impl futures::Stream<Item = SocketEvent> + Unpin)) {
    loop {
        match events.next().await {
            Some(SocketEvent::Disconnected(_)) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The messages of one connection. The first one shows whether they have headers.
#[derive(Default)]
struct Stream {
    is_tagged: Option<bool>,
    /// Index of the item that comes next.
    next: Option<u64>,
}

impl Stream {
    /// The samples of a message, and whether some are missing before them.
    fn samples<'a>(&mut self, message: &'a [u8], bytes_per_sample: usize) -> (&'a [u8], bool) {
        let read = if self.is_tagged == Some(false) { None } else { tagged(message) };
        let was_tagged = self.is_tagged.replace(self.is_tagged == Some(true) || read.is_some());
        let Some(Tagged { index, samples }) = read else {
            // One without a header among others with one cannot be placed.
            let is_odd = was_tagged == Some(true);
            return (if is_odd { &[] } else { message }, is_odd);
        };
        let is_gap = self.next.is_some_and(|next| next != index);
        self.next = Some(index + (samples.len() / bytes_per_sample) as u64);
        (samples, is_gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged_message(index: u64, samples: &[u8]) -> Vec<u8> {
        [&[0xf0, 0x5f, 0x01][..], &index.to_le_bytes(), &[0; 8], samples].concat()
    }

    #[test]
    fn missing_samples_show_in_the_headers() {
        let mut stream = Stream::default();
        for (index, is_gap) in [(100, false), (102, false), (105, true), (107, false)] {
            let message = tagged_message(index, &[1, 2, 3, 4]);
            assert_eq!(stream.samples(&message, 2), (&[1, 2, 3, 4][..], is_gap), "{index}");
        }
        assert_eq!(stream.samples(&[1, 2], 2), (&[][..], true));
    }

    #[test]
    fn messages_without_headers_are_samples_whatever_they_begin_with() {
        let mut stream = Stream::default();
        assert_eq!(stream.samples(&[1, 2], 2), (&[1, 2][..], false));
        let message = tagged_message(5, &[1, 2]);
        assert_eq!(stream.samples(&message, 2), (message.as_slice(), false));
    }
}
