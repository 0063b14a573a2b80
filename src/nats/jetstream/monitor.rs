//! Watches the streams: how much waits, what was removed before it was read, and what may be removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::{Info, Stream};
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
    /// Looks every second, until the task is dropped. What concerns all daemons of the consumer is done by
    /// the eldest of them: it calls `lost` with the number of frames that were removed before they were read,
    /// and removes what may go.
    pub fn start(streams: Streams, peers: Peers, lost: impl Fn(u64) + Send + Sync + 'static) -> (Self, Task) {
        let monitor = Self::default();
        let watching = monitor.clone();
        let task = Task::spawn(async move {
            let mut watch = Watch { streams, peers, before: HashMap::new() };
            let throttle = Throttle::new(Duration::from_secs(60));
            loop {
                tokio::time::sleep(LOOK).await;
                match watch.look(&watching).await {
                    Ok(0) => {}
                    Ok(frames) => {
                        tracing::warn!(frames, "frames were removed from their stream before they were read");
                        lost(frames);
                    }
                    Err(error) => {
                        // What happened meanwhile is not known.
                        watch.before.clear();
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
    /// How far each consumer was at the last look.
    before: HashMap<String, Position>,
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
    /// Returns how many frames were removed unread since the last look.
    async fn look(&mut self, monitor: &Monitor) -> anyhow::Result<u64> {
        let (context, settings) = (self.streams.context(), self.streams.settings());
        let frames = context.get_stream(&settings.frames_stream).await?;
        let outcomes = context.get_stream(&settings.outcomes_stream).await?;
        let (info, kept) = (frames.cached_info(), outcomes.cached_info());
        let mut backlog = Backlog {
            oldest_outcome: is_full(kept).then(|| age(kept.state.first_timestamp)),
            ..Backlog::default()
        };
        let mut removed = 0;
        for name in self.streams.consumers().into_iter().map(|(name, _)| name) {
            let consumer = frames.consumer_info(&name).await?;
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
                removed += removed_unread(before, position, info.state.first_sequence);
            }
        }
        *monitor.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), backlog));
        let is_half_full = info.state.bytes > capacity(info) / 2;
        if (removed == 0 && !is_half_full) || !self.peers.is_eldest().await {
            return Ok(0);
        }
        if is_half_full {
            make_room(&frames, info).await?;
        }
        Ok(removed)
    }
}

/// How many frames a consumer passed over without delivering them, because they were gone: `first` is the
/// lowest sequence in the stream now. What is delivered again meanwhile counts against it, so it may be too
/// few, and never more than waited.
fn removed_unread(before: Position, now: Position, first: u64) -> u64 {
    if first <= before.stream + 1 {
        return 0;
    }
    let passed = now.stream.saturating_sub(before.stream).max(first - 1 - before.stream);
    passed.saturating_sub(now.deliveries.saturating_sub(before.deliveries)).min(before.pending)
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

/// Removes what every consumer has acknowledged, so that full means unread.
async fn make_room(frames: &Stream, info: &Info) -> anyhow::Result<()> {
    let mut floor = u64::MAX;
    let mut consumers = frames.consumers();
    while let Some(consumer) = consumers.try_next().await? {
        // One that has everything of its subjects holds nothing up, wherever its last frame was.
        let is_done = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
        let done = if is_done { info.state.last_sequence } else { consumer.ack_floor.stream_sequence };
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
    fn frames_removed_before_they_were_delivered_are_counted() {
        let at = |stream, deliveries, pending| Position { stream, deliveries, pending };
        for (before, now, first, removed) in [
            (at(10, 10, 0), at(10, 10, 0), 1, 0),
            (at(10, 10, 0), at(40, 40, 0), 11, 0),
            // A consumer passes over what is gone at once,
            (at(10, 10, 50), at(60, 10, 0), 61, 50),
            // or when it delivers next; here two were read before the rest was removed.
            (at(10, 10, 50), at(70, 22, 0), 61, 48),
            (at(10, 10, 50), at(10, 10, 0), 61, 50),
            // What was read and removed within a second.
            (at(10, 10, 5), at(90, 90, 0), 81, 0),
            // Frames of other subjects, which never waited here.
            (at(10, 10, 0), at(60, 10, 0), 61, 0),
        ] {
            assert_eq!(removed_unread(before, now, first), removed, "{before:?} {now:?} {first}");
        }
    }
}
