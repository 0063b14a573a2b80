//! Frames straight from their stream, with the outcomes of theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use serde_json::Value;
use sferic_settings::Settings;

use super::item::Item;
use crate::cli::outcome::Outcome;
use crate::nats::{Connection, encoding_of};
use crate::recorder::{frame, is_replayed};

/// Time for the next message of a range that is known to have one.
const NEXT_WITHIN: Duration = Duration::from_secs(30);

/// Which messages of the stream of frames.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The first sequence.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// The first time.
    pub since: Option<Timestamp>,
    /// The last one.
    pub until: Option<Timestamp>,
}

/// The frames of a range, oldest first, and how many there are at most. Messages that cannot be read are
/// counted in `unreadable`.
///
/// # Errors
/// No streams, or a server that does not answer.
pub async fn frames(
    connection: &Connection,
    settings: &Settings,
    range: Range,
    unreadable: Arc<AtomicU64>,
) -> anyhow::Result<(BoxStream<'static, anyhow::Result<Item>>, u64)> {
    let context = jetstream::new(connection.client());
    let prefix = settings.nats.prefix.clone();
    let name = &settings.jetstream.frames_stream;
    let mut of_frames =
        context.get_stream(name).await.with_context(|| format!("cannot read the stream {name}"))?;
    let state =
        of_frames.info().await.with_context(|| format!("cannot read the stream {name}"))?.state.clone();
    let (first, last) = (range.from.max(state.first_sequence), range.to.min(state.last_sequence));
    if state.messages == 0 || first > last {
        bail!(
            "{name} has no message from {} to {}: it has those from {} to {}",
            range.from,
            range.to,
            state.first_sequence,
            state.last_sequence
        );
    }
    let policy = match range.since {
        Some(since) => DeliverPolicy::ByStartTime { start_time: moment(since)? },
        None => DeliverPolicy::ByStartSequence { start_sequence: first },
    };
    let outcomes = outcomes(&context, settings, &range, first, last).await?;
    let messages = messages(&of_frames, policy, &format!("{prefix}.frames.>")).await?;
    let items = stream::unfold((messages, outcomes), move |(mut messages, mut outcomes)| {
        let (prefix, unreadable) = (prefix.clone(), Arc::clone(&unreadable));
        async move {
            loop {
                let message = match next(&mut messages).await {
                    Ok(Some(message)) => message,
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), (messages, outcomes))),
                };
                let Ok(info) = message.info() else { continue };
                let published = info.published.unix_timestamp_nanos();
                let is_after = range.until.is_some_and(|until| published > until.as_nanosecond());
                if info.stream_sequence > last || is_after {
                    return None;
                }
                let is_last = info.stream_sequence == last || info.pending == 0;
                let outcome = outcomes.remove(&info.stream_sequence).unwrap_or_default();
                let source =
                    message.subject.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix(".frames."));
                let source = source.filter(|source| !is_replayed(source));
                let item = source.and_then(|source| item(source, &message, outcome, published));
                if source.is_some() && item.is_none() {
                    unreadable.fetch_add(1, Relaxed);
                }
                if is_last {
                    // Nothing comes after it, which would be waited for.
                    messages = stream::empty().boxed();
                }
                match item {
                    Some(item) => return Some((Ok(item), (messages, outcomes))),
                    None if is_last => return None,
                    None => {}
                }
            }
        }
    });
    Ok((items.boxed(), last - first + 1))
}

/// The outcomes of frames of a range, by the frame's sequence.
async fn outcomes(
    context: &jetstream::Context,
    settings: &Settings,
    range: &Range,
    first: u64,
    last: u64,
) -> anyhow::Result<HashMap<u64, Value>> {
    let name = &settings.jetstream.outcomes_stream;
    let mut stream =
        context.get_stream(name).await.with_context(|| format!("cannot read the stream {name}"))?;
    let mut outcomes = HashMap::new();
    if stream.info().await.with_context(|| format!("cannot read the stream {name}"))?.state.messages == 0 {
        return Ok(outcomes);
    }
    let policy = match range.since {
        Some(since) => DeliverPolicy::ByStartTime { start_time: moment(since)? },
        None => DeliverPolicy::All,
    };
    let mut messages = messages(&stream, policy, "").await?;
    while let Some(message) = next(&mut messages).await? {
        if let Ok(outcome) = Outcome::decode(&message)
            && let Some(sequence) = outcome.get("stream_seq").and_then(rmpv::Value::as_u64)
            && (first..=last).contains(&sequence)
        {
            outcomes.insert(sequence, serde_json::from_str(&outcome.json()).unwrap_or_default());
        }
        if message.info().is_ok_and(|info| info.pending == 0) {
            break;
        }
    }
    Ok(outcomes)
}

type Messages = BoxStream<'static, anyhow::Result<Message>>;

async fn messages(
    stream: &jetstream::stream::Stream,
    deliver_policy: DeliverPolicy,
    filter_subject: &str,
) -> anyhow::Result<Messages> {
    let config = OrderedConfig {
        deliver_policy,
        filter_subject: filter_subject.to_owned(),
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.context("cannot read the stream")?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(stream::empty().boxed());
    }
    let messages = consumer.messages().await.context("cannot read the stream")?;
    Ok(messages.map(|message| message.context("cannot read the stream")).boxed())
}

async fn next(messages: &mut Messages) -> anyhow::Result<Option<Message>> {
    let next = tokio::time::timeout(NEXT_WITHIN, messages.next()).await;
    next.with_context(|| format!("the stream gives no message within {NEXT_WITHIN:?}"))?.transpose()
}

/// `None` where it is no frame.
fn item(source: &str, message: &Message, outcome: Value, published: i128) -> Option<Item> {
    let read = frame::read(&message.payload, encoding_of(message))?;
    let (mut keys, datatype) = (read.keys, read.format.datatype);
    let id = keys.get("frame_id").or_else(|| outcome.get("frame_id")).cloned();
    if let Some(id) = id {
        keys.insert("frame_id".to_owned(), id);
    }
    let received_at = Timestamp::from_nanosecond(published).ok()?;
    let samples = read.samples.into_owned();
    Some(Item { source: source.to_owned(), received_at, keys, outcome, datatype, samples })
}

fn moment(time: Timestamp) -> anyhow::Result<time::OffsetDateTime> {
    Ok(time::OffsetDateTime::from_unix_timestamp_nanos(time.as_nanosecond())?)
}
