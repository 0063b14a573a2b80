//! The section about JetStream.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Serialize};
use sferic_samples::units;

use super::check::{Check, quoted};

/// The longest time that a frame waits for its next delivery.
pub const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(30);

/// The most copies of a stream that NATS keeps.
const MOST_REPLICAS: usize = 5;

/// Each partition is a consumer, which costs the server memory and a request every few seconds.
const MOST_PARTITIONS: usize = 64;

/// The last of the priorities of NATS.
const LAST_PRIORITY: usize = 9;

/// The longest name of a group that NATS takes.
const GROUP_NAME: usize = 16;

/// Streams and consumer, where `nats.mode` is `jetstream`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Jetstream {
    /// Stream that holds the frames.
    pub frames_stream: String,
    /// Stream that holds the predictions and failures.
    pub outcomes_stream: String,
    /// Name of the durable consumer on the frames.
    pub durable: String,
    /// Make the streams and the consumer that are missing.
    pub create: bool,
    /// How long the server waits for an acknowledgement before it delivers a frame again.
    #[serde(with = "units::duration")]
    pub ack_wait: Duration,
    /// How often a frame is delivered at most.
    pub max_deliver: u32,
    /// How long the server remembers message ids.
    #[serde(with = "units::duration")]
    pub duplicate_window: Duration,
    /// How long the server may be away without an outcome being published twice.
    #[serde(with = "units::duration")]
    pub outage: Duration,
    /// Bytes of each stream.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// Copies of each stream.
    pub replicas: usize,
    /// Frames that have been in the stream for longer are not run; zero: all are.
    #[serde(with = "units::duration")]
    pub max_backlog_age: Duration,
    /// The failure of a frame that was delivered `max_deliver` times holds its payload, where it fits.
    pub dead_letter_payload: bool,
    /// Frames of one source are run in their order, one of each partition at a time.
    pub ordered: bool,
    /// Partitions of the sources, where `ordered`.
    pub partitions: usize,
    /// Name of the consumer's priority group; empty: all daemons are alike.
    pub group: String,
    /// What the group is for.
    pub group_policy: GroupPolicy,
    /// The lower, the sooner this daemon gets frames.
    pub priority: usize,
    /// This daemon gets frames only while so many wait.
    pub min_pending: usize,
}

/// Which daemons of a group get frames, by the names of NATS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupPolicy {
    /// Those for whom enough frames wait: a spare one helps when there is a backlog.
    #[default]
    Overflow,
    /// Those of the lowest `priority` that ask: a far one gets what the near ones leave.
    Prioritized,
    /// One, until it is gone.
    Pinned,
}

impl Default for Jetstream {
    fn default() -> Self {
        Self {
            frames_stream: "IQ_FRAMES".to_owned(),
            outcomes_stream: "IQ_OUTCOMES".to_owned(),
            durable: "sferic".to_owned(),
            create: true,
            ack_wait: Duration::from_secs(30),
            max_deliver: 5,
            duplicate_window: Duration::from_secs(10 * 60),
            outage: Duration::from_secs(2 * 60),
            max_bytes: 8 << 30,
            replicas: 1,
            max_backlog_age: Duration::ZERO,
            dead_letter_payload: true,
            ordered: false,
            partitions: 8,
            group: String::new(),
            group_policy: GroupPolicy::Overflow,
            priority: 0,
            min_pending: 0,
        }
    }
}

impl Jetstream {
    pub(super) fn validate(&self, check: &mut Check) {
        let (frames, outcomes) = (&self.frames_stream, &self.outcomes_stream);
        check.nats_name("frames_stream", frames);
        check.nats_name("outcomes_stream", outcomes);
        check.nats_name("durable", &self.durable);
        check.rule(
            outcomes != frames,
            "outcomes_stream",
            format_args!("is {}, which is `jetstream.frames_stream` too", quoted(outcomes)),
        );
        check.positive("ack_wait", self.ack_wait);
        check.at_least("max_deliver", self.max_deliver, 1);
        check.positive("duplicate_window", self.duplicate_window);
        let retries = (self.ack_wait + LONGEST_RETRY_DELAY).checked_mul(self.max_deliver);
        let needed = retries.and_then(|retries| retries.checked_add(self.outage)).unwrap_or(Duration::MAX);
        check.rule(
            self.duplicate_window.is_zero() || self.duplicate_window >= needed,
            "duplicate_window",
            format_args!(
                "is {}, must be at least max_deliver × (ack_wait + {}) + outage = {} × ({} + {}) + {} = {}",
                format_duration(self.duplicate_window),
                format_duration(LONGEST_RETRY_DELAY),
                self.max_deliver,
                format_duration(self.ack_wait),
                format_duration(LONGEST_RETRY_DELAY),
                format_duration(self.outage),
                format_duration(needed),
            ),
        );
        check.stored_bytes("max_bytes", self.max_bytes);
        let replicas = self.replicas;
        check.rule(
            (1..=MOST_REPLICAS).contains(&replicas),
            "replicas",
            format_args!("is {replicas}, must be from 1 to {MOST_REPLICAS}"),
        );
        let partitions = self.partitions;
        check.rule(
            (1..=MOST_PARTITIONS).contains(&partitions),
            "partitions",
            format_args!("is {partitions}, must be from 1 to {MOST_PARTITIONS}"),
        );
        self.validate_group(check);
    }

    fn validate_group(&self, check: &mut Check) {
        let (group, policy) = (&self.group, self.group_policy);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_/=".contains(c);
        check.rule(
            group.len() <= GROUP_NAME && group.chars().all(is_name),
            "group",
            format_args!(
                "is {}, must be at most {GROUP_NAME} letters, digits or any of - _ / =",
                quoted(group)
            ),
        );
        check.rule(
            group.is_empty() || !self.ordered,
            "group",
            "is set, but jetstream.ordered has a group of its own: leave one of them out",
        );
        let priority = self.priority;
        check.rule(
            priority == 0 || !group.is_empty() && policy == GroupPolicy::Prioritized,
            "priority",
            "is for a jetstream.group whose jetstream.group_policy is \"prioritized\"",
        );
        check.rule(
            priority <= LAST_PRIORITY,
            "priority",
            format_args!("is {priority}, must be from 0 to {LAST_PRIORITY}"),
        );
        check.rule(
            self.min_pending == 0 || !group.is_empty() && policy == GroupPolicy::Overflow,
            "min_pending",
            "is for a jetstream.group whose jetstream.group_policy is \"overflow\"",
        );
    }
}
