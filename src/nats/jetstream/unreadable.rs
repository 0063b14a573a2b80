//! Frames that end the client whenever the stream delivers them, because it cannot read their headers or
//! subject: found by their sequence, so that they fail and go, instead of coming back for ever.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{DeleteMessageError, DeleteMessageErrorKind};
use async_nats::{HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sferic_actors::account::ledger::End;
use sferic_actors::frame::{Delivery, Envelope};
use sferic_actors::outcome::{Failure, FailureCode, Origin, Prediction, PublishError};
use sferic_actors::ports::Arrival;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::acks::Acks;
use super::streams::{Streams, nanoseconds};
use crate::nats::Connection;
use crate::nats::frames::bounded;

/// A message as the stream has it; unlike the library's, its headers are not read.
#[derive(Deserialize)]
struct Stored {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    seq: u64,
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

/// Attempts to remove a frame, and the pause between them.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Frames that are asked for at once: the server is not near.
const TOGETHER: usize = 32;

/// Finds the unreadable frames of a consumer.
pub struct Unreadable {
    connection: Connection,
    /// Ends of the client because of a message that were looked into.
    looked_into: u64,
    streams: Streams,
    acks: Acks,
    consumer: String,
    /// Length of its subjects before the source.
    skip: usize,
    /// The last sequence that was looked at, each once, and when the stream was made whose it is.
    looked: u64,
    made_ns: u64,
    marks: Marks,
    arrivals: VecDeque<Arrival>,
}

impl Unreadable {
    /// Of `consumer`, which delivers `subject`, whose last token is `>`.
    pub fn new(
        connection: &Connection,
        streams: &Streams,
        acks: &Acks,
        (consumer, subject): (&str, &str),
    ) -> Self {
        Self {
            connection: connection.clone(),
            looked_into: connection.unreadable(),
            made_ns: 0,
            streams: streams.clone(),
            acks: acks.clone(),
            consumer: consumer.to_owned(),
            skip: subject.len() - 1,
            looked: 0,
            marks: Marks::default(),
            arrivals: VecDeque::new(),
        }
    }

    /// The next one of those found, which is to fail.
    pub fn next(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    /// Whether a frame has ended the client since the last look.
    pub fn is_due(&self) -> bool {
        self.connection.unreadable() > self.looked_into
    }

    /// Looks at the frames that the consumer has delivered and nobody has acknowledged. Where it fails or is
    /// cut off, it goes on from there the next time.
    pub async fn look(&mut self) {
        let (ends, streams) = (self.connection.unreadable(), self.streams.clone());
        match streams.answered(self.find()).await {
            Ok(()) => {
                self.looked_into = ends;
                // The pin came with the frame that could not be read, and nobody else would get any.
                if streams.is_pinned() {
                    streams.unpin(&self.consumer).await;
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "what ended the client cannot be looked for");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn find(&mut self) -> anyhow::Result<()> {
        let streams = self.streams.clone();
        let (context, name) = (streams.context(), &streams.settings().frames_stream);
        let frames = context.get_stream(name).await?;
        let consumer = frames.consumer_info(&self.consumer).await?;
        let last = consumer.delivered.stream_sequence;
        let made_ns = nanoseconds(frames.cached_info().created);
        if std::mem::replace(&mut self.made_ns, made_ns) != made_ns {
            self.looked = 0;
        }
        let first = consumer.ack_floor.stream_sequence.max(self.looked) + 1;
        let first = first.max(frames.cached_info().state.first_sequence);
        let read = |sequence| {
            let question = Question { seq: sequence };
            let (context, subject) = (&context, format!("STREAM.MSG.GET.{name}"));
            async move { (sequence, context.request(subject, &question).await) }
        };
        let mut answers =
            stream::iter(self.marks.to_find().into_iter().chain(first..=last)).map(read).buffered(TOGETHER);
        while let Some((sequence, answer)) = answers.next().await {
            match answer? {
                Response::Ok(Stored { message }) => self.look_at(message)?,
                Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                    self.marks.forget(sequence);
                }
                Response::Err { error } => return Err(error.into()),
            }
            self.looked = self.looked.max(sequence);
        }
        Ok(())
    }

    fn look_at(&mut self, message: Message) -> anyhow::Result<()> {
        let Message { seq: sequence, subject, hdrs, data, time } = message;
        let headers = BASE64_STANDARD.decode(&hdrs)?;
        let checked = check_subject(&subject)
            .and_then(|()| check_headers(&headers))
            .and_then(|()| if self.streams.is_pinned() { check_end(&headers) } else { Ok(()) });
        let Err(why) = checked else { return Ok(()) };
        let stream = &self.streams.settings().frames_stream;
        let rest = subject.get(self.skip..).unwrap_or_default();
        let is_session = self.consumer == self.streams.session_consumer();
        let (session_id, source) = match rest.split_once('.').filter(|_| is_session) {
            Some((session, source)) => (Some(session.replace(is_odd, "_")), source),
            None => (None, rest),
        };
        let is_frame = self
            .streams
            .consumers()
            .iter()
            .any(|(consumer, of)| *consumer == self.consumer && subject.starts_with(&of[..self.skip]));
        if !is_frame {
            return Ok(());
        }
        let Some(mark) = self.marks.mark(sequence) else { return Ok(()) };
        tracing::warn!(stream, sequence, why, "a frame that the NATS client cannot read; it fails");
        let published = OffsetDateTime::parse(&time, &Rfc3339)?.unix_timestamp_nanos();
        let published_ns = u64::try_from(published)?;
        let delivery = Delivery {
            id: format!("{stream}:{sequence}"),
            stream_seq: sequence,
            deliveries: 1,
            published_ns,
            payload: None,
        };
        // What no client can read must not be in the outcome's subject.
        let (source, _) = bounded(&source.replace(is_odd, "_"));
        let failure = Failure::new(FailureCode::InvalidFrame, format!("the message cannot be read: {why}"));
        self.arrivals.push_back(Arrival {
            payload: Bytes::from(BASE64_STANDARD.decode(data)?),
            envelope: Envelope { source, session_id, delivery: Some(delivery), ..Envelope::default() },
            origin: Some(Arc::new(Removed {
                streams: self.streams.clone(),
                acks: self.acks.clone(),
                mark: Arc::new(mark),
            })),
            received_at: Instant::now(),
            refused: Some(failure),
        });
        Ok(())
    }
}

#[derive(Serialize)]
struct Question {
    seq: u64,
}

/// Sequences of the frames that were found; whether they are being failed, or have to be found again.
#[derive(Debug, Clone, Default)]
struct Marks(Arc<Mutex<BTreeMap<u64, bool>>>);

impl Marks {
    /// `None` for a frame that is being failed.
    fn mark(&self, sequence: u64) -> Option<Mark> {
        let was_marked = self.locked().insert(sequence, true).unwrap_or_default();
        (!was_marked).then(|| Mark { sequence, marks: self.clone() })
    }

    fn to_find(&self) -> Vec<u64> {
        self.locked().iter().filter(|(_, is_marked)| !**is_marked).map(|(sequence, _)| *sequence).collect()
    }

    fn forget(&self, sequence: u64) {
        self.locked().remove(&sequence);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark of a frame that is being failed. Dropped, it lets the frame be found again: where it is still in
/// the stream, it ends the client again.
#[derive(Debug)]
struct Mark {
    sequence: u64,
    marks: Marks,
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(is_marked) = self.marks.locked().get_mut(&self.sequence) {
            *is_marked = false;
        }
    }
}

/// Removes the frame from its stream once its failure is published: it cannot be acknowledged.
#[derive(Debug)]
struct Removed {
    streams: Streams,
    acks: Acks,
    mark: Arc<Mark>,
}

impl Origin for Removed {
    fn ended(&self, end: Result<End, &PublishError>, _: &Result<Prediction, Failure>) {
        if matches!(end, Ok(End::Failure | End::Duplicate)) {
            let (streams, mark, removing) =
                (self.streams.clone(), Arc::clone(&self.mark), self.acks.removing());
            tokio::spawn(async move {
                remove(&streams, &mark).await;
                drop(removing);
            });
        }
    }
}

async fn remove(streams: &Streams, mark: &Mark) {
    let (stream, sequence) = (&streams.settings().frames_stream, mark.sequence);
    for attempt in 1..=ATTEMPTS {
        let removed = async {
            let stream = streams.context().get_stream_no_info(stream).await?;
            stream.delete_message(sequence).await?;
            anyhow::Ok(())
        };
        let error = match streams.answered(removed).await {
            Ok(()) => return mark.marks.forget(sequence),
            // An attempt before was not answered, or somebody else has removed it.
            Err(error) if is_gone(&error) => return mark.marks.forget(sequence),
            Err(error) => format!("{error:#}"),
        };
        if attempt == ATTEMPTS {
            tracing::warn!(stream, sequence, error, "the frame cannot be removed from its stream");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<DeleteMessageError>().map(DeleteMessageError::kind);
    let Some(DeleteMessageErrorKind::JetStream(error)) = kind else { return false };
    [ErrorCode::SEQUENCE_NOT_FOUND, ErrorCode::NO_MESSAGE_FOUND].contains(&error.error_code())
}

/// Whether the client's parser takes the subject for one: it divides the line by white space.
fn check_subject(subject: &str) -> Result<(), String> {
    if subject.contains(is_odd) {
        return Err(format!("the subject {subject:?} is no text without white space"));
    }
    Ok(())
}

fn is_odd(c: char) -> bool {
    c.is_whitespace() || c == char::REPLACEMENT_CHARACTER
}

/// Whether the block ends as the server takes for granted that adds a pin before its last line.
fn check_end(headers: &[u8]) -> Result<(), String> {
    if headers.is_empty() || headers.ends_with(b"\r\n\r\n") {
        return Ok(());
    }
    Err("its headers do not end with an empty line".to_owned())
}

/// Whether the client's parser takes this for a header block; an empty one is none.
fn check_headers(headers: &[u8]) -> Result<(), String> {
    if headers.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str, why: &dyn fmt::Display| format!("{what}: {why}");
    let text = std::str::from_utf8(headers).map_err(|why| wrong("its headers are no UTF-8", &why))?;
    let mut lines = text.lines().peekable();
    let status = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    let status = status.ok_or("its headers do not begin with NATS/1.0")?.trim();
    let code = status.split_once(' ').map_or(status, |(code, _)| code.trim());
    if !code.is_empty() && code.parse::<StatusCode>().is_err() {
        return Err(format!("its status {code:?} is no number"));
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or("a line of its headers has no colon")?;
        HeaderName::from_str(name).map_err(|why| wrong("the name of a header", &why))?;
        let mut value = value.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        HeaderValue::from_str(value.trim()).map_err(|why| wrong("the value of a header", &why))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_cannot_read_is_found() {
        for headers in [
            &b"NATS/1.0\r\nSite: a\rb\r\n\r\n"[..],
            b"NATS/1.0\r\nSite: M\xfcnchen\r\n\r\n",
            b"NATS/1.0\r\nSite\r\n\r\n",
            b"NATS/1.0\r\nThe Site: x\r\n\r\n",
            b"NATS/1.0 good\r\n\r\n",
            b"NATS/3.0\r\nSite: x\r\n\r\n",
        ] {
            assert!(check_headers(headers).is_err(), "{}", headers.escape_ascii());
        }
        for headers in [
            &b""[..],
            b"NATS/1.0\r\n: x\r\n\r\n",
            b"NATS/1.0\r\nSite: x\r\n\ty\r\n\r\n",
            b"NATS/1.0 503 none\r\n\r\n",
            "NATS/1.0\r\nbaggage: site=Z\u{fc}rich\r\n\r\n".as_bytes(),
        ] {
            assert_eq!(check_headers(headers), Ok(()), "{}", headers.escape_ascii());
        }
        assert!(
            check_subject("iq.frames.a\u{2003}b").is_err() && check_subject("iq.frames.\u{fffd}").is_err()
        );
        assert_eq!(check_subject("iq.frames.\u{6e2c}\u{8a66}"), Ok(()));
    }
}
