//! What the server sends to whoever asks for frames.

use async_nats::{Message, StatusCode};

/// What a message on the inbox says.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It is a frame.
    Frame,
    /// The request is still there.
    Heartbeat,
    /// The request has ended.
    Over,
    /// The consumer cannot be had; with the reason.
    Gone(String),
}

/// What `message` says.
pub fn word(message: &Message) -> Word {
    let description = || message.description.clone().unwrap_or_default();
    match message.status {
        // A frame may have been published with a status, too.
        _ if Info::of(message).is_some() => Word::Frame,
        None | Some(StatusCode::OK) => Word::Frame,
        Some(StatusCode::IDLE_HEARTBEAT) => Word::Heartbeat,
        Some(StatusCode::NO_RESPONDERS) => Word::Gone("JetStream does not answer".to_owned()),
        Some(status) if status.as_u16() == 409 && description().contains("Deleted") => {
            Word::Gone(description())
        }
        Some(_) => Word::Over,
    }
}

/// What the subject of a frame's acknowledgement says of its delivery.
pub struct Info<'a> {
    pub stream: &'a str,
    pub sequence: u64,
    /// This one included.
    pub deliveries: u64,
    /// Nanoseconds since 1970.
    pub published_ns: u64,
}

impl<'a> Info<'a> {
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer's>.<time>.<pending>`, by ADR-15 also
    /// with a domain and an account's hash before the stream.
    pub fn of(message: &'a Message) -> Option<Self> {
        let tokens: Vec<&str> = message.reply.as_ref()?.split('.').collect();
        let at = if tokens.len() >= 11 { 4 } else { 2 };
        if tokens.len() < 9 || tokens[..2] != ["$JS", "ACK"] {
            return None;
        }
        Some(Self {
            stream: tokens[at],
            sequence: tokens[at + 3].parse().ok()?,
            deliveries: tokens[at + 2].parse().ok()?,
            published_ns: tokens[at + 5].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: Option<u16>, description: Option<&str>, reply: &str) -> Message {
        Message {
            subject: "_INBOX.1".into(),
            reply: Some(reply.into()),
            payload: Default::default(),
            headers: None,
            status: status.map(|code| StatusCode::from_u16(code).unwrap()),
            description: description.map(str::to_owned),
            length: 0,
        }
    }

    #[test]
    fn words_of_the_server() {
        let read = |status, description| word(&message(status, description, "r"));
        assert_eq!(read(None, None), Word::Frame);
        assert_eq!(read(Some(100), Some("Idle Heartbeat")), Word::Heartbeat);
        assert_eq!(read(Some(404), Some("No Messages")), Word::Over);
        assert_eq!(read(Some(408), Some("Request Timeout")), Word::Over);
        assert_eq!(read(Some(409), Some("Message Size Exceeds MaxBytes")), Word::Over);
        assert_eq!(read(Some(409), Some("Consumer Deleted")), Word::Gone("Consumer Deleted".to_owned()));
        assert!(matches!(read(Some(503), None), Word::Gone(_)));
    }

    #[test]
    fn a_delivery_is_read_in_both_forms() {
        for reply in [
            "$JS.ACK.IQ_FRAMES.sferic.3.100.7.1790230470084404000.42",
            "$JS.ACK.hub.HASH.IQ_FRAMES.sferic.3.100.7.1790230470084404000.42",
            "$JS.ACK._.HASH.IQ_FRAMES.sferic.3.100.7.1790230470084404000.42.token",
        ] {
            let message = message(None, None, reply);
            let Info { stream, sequence, deliveries, published_ns } = Info::of(&message).unwrap();
            let expected = ("IQ_FRAMES", 100, 3, 1_790_230_470_084_404_000);
            assert_eq!((stream, sequence, deliveries, published_ns), expected, "{reply}");
        }
        assert!(Info::of(&message(None, None, "_INBOX.a.b")).is_none());
    }
}
