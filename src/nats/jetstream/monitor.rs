//! Watches the streams: how much waits, what was removed before it was read, and what may be removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use futures::TryStreamExt;
use sferic_actors::task::Task;
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::streams::Streams;
use crate::nats::Peers;

/// Interval of the look.
const LOOK: Duration = Duration::from_secs(1);

/// How long what a look has shown is taken for true.
const HOLDS: Duration = Duration::from_secs(5);

/// What waits in the stream of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Backlog {
    /// Frames that were not delivered yet.
    pub pending: u64,
    /// Frames that were delivered and are not acknowledged.
    pub unacknowledged: u64,
    /// Age of the oldest frame that is not acknowledged; zero without one.
    pub oldest: Duration,
    /// Age of the oldest outcome that its stream still has; `None` while it has room for more.
    pub oldest_outcome: Option<Duration>,
}

/// What the last look showed, and when it was; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Option<(Instant, Backlog)>>>);

impl Monitor {
    /// Looks once, and then every second, until the task is dropped. What concerns all daemons of the
    /// consumer is done by the eldest of them: it calls `lost` with the number of frames that were passed
    /// over unread, and why, and removes what may go.
    pub async fn start(
        streams: Streams,
        peers: Peers,
        lost: impl Fn(u64, &'static str) + Send + Sync + 'static,
    ) -> (Self, Task) {
        let monitor = Self::default();
        let watching = monitor.clone();
        let mut watch = Watch { streams, peers, made: None, before: HashMap::new(), last: 0 };
        // From here on is counted; the second look shows what could not be seen.
        let _ = watch.look(&monitor).await;
        let task = Task::spawn(async move {
            let throttle = Throttle::new(Duration::from_secs(60));
            loop {
                tokio::time::sleep(LOOK).await;
                match watch.look(&watching).await {
                    Ok(missed) => {
                        for (frames, reason) in [(missed.removed, "retention"), (missed.skipped, "skipped")] {
                            if frames > 0 {
                                tracing::warn!(frames, reason, "the stream passed over frames unread");
                                lost(frames, reason);
                            }
                        }
                    }
                    Err(error) => {
                        if let Some(suppressed) = throttle.pass(Instant::now()) {
                            tracing::warn!(
                                error = format!("{error:#}"),
                                suppressed,
                                "the streams cannot be looked at"
                            );
                        }
                    }
                }
            }
        });
        (monitor, task)
    }

    /// What waits; `None` where that is not known.
    pub fn backlog(&self) -> Option<Backlog> {
        let looked = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.filter(|(at, _)| at.elapsed() < HOLDS).map(|(_, backlog)| backlog)
    }
}

struct Watch {
    streams: Streams,
    peers: Peers,
    /// When the stream of frames was made.
    made: Option<time::OffsetDateTime>,
    /// How far each consumer was at the last look.
    before: HashMap<String, Position>,
    /// The last sequence at the look before.
    last: u64,
}

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Position {
    /// Sequence in the stream of the last frame that was delivered or passed over.
    stream: u64,
    /// Deliveries.
    deliveries: u64,
    /// Frames not delivered yet.
    pending: u64,
}

impl Watch {
    /// Returns how many frames were passed over unread since the last look.
    async fn look(&mut self, monitor: &Monitor) -> anyhow::Result<Missed> {
        let (context, settings) = (self.streams.context(), self.streams.settings());
        let frames = context.get_stream(&settings.frames_stream).await?;
        let outcomes = context.get_stream(&settings.outcomes_stream).await?;
        let (info, kept) = (frames.cached_info(), outcomes.cached_info());
        if self.made.replace(info.created) != Some(info.created) {
            // Sequences of a stream that is gone say nothing of this one's.
            self.before.clear();
            self.last = 0;
        }
        let mut backlog = Backlog {
            oldest_outcome: is_full(kept).then(|| age(kept.state.first_timestamp)),
            ..Backlog::default()
        };
        let mut missed = Missed::default();
        for name in self.streams.consumers().into_iter().map(|(name, _)| name) {
            let consumer = frames.consumer_info(&name).await?;
            self.streams.saw_made(info.created, Some(consumer.created));
            if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
                let oldest = oldest_unacknowledged(&frames, &consumer).await;
                backlog.oldest = backlog.oldest.max(oldest.map(age).unwrap_or_default());
            }
            backlog.pending += consumer.num_pending;
            backlog.unacknowledged += consumer.num_ack_pending as u64;
            let position = Position {
                stream: consumer.delivered.stream_sequence,
                deliveries: consumer.delivered.consumer_sequence,
                pending: consumer.num_pending,
            };
            if let Some(before) = self.before.insert(name, position) {
                let mut passed = Missed::default();
                passed.add(before, position, info.state.first_sequence, settings.ordered);
                if passed.skipped > 0 {
                    let others = self.others(&frames, before.stream + 1, position.stream).await?;
                    passed.skipped = passed.skipped.saturating_sub(others);
                }
                missed.removed += passed.removed;
                missed.skipped += passed.skipped;
            }
        }
        *monitor.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), backlog));
        let is_half_full = info.state.bytes > capacity(info) / 2;
        let last = std::mem::replace(&mut self.last, info.state.last_sequence);
        if (missed == Missed::default() && !is_half_full) || !self.peers.is_eldest().await {
            return Ok(Missed::default());
        }
        if is_half_full {
            make_room(&frames, info, last).await?;
        }
        Ok(missed)
    }
}

impl Watch {
    /// Messages of sessions between two sequences, which the stream holds too.
    async fn others(&self, frames: &Stream, first: u64, last: u64) -> anyhow::Result<u64> {
        let subject = format!("{}.sessions.>", self.streams.prefix());
        let (mut next, mut count) = (first, 0);
        while next <= last {
            let question = frames.raw_message_builder().sequence(next).next_by_subject(subject.as_str());
            match question.send().await {
                Ok(message) if message.sequence <= last => (next, count) = (message.sequence + 1, count + 1),
                Ok(_) => break,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }
}

/// Frames that a consumer passed over without delivering them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Missed {
    /// They were removed from the stream.
    removed: u64,
    /// The server could not read them, in a store that is damaged for example.
    skipped: u64,
}

impl Missed {
    /// Adds what a consumer has passed over; `first` is the lowest sequence in the stream now. What is
    /// delivered again meanwhile counts against it, so it may be too few. Sequences between the frames of a
    /// partition are those of others, so that of them only removed ones are known, at most as many as waited.
    fn add(&mut self, before: Position, now: Position, first: u64, is_partition: bool) {
        let are_removed = first > before.stream + 1;
        let last = if are_removed { now.stream.max(first - 1) } else { now.stream };
        let deliveries = now.deliveries.saturating_sub(before.deliveries);
        let missed = last.saturating_sub(before.stream).saturating_sub(deliveries);
        match (are_removed, is_partition) {
            (true, true) => self.removed += missed.min(before.pending),
            (true, false) => self.removed += missed,
            (false, true) => {}
            (false, false) => self.skipped += missed,
        }
    }
}

async fn oldest_unacknowledged(frames: &Stream, consumer: &consumer::Info) -> Option<time::OffsetDateTime> {
    let first = consumer.ack_floor.stream_sequence + 1;
    let from = first.max(frames.cached_info().state.first_sequence);
    let subject = consumer.config.filter_subject.as_str();
    let next = frames.raw_message_builder().sequence(from).next_by_subject(subject).send();
    Some(next.await.ok()?.time)
}

fn capacity(info: &Info) -> u64 {
    u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX)
}

/// Whether the stream removes old messages for new ones.
fn is_full(info: &Info) -> bool {
    info.state.first_sequence > 1 && info.state.bytes > capacity(info) / 10 * 9
}

fn age(then: time::OffsetDateTime) -> Duration {
    SystemTime::now().duration_since(then.into()).unwrap_or_default()
}

/// Removes what every consumer has acknowledged, so that full means unread; `last` is the last sequence that
/// there was at the look before.
async fn make_room(frames: &Stream, info: &Info, last: u64) -> anyhow::Result<()> {
    let mut floor = u64::MAX;
    let mut consumers = frames.consumers();
    while let Some(consumer) = consumers.try_next().await? {
        // One that has everything of its subjects holds nothing up, wherever its last frame was. What its
        // leader knows may be behind, though not by a second.
        let is_done = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
        let done = if is_done { last } else { 0 }.max(consumer.ack_floor.stream_sequence);
        floor = floor.min(done);
    }
    if floor != u64::MAX && floor >= info.state.first_sequence {
        frames.purge().sequence(floor + 1).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_passed_over_are_counted() {
        let at = |stream, deliveries, pending| Position { stream, deliveries, pending };
        for (before, now, first, removed, skipped) in [
            (at(10, 10, 0), at(10, 10, 0), 1, 0, 0),
            (at(10, 10, 0), at(40, 40, 0), 11, 0, 0),
            // A consumer passes over what is gone at once,
            (at(10, 10, 0), at(60, 10, 0), 61, 50, 0),
            // or when it delivers next; here two were read before the rest was removed.
            (at(10, 10, 0), at(70, 22, 0), 61, 48, 0),
            (at(10, 10, 0), at(10, 10, 0), 61, 50, 0),
            // What was read and removed within a second.
            (at(10, 10, 0), at(90, 90, 0), 81, 0, 0),
            // A stream that was made anew.
            (at(90, 90, 0), at(3, 3, 0), 1, 0, 0),
            // What is there and was not delivered.
            (at(10, 10, 0), at(60, 20, 0), 1, 0, 40),
        ] {
            let mut missed = Missed::default();
            missed.add(before, now, first, false);
            assert_eq!(missed, Missed { removed, skipped }, "{before:?} {now:?} {first}");
        }
        let mut missed = Missed::default();
        missed.add(at(10, 10, 5), at(60, 10, 0), 61, true);
        missed.add(at(10, 10, 0), at(60, 12, 0), 1, true);
        assert_eq!(missed, Missed { removed: 5, skipped: 0 });
    }
}
