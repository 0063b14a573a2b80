//! Watches the streams: how much waits, what was removed before it was read, and what may be removed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::{Info, Stream};
use futures::TryStreamExt;
use sferic_actors::task::Task;
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::streams::Streams;

/// Interval of the look.
const LOOK: Duration = Duration::from_secs(1);

/// What waits in the stream of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Backlog {
    /// Frames that were not delivered yet.
    pub pending: u64,
    /// Frames that were delivered and are not acknowledged.
    pub unacknowledged: u64,
    /// Age of the oldest frame that is not acknowledged; zero without one.
    pub oldest: Duration,
    /// Age of the oldest outcome that its stream still has; `None` without one.
    pub oldest_outcome: Option<Duration>,
}

/// What the last look showed; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Backlog>>);

impl Monitor {
    /// Looks every second, until the task is dropped. `lost` is called with the number of frames that were
    /// removed before they were read.
    pub fn start(streams: Streams, lost: impl Fn(u64) + Send + Sync + 'static) -> (Self, Task) {
        let monitor = Self::default();
        let watching = monitor.clone();
        let task = Task::spawn(async move {
            let mut retention = Retention::default();
            let throttle = Throttle::new(Duration::from_secs(10));
            loop {
                tokio::time::sleep(LOOK).await;
                match watching.look(&streams, &mut retention).await {
                    Ok(0) => {}
                    Ok(frames) => {
                        tracing::warn!(frames, "frames were removed from their stream before they were read");
                        lost(frames);
                    }
                    Err(error) => {
                        if let Some(suppressed) = throttle.pass(Instant::now()) {
                            tracing::debug!(
                                error = format!("{error:#}"),
                                suppressed,
                                "no look at the streams"
                            );
                        }
                    }
                }
            }
        });
        (monitor, task)
    }

    /// What waits.
    pub fn backlog(&self) -> Backlog {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many frames were removed unread since the last look.
    async fn look(&self, streams: &Streams, retention: &mut Retention) -> anyhow::Result<u64> {
        let (context, settings) = (streams.context(), streams.settings());
        let frames = context.get_stream(&settings.frames_stream).await?;
        let outcomes = context.get_stream(&settings.outcomes_stream).await?;
        let consumer = frames.consumer_info(&settings.durable).await?;
        let (info, outcomes) = (frames.cached_info(), &outcomes.cached_info().state);
        let is_waiting = consumer.num_pending > 0 || consumer.num_ack_pending > 0;
        let oldest = if is_waiting { oldest_unacknowledged(&frames, &consumer).await } else { None };
        let backlog = Backlog {
            pending: consumer.num_pending,
            unacknowledged: consumer.num_ack_pending as u64,
            oldest: oldest.map(age).unwrap_or_default(),
            oldest_outcome: (outcomes.messages > 0).then(|| age(outcomes.first_timestamp)),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
        let removed = retention.removed(info.state.first_sequence, consumer.delivered.stream_sequence);
        make_room(&frames, info).await?;
        Ok(removed)
    }
}

async fn oldest_unacknowledged(frames: &Stream, consumer: &consumer::Info) -> Option<time::OffsetDateTime> {
    let first = consumer.ack_floor.stream_sequence + 1;
    let from = first.max(frames.cached_info().state.first_sequence);
    let subject = consumer.config.filter_subject.as_str();
    let next = frames.raw_message_builder().sequence(from).next_by_subject(subject).send();
    Some(next.await.ok()?.time)
}

fn age(then: time::OffsetDateTime) -> Duration {
    SystemTime::now().duration_since(then.into()).unwrap_or_default()
}

/// Removes what every consumer has acknowledged once the stream is half full, so that full means unread.
async fn make_room(frames: &Stream, info: &Info) -> anyhow::Result<()> {
    let limit = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
    if info.state.bytes <= limit / 2 {
        return Ok(());
    }
    let mut floor = u64::MAX;
    let mut consumers = frames.consumers();
    while let Some(consumer) = consumers.try_next().await? {
        floor = floor.min(consumer.ack_floor.stream_sequence);
    }
    if floor != u64::MAX && floor >= info.state.first_sequence {
        frames.purge().sequence(floor + 1).await?;
    }
    Ok(())
}

/// Finds frames that were removed before they were delivered.
#[derive(Debug, Default)]
struct Retention {
    /// The highest sequence that was delivered or counted.
    counted: u64,
}

impl Retention {
    /// `first`: the lowest sequence in the stream; `delivered`: the highest that was delivered.
    fn removed(&mut self, first: u64, delivered: u64) -> u64 {
        self.counted = self.counted.max(delivered);
        let removed = first.saturating_sub(self.counted + 1);
        self.counted += removed;
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_removed_before_they_were_delivered_are_counted_once() {
        let mut retention = Retention::default();
        assert_eq!(retention.removed(1, 0), 0, "an empty stream begins at 1");
        assert_eq!(retention.removed(1, 10), 0);
        assert_eq!(retention.removed(11, 10), 0, "what was delivered may go");
        assert_eq!(retention.removed(15, 10), 4, "11 to 14");
        assert_eq!(retention.removed(15, 10), 0);
        assert_eq!(retention.removed(16, 14), 1);
        assert_eq!(retention.removed(16, 40), 0);
    }
}
