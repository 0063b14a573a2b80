//! The subscription that frames arrive on: membership of a queue group, which can be paused.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use sferic_actors::frame::{Encoding, Envelope, TraceHeaders};
use sferic_actors::outcome::Origin;
use sferic_actors::ports::{Arrival, FrameSource};
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Connection;
use super::refusals::Action;
use super::reply::Replies;

/// Time after which a refused subscription is requested again: permissions may change while a connection is
/// up.
const RETRY: Duration = Duration::from_secs(2);

/// State of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It has subscribed, but the server has not confirmed it.
    Joining,
    /// It receives frames.
    Reading,
    /// It leaves the frames to the other members of the queue group.
    Paused,
    /// It receives no more frames.
    Stopped,
}

/// Controls the input and reads its state.
#[derive(Debug, Clone)]
pub struct InputSwitch {
    wanted: watch::Sender<Input>,
    /// Of each reader.
    states: Vec<watch::Receiver<InputState>>,
}

/// State of the input, and the error text of the server where it refuses the subscription.
pub(super) type InputState = (Input, Option<String>);

impl InputSwitch {
    /// Leaves the queue group, or joins it again. Messages already sent to this member are still read.
    pub fn pause(&self, pause: bool) {
        self.want(if pause { Input::Paused } else { Input::Reading });
    }

    /// The current state: `Reading` only once the server has confirmed every subscription.
    pub fn state(&self) -> Input {
        let wanted = *self.wanted.borrow();
        let mut states = self.states.iter().map(|state| state.borrow().0);
        match (wanted, states.find(|state| *state != wanted).unwrap_or(wanted)) {
            (Input::Reading, Input::Paused) => Input::Joining,
            (_, state) => state,
        }
    }

    /// The error text of the server, while it refuses a subscription.
    pub fn refused(&self) -> Option<String> {
        self.states.iter().find_map(|state| state.borrow().1.clone())
    }

    fn want(&self, input: Input) {
        self.wanted.send_if_modified(|wanted| {
            let change = *wanted != input && *wanted != Input::Stopped;
            if change {
                *wanted = input;
            }
            change
        });
    }
}

/// Handle that ends the reading of frames.
#[derive(Debug)]
pub struct Frames {
    switch: InputSwitch,
    ended: Vec<oneshot::Receiver<()>>,
}

/// A reader's side of [`Frames`].
pub(super) struct InputSeat {
    pub(super) wanted: watch::Receiver<Input>,
    pub(super) state: watch::Sender<InputState>,
    /// Dropped with the reader, which signals its end.
    pub(super) ending: oneshot::Sender<()>,
}

impl Frames {
    /// Paused; with so many readers.
    pub(super) fn new(readers: usize) -> (Self, Vec<InputSeat>) {
        let wanted = watch::Sender::new(Input::Paused);
        let (mut states, mut ended, mut seats) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..readers {
            let (state, observed) = watch::channel((Input::Joining, None));
            let (ending, end) = oneshot::channel();
            states.push(observed);
            ended.push(end);
            seats.push(InputSeat { wanted: wanted.subscribe(), state, ending });
        }
        (Self { switch: InputSwitch { wanted, states }, ended }, seats)
    }

    /// The switch that pauses the input.
    pub fn switch(&self) -> &InputSwitch {
        &self.switch
    }

    /// Ends the subscriptions and waits, at most `bound`, until every message already sent to them is read.
    pub async fn stop(self, bound: Duration) {
        self.switch.want(Input::Stopped);
        tokio::select! {
            _ = join_all(self.ended) => {}
            () = tokio::time::sleep(bound) => tracing::warn!("the subscription did not end in time"),
        }
    }
}

/// Reads `<prefix>.frames.>` in a queue group once [`InputSwitch::pause`] is called with `false`. It
/// subscribes again with every new client and after a refusal; [`InputSwitch::state`] tells whether the
/// server has confirmed it.
pub fn subscribe(connection: &Connection, prefix: &str, queue_group: &str) -> (FrameSource, Frames) {
    let subject = format!("{prefix}.frames.>");
    let skip = prefix.len() + ".frames.".len();
    let (frames, seats) = Frames::new(1);
    let readers = seats.into_iter().map(|InputSeat { wanted, state, ending }| {
        let reader = Reader {
            connection: connection.clone(),
            subject: subject.clone(),
            queue_group: queue_group.to_owned(),
            replies: Replies::new(connection.clone(), prefix),
            membership: Membership::Left,
            wanted,
            state,
            _ending: ending,
        };
        stream::unfold(reader, move |mut reader| async move {
            let message = reader.next().await?;
            Some((arrival(message, skip, &reader.replies), reader))
        })
        .boxed()
    });
    (stream::select_all(readers).boxed(), frames)
}

/// Membership of the queue group. Frames are read in the first two states.
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

struct Reader {
    connection: Connection,
    subject: String,
    queue_group: String,
    replies: Replies,
    membership: Membership,
    wanted: watch::Receiver<Input>,
    state: watch::Sender<InputState>,
    /// Dropped with the stream, which signals its end.
    _ending: oneshot::Sender<()>,
}

impl Reader {
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
                            // A frame confirms it as well, and sooner.
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
        let subscribed = connection.client().queue_subscribe(subject.clone(), self.queue_group.clone()).await;
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

fn arrival(message: Message, skip: usize, replies: &Replies) -> Arrival {
    let received_at = Instant::now();
    let envelope = envelope(&message, skip);
    let reply = message.reply.and_then(|subject| replies.on(subject.to_string()));
    let origin = reply.map(|reply| Arc::new(reply) as Arc<dyn Origin>);
    Arrival { payload: message.payload, envelope, origin, received_at, refused: None }
}

/// What subject and headers say; `skip` is the length of the subject before the source.
pub(super) fn envelope(message: &Message, skip: usize) -> Envelope {
    Envelope {
        source: message.subject.get(skip..).unwrap_or_default().to_owned(),
        ..message.headers.as_ref().map(from_headers).unwrap_or_default()
    }
}

fn from_headers(headers: &HeaderMap) -> Envelope {
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    // Header names are case-sensitive in NATS; publishers write both.
    let any = |names: [&str; 2]| names.into_iter().find_map(text);
    Envelope {
        message_id: text("Nats-Msg-Id"),
        encoding: encoding(any(["Content-Type", "content-type"]).as_deref()),
        trace: TraceHeaders {
            traceparent: any(["traceparent", "Traceparent"]),
            tracestate: any(["tracestate", "Tracestate"]),
            baggage: any(["baggage", "Baggage"]),
        },
        ..Envelope::default()
    }
}

/// The encoding that a content type names. An unknown content type is read as MessagePack.
fn encoding(content_type: Option<&str>) -> Encoding {
    let kind = content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    if kind.eq_ignore_ascii_case("application/json") { Encoding::Json } else { Encoding::MessagePack }
}
