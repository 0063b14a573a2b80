//! The subscription that frames arrive on.

use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use futures::{StreamExt, stream};
use sferic_actors::frame::{Encoding, Envelope, LONGEST_SOURCE, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, Origin};
use sferic_actors::ports::{Arrival, FrameSource};
use tokio::time::Instant;

use super::Connection;
use super::input::Frames;
use super::reader::Reader;
use super::reply::Replies;

/// Reads `<prefix>.frames.>` in a queue group once [`InputSwitch::pause`] is called with `false`. It
/// subscribes again with every new client and after a refusal; [`InputSwitch::state`] tells whether the
/// server has confirmed it.
pub fn subscribe(connection: &Connection, prefix: &str, queue_group: &str) -> (FrameSource, Frames) {
    let subject = format!("{prefix}.frames.>");
    let skip = prefix.len() + ".frames.".len();
    let (frames, seats) = Frames::new(1);
    let readers = seats.into_iter().map(|seat| {
        let reader = Reader::new(connection.clone(), subject.clone(), queue_group, seat);
        let replies = Replies::new(connection.clone(), prefix);
        reader.into_messages().map(move |message| arrival(message, skip, &replies)).boxed()
    });
    (stream::select_all(readers).boxed(), frames)
}

fn arrival(message: Message, skip: usize, replies: &Replies) -> Arrival {
    let received_at = Instant::now();
    let (envelope, refused) = envelope(&message, skip);
    let reply = message.reply.and_then(|subject| replies.on(subject.to_string()));
    let origin = reply.map(|reply| Arc::new(reply) as Arc<dyn Origin>);
    Arrival { payload: message.payload, envelope, origin, received_at, refused }
}

/// How a message is written, by its headers.
pub fn encoding_of(message: &Message) -> Encoding {
    message.headers.as_ref().map(from_headers).unwrap_or_default().encoding
}

/// What subject and headers say, and the failure of a frame that must not be run; `skip` is the length of the
/// subject before the source.
pub(super) fn envelope(message: &Message, skip: usize) -> (Envelope, Option<Failure>) {
    let (source, refused) = bounded(message.subject.get(skip..).unwrap_or_default());
    (Envelope { source, ..message.headers.as_ref().map(from_headers).unwrap_or_default() }, refused)
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
