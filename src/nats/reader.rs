//! A subscription that outlives clients, can be paused, and loses nothing when it ends.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Connection;
use super::input::{Input, InputSeat, InputState};
use super::refusals::Action;

/// Time after which a refused subscription is requested again: permissions may change while a connection is
/// up.
const RETRY: Duration = Duration::from_secs(2);

/// Membership of the queue group. Messages are read in the first two states.
enum Membership {
    /// Subscribed; a member once the server confirms it, until it refuses it.
    Joined(Joined, Pending<SubscriptionAnswer>),
    /// Unsubscribed; nothing more comes after the echo.
    Leaving(Subscriber, Pending<()>),
    Left,
    /// Refused until this time, then it subscribes again. Messages received before are still read.
    Refused(Subscriber, Instant),
    /// The client of this generation has ended, and the subscription with it.
    Ended(u64),
}

/// A subscription, and the client it belongs to.
struct Joined {
    subscriber: Subscriber,
    generation: u64,
    is_confirmed: bool,
}

/// A pending future, until it resolves.
type Pending<T> = Option<BoxFuture<'static, T>>;

/// Answer of the server to the subscription.
enum SubscriptionAnswer {
    /// Confirmed, with the number of refusals before.
    Confirmed(u64),
    /// Refused, with the error text.
    Refused(String),
}

/// Reads one subject.
pub(super) struct Reader {
    connection: Connection,
    subject: String,
    /// `None`: it gets every message.
    queue_group: Option<String>,
    membership: Membership,
    wanted: watch::Receiver<Input>,
    state: watch::Sender<InputState>,
    /// Dropped with the stream, which signals its end.
    _ending: oneshot::Sender<()>,
}

impl Reader {
    /// Reads `subject`, in a queue group where one is named, as the seat says.
    pub(super) fn new(
        connection: Connection,
        subject: String,
        queue_group: Option<&str>,
        seat: InputSeat,
    ) -> Self {
        let InputSeat { wanted, state, ending } = seat;
        let (queue_group, membership) = (queue_group.map(str::to_owned), Membership::Left);
        Self { connection, subject, queue_group, membership, wanted, state, _ending: ending }
    }

    /// The messages. Waiting for the next one can be cancelled without losing one.
    pub(super) fn into_messages(self) -> BoxStream<'static, Message> {
        stream::unfold(self, |mut reader| async move {
            let message = reader.next().await?;
            Some((message, reader))
        })
        .boxed()
    }

    /// The next message; `None` once the input is stopped and everything is read, or the connection is
    /// closed.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match &mut self.membership {
                Membership::Joined(..) if wanted != Input::Reading => self.leave(wanted).await,
                Membership::Joined(joined, answer) => tokio::select! {
                    message = joined.subscriber.next() => match message {
                        Some(message) => {
                            // A message confirms it as well, and sooner.
                            if !std::mem::replace(&mut joined.is_confirmed, true) {
                                self.state.send_replace((Input::Reading, None));
                            }
                            return Some(message);
                        }
                        None => self.membership = Membership::Ended(joined.generation),
                    },
                    answer = arrive(answer) => self.answered(answer),
                    () = changed(&mut self.wanted) => {}
                },
                Membership::Leaving(subscriber, echo @ Some(_)) => tokio::select! {
                    message = subscriber.next() => match message {
                        Some(message) => return Some(message),
                        None => self.membership = Membership::Left,
                    },
                    () = arrive(echo) => {}
                    // Nothing more can come.
                    () = self.connection.lost(Duration::ZERO) => *echo = None,
                },
                // Reads what is received to its end; unconstrained, because an exhausted task budget would
                // look like the end.
                Membership::Leaving(subscriber, None) => {
                    match unconstrained(subscriber.next()).now_or_never() {
                        Some(Some(message)) => return Some(message),
                        Some(None) | None => self.membership = Membership::Left,
                    }
                }
                Membership::Left | Membership::Refused(..) | Membership::Ended(_)
                    if wanted == Input::Stopped =>
                {
                    return None;
                }
                Membership::Refused(subscriber, again) => {
                    let again = *again;
                    tokio::select! {
                        Some(message) = subscriber.next() => return Some(message),
                        () = tokio::time::sleep_until(again) => self.membership = Membership::Left,
                        () = changed(&mut self.wanted) => {}
                    }
                }
                Membership::Ended(generation) => {
                    let generation = *generation;
                    self.state.send_replace((Input::Joining, None));
                    tokio::select! {
                        is_there = self.connection.renewed(generation) => if !is_there { return None },
                        () = changed(&mut self.wanted) => continue,
                    }
                    self.membership = Membership::Left;
                }
                Membership::Left if wanted == Input::Reading => self.join().await,
                Membership::Left => {
                    self.state.send_replace((wanted, None));
                    changed(&mut self.wanted).await;
                }
            }
        }
    }

    /// Leaves the queue group. `drain` forgets the subscription locally before the server has processed
    /// UNSUB, and messages already sent are lost. So this sends UNSUB with an oversized maximum: the server
    /// ends the subscription at once and the client still delivers what was sent.
    async fn leave(&mut self, wanted: Input) {
        self.state.send_replace((wanted, None));
        if let Membership::Joined(Joined { mut subscriber, .. }, _) =
            std::mem::replace(&mut self.membership, Membership::Left)
            && subscriber.unsubscribe_after(u64::MAX).await.is_ok()
        {
            let connection = self.connection.clone();
            let echo = async move {
                let _ = connection.echo().await;
            };
            self.membership = Membership::Leaving(subscriber, Some(echo.boxed()));
        }
    }

    async fn join(&mut self) {
        // Why it was refused last stands until the server answers anew.
        self.state.send_modify(|state| state.0 = Input::Joining);
        let (connection, subject) = (self.connection.clone(), self.subject.clone());
        let (generation, after) = (connection.generation(), connection.refusals().count());
        let client = connection.client();
        let subscribed = match &self.queue_group {
            Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
            None => client.subscribe(subject.clone()).await,
        };
        let Ok(subscriber) = subscribed else {
            self.membership = Membership::Ended(generation);
            return;
        };
        let answer = async move {
            tokio::select! {
                biased;
                words = connection.refusals().refused(Action::Subscribe, &subject, after) => {
                    SubscriptionAnswer::Refused(words)
                }
                () = confirmed(&connection) => SubscriptionAnswer::Confirmed(after),
            }
        };
        self.membership =
            Membership::Joined(Joined { subscriber, generation, is_confirmed: false }, Some(answer.boxed()));
    }

    fn answered(&mut self, answer: SubscriptionAnswer) {
        let Membership::Joined(joined, waiting) = &mut self.membership else { return };
        match answer {
            // A client that connects again subscribes again, and what was granted may be refused then.
            SubscriptionAnswer::Confirmed(after) => {
                joined.is_confirmed = true;
                self.state.send_replace((Input::Reading, None));
                let (connection, subject) = (self.connection.clone(), self.subject.clone());
                let refused =
                    async move { connection.refusals().refused(Action::Subscribe, &subject, after).await };
                *waiting = Some(refused.map(SubscriptionAnswer::Refused).boxed());
            }
            SubscriptionAnswer::Refused(words) => {
                if self.state.borrow().1.as_ref() != Some(&words) {
                    tracing::warn!(
                        subject = self.subject,
                        words,
                        "the server refuses the subscription; retrying"
                    );
                }
                self.state.send_replace((Input::Joining, Some(words)));
                if let Membership::Joined(Joined { subscriber, .. }, _) =
                    std::mem::replace(&mut self.membership, Membership::Left)
                {
                    self.membership = Membership::Refused(subscriber, Instant::now() + RETRY);
                }
            }
        }
    }
}

async fn confirmed(connection: &Connection) {
    if let Err(words) = connection.settled().await {
        tracing::warn!(words, "the server cannot confirm the subscription");
    }
}

/// Awaits the pending future and clears it; never resolves without one.
async fn arrive<T>(waiting: &mut Pending<T>) -> T {
    let arrived = match waiting {
        Some(awaited) => awaited.await,
        None => std::future::pending().await,
    };
    *waiting = None;
    arrived
}

async fn changed(wanted: &mut watch::Receiver<Input>) {
    // Senders that are gone can't want anything else any more; reading goes on until the client closes.
    if wanted.changed().await.is_err() {
        std::future::pending().await
    }
}
