//! Frames that end the client whenever the stream delivers them, because it cannot read their headers or
//! subject: found by their sequence, so that they fail and go, instead of coming back for ever.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{DeleteMessageError, DeleteMessageErrorKind};
use async_nats::{HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sferic_actors::account::ledger::End;
use sferic_actors::frame::{Delivery, Envelope};
use sferic_actors::outcome::{Failure, FailureCode, Origin, Prediction, PublishError};
use sferic_actors::ports::Arrival;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::streams::Streams;

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

#[derive(Serialize)]
struct Question<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

/// Sequences of the frames that were found and have not ended yet.
pub type Found = Arc<Mutex<HashSet<u64>>>;

/// Attempts to remove a frame.
const ATTEMPTS: usize = 5;

/// Adds to `arrivals` the unreadable ones among the frames that `consumer` has delivered and nobody has
/// acknowledged, but those found before. `skip` is the length of their subjects before the source.
///
/// # Errors
/// JetStream cannot be asked.
pub async fn find_unreadable(
    streams: &Streams,
    consumer: &str,
    skip: usize,
    found: &Found,
    arrivals: &mut VecDeque<Arrival>,
) -> anyhow::Result<()> {
    let (context, stream) = (streams.context(), &streams.settings().frames_stream);
    let consumer = context.get_stream_no_info(stream).await?.get_consumer::<pull::Config>(consumer).await;
    let consumer = consumer.map_err(|error| anyhow::anyhow!("{error}"))?;
    let info = consumer.cached_info();
    let (mut next, last) = (info.ack_floor.stream_sequence + 1, info.delivered.stream_sequence);
    while next <= last {
        let question = Question { seq: next, next_by_subj: &info.config.filter_subject };
        let message = match context.request(format!("STREAM.MSG.GET.{stream}"), &question).await? {
            Response::Ok(Stored { message }) => message,
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => break,
            Response::Err { error } => return Err(error.into()),
        };
        next = message.seq + 1;
        let headers = BASE64_STANDARD.decode(&message.hdrs)?;
        let sequence = message.seq;
        if let Err(why) = check_subject(&message.subject).and_then(|()| check_headers(&headers))
            && let Some(mark) = Mark::of(sequence, found)
        {
            tracing::warn!(stream, sequence, why, "a frame that the NATS client cannot read; it fails");
            arrivals.push_back(arrival(streams, message, &why, skip, mark)?);
        }
    }
    Ok(())
}

/// The place of a frame among those found. Dropped, it lets the frame be found again: where it is still in
/// the stream, it ends the client again.
#[derive(Debug)]
struct Mark {
    sequence: u64,
    found: Found,
}

impl Mark {
    /// `None` for a frame that has one.
    fn of(sequence: u64, found: &Found) -> Option<Self> {
        let is_new = locked(found).insert(sequence);
        is_new.then(|| Self { sequence, found: Arc::clone(found) })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        locked(&self.found).remove(&self.sequence);
    }
}

fn locked(found: &Found) -> MutexGuard<'_, HashSet<u64>> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

fn arrival(
    streams: &Streams,
    message: Message,
    why: &str,
    skip: usize,
    mark: Mark,
) -> anyhow::Result<Arrival> {
    let Message { seq, subject, data, time, .. } = message;
    let published = OffsetDateTime::parse(&time, &Rfc3339)?.unix_timestamp_nanos();
    let delivery = Delivery {
        id: format!("{}:{seq}", streams.settings().frames_stream),
        stream_seq: seq,
        deliveries: 1,
        published_ns: u64::try_from(published)?,
        payload: None,
    };
    Ok(Arrival {
        payload: Bytes::from(BASE64_STANDARD.decode(data)?),
        envelope: Envelope {
            // What no client can read must not be in the outcome's subject.
            source: subject.get(skip..).unwrap_or_default().replace(is_odd, "_"),
            delivery: Some(delivery),
            ..Envelope::default()
        },
        origin: Some(Arc::new(Removed { streams: streams.clone(), mark: Arc::new(mark) })),
        received_at: Instant::now(),
        refused: Some(Failure::new(FailureCode::InvalidFrame, format!("the message cannot be read: {why}"))),
    })
}

/// Removes the frame from its stream once its failure is published: it cannot be acknowledged.
#[derive(Debug)]
struct Removed {
    streams: Streams,
    mark: Arc<Mark>,
}

impl Origin for Removed {
    fn ended(&self, end: Result<End, &PublishError>, _: &Result<Prediction, Failure>) {
        if matches!(end, Ok(End::Failure | End::Duplicate)) {
            tokio::spawn(remove(self.streams.clone(), Arc::clone(&self.mark)));
        }
    }
}

async fn remove(streams: Streams, mark: Arc<Mark>) {
    let (stream, sequence) = (&streams.settings().frames_stream, mark.sequence);
    let mut attempt = 1;
    loop {
        let removed = async {
            let stream = streams.context().get_stream_no_info(stream).await?;
            stream.delete_message(sequence).await?;
            anyhow::Ok(())
        };
        let Err(error) = streams.answered(removed).await else { return };
        let is_refused = error
            .downcast_ref::<DeleteMessageError>()
            .is_some_and(|error| matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)));
        // Refused after an attempt that was not answered, it is gone.
        if is_refused && attempt > 1 {
            return;
        }
        if is_refused || attempt == ATTEMPTS {
            let error = format!("{error:#}");
            return tracing::warn!(stream, sequence, error, "the frame cannot be removed from its stream");
        }
        attempt += 1;
    }
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
