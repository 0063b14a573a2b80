//! What streams and consumers are, beside what the settings say.

use std::fmt;

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::stream::{Config as StreamConfig, Stream};

/// Compares fields by name, which NATS's configurations have too.
macro_rules! compare {
    ($differences:ident, $has:ident, $wanted:ident: $($key:ident)+) => {
        $($differences.compare(stringify!($key), &$has.$key, &$wanted.$key);)+
    };
}

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
    compare!(differences, has, wanted:
        retention discard max_bytes max_age num_replicas duplicate_window subject_transform storage);
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
        ("allow_msg_ttl", has.allow_message_ttl),
        ("allow_rollup_hdrs", has.allow_rollup),
        ("republish", has.republish.is_some()),
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
    compare!(differences, has, wanted:
        ack_policy ack_wait max_deliver filter_subject filter_subjects max_ack_pending deliver_policy
        replay_policy headers_only max_batch max_bytes max_expires inactive_threshold pause_until
        priority_policy priority_groups priority_timeout);
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
