//! Acknowledgements of frames: one task sends them all, those of frames that are still in progress too.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::account::ledger::End;
use sferic_actors::frame::Delivery;
use sferic_actors::outcome::{Failure, FailureCode, Origin, Outcome, Prediction, PublishError, ShedReason};
use sferic_actors::task::Task;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, mpsc, oneshot};
use tokio::time::Instant;

use super::retry::RetryPolicy;
use crate::concurrency::{ConcurrencyLimit, Ended};
use crate::nats::Connection;
use crate::nats::reply::Reply;

/// The most frames that are remembered as sent back: as many as may be unacknowledged.
const MAX_SENT_BACK: usize = 10_000;

/// Sends acknowledgements; clones share it. At most one is queued per frame in flight.
#[derive(Debug, Clone)]
pub struct Acks {
    sender: mpsc::UnboundedSender<Ack>,
    in_work: InWork,
    sent_back: Arc<Mutex<HashSet<u64>>>,
    limit: Arc<ConcurrencyLimit>,
    policy: RetryPolicy,
    /// Shared by those who remove frames, for whom the flush waits.
    removals: Arc<RwLock<()>>,
}

/// How a frame takes part in the work.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Whether it is not refused before it is run.
    pub is_run: bool,
    /// Whether it waits in a session, beside what is worked on.
    pub is_gathered: bool,
}

/// The frames in work, by the subject of their acknowledgement, with the time from which the server counts.
type InWork = Arc<Mutex<HashMap<String, Instant>>>;

#[derive(Debug)]
enum Ack {
    Send { subject: String, payload: Bytes },
    Flush(oneshot::Sender<()>),
}

impl Acks {
    /// Starts the task, which ends when it is dropped. As many frames are in work as `limit` says.
    pub fn start(
        connection: Connection,
        ack_wait: Duration,
        policy: RetryPolicy,
        limit: ConcurrencyLimit,
    ) -> (Self, Task) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let in_work = InWork::default();
        let task = Task::spawn(run(connection, receiver, Arc::clone(&in_work), ack_wait));
        let (sent_back, limit, removals) = (Arc::default(), Arc::new(limit), Arc::default());
        (Self { sender, in_work, sent_back, limit, policy, removals }, task)
    }

    /// The origin of a frame that was delivered now; it acknowledges on `subject` when the frame ends, and
    /// passes the outcome to `reply`, where there is one.
    pub fn origin(
        &self,
        subject: String,
        delivery: &Delivery,
        reply: Option<Reply>,
        share: Share,
    ) -> Arc<dyn Origin> {
        locked(&self.in_work).insert(subject.clone(), Instant::now());
        if !share.is_gathered {
            self.limit.begin();
        }
        let ended = Mutex::new(Ended::Otherwise);
        let (delivery, acks) = (delivery.clone(), self.clone());
        Arc::new(Acknowledged { subject, delivery, reply, acks, share, ended })
    }

    /// How many frames may be in work.
    pub fn limit(&self) -> &ConcurrencyLimit {
        &self.limit
    }

    /// Whether this daemon sent the frame back since its last delivery. Else the daemon that had it ended, or
    /// its acknowledgement was lost.
    pub fn sent_back(&self, sequence: u64) -> bool {
        locked(&self.sent_back).remove(&sequence)
    }

    /// Says that a frame is removed from its stream instead, until what it returns is dropped.
    pub fn removing(&self) -> Option<OwnedRwLockReadGuard<()>> {
        Arc::clone(&self.removals).try_read_owned().ok()
    }

    /// Waits until everything before was sent, and what is being removed is.
    pub async fn flush(&self) {
        drop(self.removals.write().await);
        let (sender, flushed) = oneshot::channel();
        if self.sender.send(Ack::Flush(sender)).is_ok() {
            let _ = flushed.await;
        }
    }

    fn send(&self, subject: &str, payload: Bytes) {
        locked(&self.in_work).remove(subject);
        let _ = self.sender.send(Ack::Send { subject: subject.to_owned(), payload });
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame of a stream.
#[derive(Debug)]
struct Acknowledged {
    subject: String,
    delivery: Delivery,
    reply: Option<Reply>,
    acks: Acks,
    share: Share,
    /// For the limit, which is told when it is dropped.
    ended: Mutex<Ended>,
}

impl Origin for Acknowledged {
    fn answer<'a>(&'a self, outcome: &'a Outcome, payload: &'a Bytes) -> BoxFuture<'a, ()> {
        match &self.reply {
            Some(reply) => reply.answer(outcome, payload),
            None => async {}.boxed(),
        }
    }

    fn ended(&self, end: Result<End, &PublishError>, result: &Result<Prediction, Failure>) {
        *locked(&self.ended) = match end {
            _ if !self.share.is_run => Ended::Otherwise,
            Ok(End::Prediction | End::Failure | End::Duplicate) if !is_crowded(result) => Ended::Answered,
            // A prediction goes back where the stream of outcomes did not acknowledge it: that is as full.
            Ok(_) if result.is_ok() || is_crowded(result) => Ended::Crowded,
            _ => Ended::Otherwise,
        };
        let kind = match end {
            Ok(End::Prediction | End::Duplicate) => AckKind::Ack.into(),
            Ok(End::Failure) => match result {
                Err(failure) if self.acks.policy.ends_retries(&self.delivery, failure) => {
                    let (code, deliveries) = (failure.code.as_str(), self.delivery.deliveries);
                    format!("+TERM {code} after {deliveries} deliveries").into()
                }
                _ => AckKind::Ack.into(),
            },
            Ok(End::Redelivered(delay)) => {
                let mut sent_back = locked(&self.acks.sent_back);
                // Others may have got some of them.
                if sent_back.len() >= MAX_SENT_BACK {
                    sent_back.clear();
                }
                sent_back.insert(self.delivery.stream_seq);
                AckKind::Nak(Some(delay)).into()
            }
            // Counted as lost, but the stream still has it.
            Err(_) => AckKind::Nak(None).into(),
        };
        self.acks.send(&self.subject, kind);
    }
}

impl Drop for Acknowledged {
    fn drop(&mut self) {
        // Without an end the server delivers it again once `ack_wait` is over.
        locked(&self.acks.in_work).remove(&self.subject);
        if !self.share.is_gathered {
            self.acks.limit.end(*locked(&self.ended));
        }
    }
}

/// Whether there was no room or time. A source that has its share says nothing of that, nor an open circuit.
fn is_crowded(result: &Result<Prediction, Failure>) -> bool {
    result.as_ref().is_err_and(|failure| match failure.code {
        FailureCode::DeadlineExceeded => true,
        // The failure of a circuit says when to come back; that of a session that was not free does not.
        FailureCode::ModelUnavailable => failure.retry_after.is_none(),
        FailureCode::Overloaded => failure.shed != Some(ShedReason::SourceShare),
        _ => false,
    })
}

async fn run(
    connection: Connection,
    mut receiver: mpsc::UnboundedReceiver<Ack>,
    in_work: InWork,
    ack_wait: Duration,
) {
    let mut tick = tokio::time::interval(ack_wait / 8);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ack = receiver.recv() => match ack {
                Some(Ack::Send { subject, payload }) => send(&connection, subject, payload).await,
                Some(Ack::Flush(flushed)) => {
                    let _ = connection.client().flush().await;
                    let _ = flushed.send(());
                }
                None => return,
            },
            _ = tick.tick() => {
                for subject in overdue(&in_work, ack_wait / 2) {
                    send(&connection, subject, AckKind::Progress.into()).await;
                }
            }
        }
    }
}

/// The frames that have been in work for `time` since they were delivered or last reported.
fn overdue(in_work: &InWork, time: Duration) -> Vec<String> {
    let now = Instant::now();
    let mut in_work = locked(in_work);
    let late = in_work.iter_mut().filter(|(_, since)| now.duration_since(**since) >= time);
    late.map(|(subject, since)| {
        *since = now;
        subject.clone()
    })
    .collect()
}

/// Sends over the current client. Where that has ended, over the next one.
async fn send(connection: &Connection, subject: String, payload: Bytes) {
    loop {
        let generation = connection.generation();
        match connection.client().publish(subject.clone(), payload.clone()).await {
            Err(error) if error.kind() == async_nats::client::PublishErrorKind::Send => {
                if !connection.renewed(generation).await {
                    return;
                }
            }
            _ => return,
        }
    }
}
