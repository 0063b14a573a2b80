//! Which frames have an outcome already, where the stream of outcomes may have forgotten their ids: read from
//! the outcomes themselves.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::Stream;
use futures::StreamExt;
use sferic_actors::frame::Delivery;
use time::OffsetDateTime;

use super::streams::{Streams, nanoseconds};

/// Time without a further outcome.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far before a frame its source's outcomes are read: clocks of servers differ, and the next frame may be
/// an older one.
const MARGIN: Duration = Duration::from_secs(10);

/// Up to so many sources are read each by itself; more at once, together with all others.
const FEW_SOURCES: usize = 4;

/// What is remembered at most: words of 64 sequences, and sources.
const MAX_WORDS: usize = 1 << 20;
const MAX_SOURCES: usize = 10_000;

/// The frames that have an outcome, as far as outcomes were read. Each outcome is read once, so that a long
/// backlog takes time in proportion to its length.
#[derive(Debug, Default)]
pub struct Earlier {
    /// When the streams of frames and of outcomes were made whose sequences these are.
    made_ns: [u64; 2],
    /// A bit for each sequence that has an outcome.
    words: HashMap<u64, u64>,
    /// What was read of each source's outcomes; of those of all together, under `>`.
    read: HashMap<String, Extent>,
}

/// What was read of outcomes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    since_ns: u64,
    /// The sequence of the next one; `None` where there was none yet.
    next: Option<u64>,
}

impl Earlier {
    /// Reads what is not known of the outcomes of these frames' sources.
    ///
    /// # Errors
    /// The stream of outcomes cannot be read.
    pub async fn look(
        &mut self,
        streams: &Streams,
        frames: impl Iterator<Item = (&str, &Delivery)>,
    ) -> anyhow::Result<()> {
        let mut first = HashMap::new();
        for (source, delivery) in frames {
            let since = first.entry(source).or_insert(delivery.published_ns);
            *since = delivery.published_ns.min(*since);
        }
        if first.is_empty() {
            return Ok(());
        }
        let context = streams.context();
        let outcomes = context.get_stream(&streams.settings().outcomes_stream).await?;
        let made_ns = [streams.frames_made_ns(), nanoseconds(outcomes.cached_info().created)];
        let is_large = self.words.len() > MAX_WORDS || self.read.len() > MAX_SOURCES;
        if self.made_ns != made_ns || is_large {
            *self = Self { made_ns, ..Self::default() };
        }
        if first.len() > FEW_SOURCES {
            let since = first.values().copied().min().unwrap_or_default();
            first = HashMap::from([(">", since)]);
        }
        for (source, first_ns) in first {
            let looked = self.look_at(streams, &outcomes, source, first_ns).await;
            looked.with_context(|| format!("outcomes of {source}"))?;
        }
        Ok(())
    }

    async fn look_at(
        &mut self,
        streams: &Streams,
        outcomes: &Stream,
        source: &str,
        first_ns: u64,
    ) -> anyhow::Result<()> {
        // Outcomes from before the stream was made are of other frames.
        let since_ns = first_ns.saturating_sub(MARGIN.as_nanos() as u64).max(self.made_ns[0]);
        let known = self.read.get(source).filter(|extent| extent.since_ns <= since_ns).copied();
        let extent = known.unwrap_or(Extent { since_ns, next: None });
        let start_time = OffsetDateTime::from_unix_timestamp_nanos(extent.since_ns.into())?;
        let prefix = streams.prefix();
        let subject = |kind| format!("{prefix}.{kind}.{source}");
        let config = OrderedConfig {
            filter_subjects: vec![subject("predictions"), subject("failures")],
            deliver_policy: match extent.next {
                Some(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
                None => DeliverPolicy::ByStartTime { start_time },
            },
            headers_only: true,
            ..OrderedConfig::default()
        };
        let consumer = outcomes.create_consumer(config).await?;
        let name = consumer.cached_info().name.clone();
        let mut pending = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await?;
        // Kept up to date, so that a look that is cut off goes on from there.
        let extent = self.read.entry(source.to_owned()).insert_entry(extent).into_mut();
        while pending > 0 {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await;
            let Some(message) = next.with_context(|| format!("nothing came for {PATIENCE:?}"))? else {
                break;
            };
            let message = message?;
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
            if let Some(sequence) = id.and_then(|id| sequence(id.as_str(), streams)) {
                *self.words.entry(sequence / 64).or_default() |= 1 << (sequence % 64);
            }
            let info = message.info().map_err(anyhow::Error::msg)?;
            extent.next = Some(info.stream_sequence + 1);
            pending = info.pending;
        }
        drop(messages);
        // It would go by itself, but later than the next ones come.
        if let Err(error) = outcomes.delete_consumer(&name).await {
            tracing::debug!(%error, name, "a consumer of outcomes is left to itself");
        }
        Ok(())
    }

    /// Whether the frame has an outcome, of those that were read.
    pub fn has(&self, delivery: &Delivery) -> bool {
        let word = self.words.get(&(delivery.stream_seq / 64)).copied().unwrap_or_default();
        word >> (delivery.stream_seq % 64) & 1 == 1
    }
}

/// The frame's sequence, from the id of its outcome.
fn sequence(id: &str, streams: &Streams) -> Option<u64> {
    let rest = id.strip_prefix(&streams.settings().frames_stream)?.strip_prefix(':')?;
    rest.split(':').next()?.parse().ok()
}
