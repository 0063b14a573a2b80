//! What streams and consumers are, beside what the settings say.

use std::fmt;

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::stream::{Config as StreamConfig, Stream};

/// Compares a stream.
///
/// # Errors
/// It differs.
pub fn compare_stream(stream: &Stream, wanted: &StreamConfig) -> anyhow::Result<()> {
    let has = &stream.cached_info().config;
    let (mut subjects, mut wanted_subjects) = (has.subjects.clone(), wanted.subjects.clone());
    subjects.sort();
    wanted_subjects.sort();
    let mut differences = Differences::default();
    differences.compare("subjects", &subjects, &wanted_subjects);
    differences.compare("retention", &has.retention, &wanted.retention);
    differences.compare("discard", &has.discard, &wanted.discard);
    differences.compare("max_bytes", &has.max_bytes, &wanted.max_bytes);
    differences.compare("max_age", &has.max_age, &wanted.max_age);
    differences.compare("num_replicas", &has.num_replicas, &wanted.num_replicas);
    differences.compare("duplicate_window", &has.duplicate_window, &wanted.duplicate_window);
    differences.compare("subject_transform", &has.subject_transform, &wanted.subject_transform);
    differences.compare("storage", &has.storage, &wanted.storage);
    for (key, limit) in [
        ("max_msgs", has.max_messages),
        ("max_msgs_per_subject", has.max_messages_per_subject),
        ("max_msg_size", has.max_message_size.into()),
    ] {
        // 0 means none, too.
        if limit > 0 {
            differences.0.push(format!("{key} is {limit}, must be -1"));
        }
    }
    for (key, is_on) in [
        ("no_ack", has.no_ack),
        ("sealed", has.sealed),
        ("deny_delete", has.deny_delete),
        ("deny_purge", has.deny_purge),
    ] {
        differences.compare(key, &is_on, &false);
    }
    differences.into_result(format_args!("the stream {}", wanted.name))
}

/// Compares a consumer of `stream`.
///
/// # Errors
/// It differs.
pub fn compare_consumer(
    consumer: &Consumer<ConsumerConfig>,
    wanted: &ConsumerConfig,
    stream: &str,
) -> anyhow::Result<()> {
    let name = &consumer.cached_info().name;
    let has = &consumer.cached_info().config;
    let mut differences = Differences::default();
    differences.compare("ack_policy", &has.ack_policy, &wanted.ack_policy);
    differences.compare("ack_wait", &has.ack_wait, &wanted.ack_wait);
    differences.compare("max_deliver", &has.max_deliver, &wanted.max_deliver);
    differences.compare("filter_subject", &has.filter_subject, &wanted.filter_subject);
    differences.compare("max_ack_pending", &has.max_ack_pending, &wanted.max_ack_pending);
    differences.compare("deliver_policy", &has.deliver_policy, &wanted.deliver_policy);
    differences.compare("headers_only", &has.headers_only, &wanted.headers_only);
    differences.compare("priority_policy", &has.priority_policy, &wanted.priority_policy);
    differences.compare("priority_groups", &has.priority_groups, &wanted.priority_groups);
    differences.into_result(format_args!("the consumer {name} of the stream {stream}"))
}

/// A stream or consumer is otherwise than the settings say, which waiting does not change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Otherwise(String);

/// What is otherwise than it has to be.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, key: &str, has: &T, wants: &T) {
        if has != wants {
            self.0.push(format!("{key} is {has:?}, must be {wants:?}"));
        }
    }

    fn into_result(self, what: fmt::Arguments<'_>) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Otherwise(format!("{what} is otherwise than [jetstream] says: {}", self.0.join("; "))).into())
    }
}
