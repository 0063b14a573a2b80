//! The consumers that deliver frames: on the frames of single receivers, and on those of sessions.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy};
use sferic_settings::{GroupPolicy, Jetstream, given};

use super::streams::Streams;

/// Frames that may wait for their acknowledgement, those that wait for their next delivery included.
const MAX_ACK_PENDING: i64 = 10_000;

/// After this long without a request a pinned daemon is gone. Longer than a request lasts.
const PINNED_FOR: Duration = Duration::from_secs(15);

/// Group of the consumer of a partition.
const ORDERED: &str = "ordered";

impl Streams {
    /// Name of the consumer on the frames of sessions.
    pub fn session_consumer(&self) -> String {
        let tokens = self.sessions.subject.split('.').filter(|token| !matches!(*token, "*" | ">"));
        format!("{}-{}", self.settings.durable, tokens.collect::<Vec<_>>().join("-"))
    }

    /// Names of the consumers, and the subjects that each delivers: on the frames one, or one a partition,
    /// and while a model gathers one on the frames of sessions.
    pub fn consumers(&self) -> Vec<(String, String)> {
        named(self.consumer_configs())
    }

    /// Those on the frames.
    pub fn frame_consumers(&self) -> Vec<(String, String)> {
        named(self.frame_consumer_configs())
    }

    /// Name of the priority group, where there is one.
    pub fn group(&self) -> Option<&str> {
        if self.settings.ordered { Some(ORDERED) } else { given(&self.settings.group) }
    }

    pub(super) fn consumer_configs(&self) -> Vec<ConsumerConfig> {
        let mut configs = self.frame_consumer_configs();
        if *self.sessions.gathers.borrow() {
            configs.push(self.plain_consumer(self.session_consumer(), self.sessions.subject.clone()));
        }
        configs
    }

    fn plain_consumer(&self, name: String, filter_subject: String) -> ConsumerConfig {
        ConsumerConfig {
            durable_name: Some(name),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.settings.ack_wait,
            // The daemon counts: past its own bound a frame still ends in an outcome.
            max_deliver: -1,
            filter_subject,
            max_ack_pending: MAX_ACK_PENDING,
            ..ConsumerConfig::default()
        }
    }

    fn frame_consumer_configs(&self) -> Vec<ConsumerConfig> {
        let Jetstream { durable, ordered, partitions, group_policy, .. } = &self.settings;
        let frames = format!("{}.frames", self.prefix);
        let each = |name: String, filter_subject, max_ack_pending, priority_policy| ConsumerConfig {
            max_ack_pending,
            priority_groups: self.group().into_iter().map(str::to_owned).collect(),
            priority_timeout: match priority_policy {
                PriorityPolicy::PinnedClient => PINNED_FOR,
                _ => Duration::ZERO,
            },
            priority_policy,
            ..self.plain_consumer(name, filter_subject)
        };
        if *ordered {
            let one = |partition| {
                let filter_subject = format!("{frames}.{partition}.>");
                each(format!("{durable}-{partition}"), filter_subject, 1, PriorityPolicy::PinnedClient)
            };
            return (0..*partitions).map(one).collect();
        }
        let policy = match (self.group(), group_policy) {
            (None, _) => PriorityPolicy::None,
            (Some(_), GroupPolicy::Overflow) => PriorityPolicy::Overflow,
            (Some(_), GroupPolicy::Prioritized) => PriorityPolicy::Prioritized,
            (Some(_), GroupPolicy::Pinned) => PriorityPolicy::PinnedClient,
        };
        vec![each(durable.clone(), format!("{frames}.>"), MAX_ACK_PENDING, policy)]
    }

    /// Lets the consumer deliver to another daemon at once.
    pub async fn unpin(&self, consumer: &str) {
        let (stream, group) = (&self.settings.frames_stream, self.group().unwrap_or_default());
        let unpinned = async {
            let stream = self.context().get_stream_no_info(stream).await?;
            stream.unpin_consumer(consumer, group).await?;
            anyhow::Ok(())
        };
        if let Err(error) = unpinned.await {
            tracing::debug!(
                error = format!("{error:#}"),
                consumer,
                "not unpinned; others wait {PINNED_FOR:?}"
            );
        }
    }
}

fn named(configs: Vec<ConsumerConfig>) -> Vec<(String, String)> {
    let named = |config: ConsumerConfig| (config.durable_name.unwrap_or_default(), config.filter_subject);
    configs.into_iter().map(named).collect()
}
