//! The subscription that frames arrive on.

use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use futures::{StreamExt, stream};
use sferic_actors::frame::{Encoding, Envelope, LONGEST_SOURCE, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, Origin};
use sferic_actors::ports::{Arrival, FrameSource};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;
use super::input::{Frames, InputSeat};
use super::reader::Reader;
use super::reply::Replies;

/// Where the frames of sessions come from, and while there is a model that gathers them.
#[derive(Debug, Clone)]
pub struct SessionInput {
    /// A subject that ends with `>`: the first token that stands for is the session, the others the source.
    pub subject: String,
    /// Whether a model in service gathers.
    pub gathers: watch::Receiver<bool>,
    /// Whether sessions are in use: they are configured, or a frame of one has come.
    pub in_use: watch::Sender<bool>,
}

impl SessionInput {
    /// Notes that a frame of a session has come.
    pub(super) fn used(&self) {
        self.in_use.send_if_modified(|before| !std::mem::replace(before, true));
    }
}

/// What the tokens of a subject after its first ones say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    /// The source.
    Source,
    /// The session, then the source.
    SessionAndSource,
}

/// Reads `<prefix>.frames.>` in a queue group, and the frames of sessions outside it, once
/// [`InputSwitch::pause`](super::InputSwitch::pause) is called with `false`. It subscribes again with every
/// new client and after a refusal; [`InputSwitch::state`](super::InputSwitch::state) tells whether the server
/// has confirmed it.
pub fn subscribe(
    connection: &Connection,
    prefix: &str,
    queue_group: &str,
    sessions: &SessionInput,
) -> (FrameSource, Frames) {
    let (mut frames, seats) = Frames::new(1);
    let read = |subject: &str, group: Option<&str>, tokens: Tokens, seat: InputSeat| {
        let reader = Reader::new(connection.clone(), subject.to_owned(), group, seat);
        let replies = Replies::new(connection.clone(), prefix);
        // All but its `>`.
        let (skip, sessions) = (subject.len() - 1, sessions.clone());
        let arrival = move |message| {
            if tokens == Tokens::SessionAndSource {
                sessions.used();
            }
            arrival(message, skip, tokens, &replies)
        };
        reader.into_messages().map(arrival).boxed()
    };
    let subject = format!("{prefix}.frames.>");
    let mut readers: Vec<_> =
        seats.into_iter().map(|seat| read(&subject, Some(queue_group), Tokens::Source, seat)).collect();
    let seat = frames.gated_seat(sessions.gathers.clone());
    readers.push(read(&sessions.subject, None, Tokens::SessionAndSource, seat));
    (stream::select_all(readers).boxed(), frames)
}

fn arrival(message: Message, skip: usize, tokens: Tokens, replies: &Replies) -> Arrival {
    let received_at = Instant::now();
    let (envelope, refused) = envelope(&message, skip, tokens);
    let reply = message.reply.and_then(|subject| replies.on(subject.to_string()));
    let origin = reply.map(|reply| Arc::new(reply) as Arc<dyn Origin>);
    Arrival { payload: message.payload, envelope, origin, received_at, refused }
}

/// How a message is written, by its headers.
pub fn encoding_of(message: &Message) -> Encoding {
    message.headers.as_ref().map(from_headers).unwrap_or_default().encoding
}

/// What subject and headers say, and the failure of a frame that must not be run; `skip` is the length of the
/// subject before its `tokens`.
pub(super) fn envelope(message: &Message, skip: usize, tokens: Tokens) -> (Envelope, Option<Failure>) {
    let rest = message.subject.get(skip..).unwrap_or_default();
    let (session_id, source, lacks) = match (tokens, rest.split_once('.')) {
        (Tokens::Source, _) => (None, rest, None),
        (Tokens::SessionAndSource, Some((session, source))) => (Some(session.to_owned()), source, None),
        (Tokens::SessionAndSource, None) => {
            let message = format!("its subject names the session {rest:?} and no source after it");
            (Some(rest.to_owned()), rest, Some(Failure::new(FailureCode::InvalidFrame, message)))
        }
    };
    let (source, refused) = bounded(source);
    let headers = message.headers.as_ref().map(from_headers).unwrap_or_default();
    (Envelope { source, session_id, ..headers }, lacks.or(refused))
}

/// A source, and the failure of its frames where it had to be shortened.
pub(super) fn bounded(source: &str) -> (String, Option<Failure>) {
    let length = source.len();
    if length <= LONGEST_SOURCE {
        return (source.to_owned(), None);
    }
    let message =
        format!("its source, after the prefix of its subject, has {length} bytes, over {LONGEST_SOURCE}");
    let shortened = source[..source.floor_char_boundary(LONGEST_SOURCE)].trim_end_matches('.');
    (shortened.to_owned(), Some(Failure::new(FailureCode::InvalidFrame, message)))
}

/// What headers say of a frame, or of every frame of a batch.
pub(super) fn from_headers(headers: &HeaderMap) -> Envelope {
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    // Header names are case-sensitive in NATS; publishers write both.
    let any = |names: [&str; 2]| names.into_iter().find_map(text);
    Envelope {
        message_id: text("Nats-Msg-Id"),
        encoding: encoding(any(["Content-Type", "content-type"]).as_deref()),
        trace: TraceHeaders {
            traceparent: any(["traceparent", "Traceparent"]),
            tracestate: any(["tracestate", "Tracestate"]),
            baggage: any(["baggage", "Baggage"]),
        },
        ..Envelope::default()
    }
}

/// The encoding that a content type names. An unknown content type is read as MessagePack.
fn encoding(content_type: Option<&str>) -> Encoding {
    let kind = content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    if kind.eq_ignore_ascii_case("application/json") { Encoding::Json } else { Encoding::MessagePack }
}
