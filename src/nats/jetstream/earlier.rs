//! Looks earlier outcomes up, of frames whose ids the stream of outcomes may have forgotten.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures::StreamExt;
use sferic_actors::frame::Delivery;
use time::OffsetDateTime;

use super::streams::Streams;

/// Time without a further outcome.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is looked for: by source the ids of outcomes, and the time of the first of their frames.
#[derive(Debug, Default)]
pub struct Wanted(HashMap<String, (HashSet<String>, u64)>);

impl Wanted {
    /// Adds a frame.
    pub fn add(&mut self, source: &str, delivery: &Delivery) {
        let (ids, since) =
            self.0.entry(source.to_owned()).or_insert_with(|| (HashSet::new(), delivery.published_ns));
        ids.insert(delivery.id.clone());
        *since = delivery.published_ns.min(*since);
    }

    /// The ids among them that have an outcome: one pass over the outcomes of each source since its first
    /// frame.
    ///
    /// # Errors
    /// The stream of outcomes cannot be read.
    pub async fn find(&self, streams: &Streams) -> anyhow::Result<HashSet<String>> {
        let mut found = HashSet::new();
        for (source, (ids, since)) in &self.0 {
            let passed = pass(streams, source, ids, *since, &mut found).await;
            passed.with_context(|| format!("outcomes of {source}"))?;
        }
        Ok(found)
    }
}

async fn pass(
    streams: &Streams,
    source: &str,
    ids: &HashSet<String>,
    since: u64,
    found: &mut HashSet<String>,
) -> anyhow::Result<()> {
    let (context, prefix) = (streams.context(), streams.prefix());
    let stream = context.get_stream(&streams.settings().outcomes_stream).await?;
    let config = OrderedConfig {
        filter_subjects: ["predictions", "failures"].map(|kind| format!("{prefix}.{kind}.{source}")).to_vec(),
        deliver_policy: DeliverPolicy::ByStartTime {
            start_time: OffsetDateTime::from_unix_timestamp_nanos(since.into())?,
        },
        headers_only: true,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut left = ids.len();
    let mut messages = consumer.messages().await?;
    loop {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let Some(message) = next.with_context(|| format!("nothing came for {PATIENCE:?}"))? else {
            return Ok(());
        };
        let message = message?;
        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        if let Some(id) = id.map(|id| id.as_str()).filter(|id| ids.contains(*id))
            && found.insert(id.to_owned())
        {
            left -= 1;
        }
        if left == 0 || message.info().map_err(anyhow::Error::msg)?.pending == 0 {
            return Ok(());
        }
    }
}
