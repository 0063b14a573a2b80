//! The subscription frames come through: a place in a queue group, which can be given up for a while.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use sferic_actors::frame::{Arrival, Encoding, Envelope, TraceHeaders};
use sferic_actors::ports::FrameSource;
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::Connection;
use super::refusals::Action;

/// How long after the server refused the subscription it is asked for again: permissions change while a connection is up.
const RETRY: Duration = Duration::from_secs(2);

/// What the daemon does about the frames of its queue group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It has asked for its share, but the server has not confirmed it.
    Joining,
    /// It takes its share.
    Reading,
    /// It leaves them to the other members.
    Paused,
    /// It takes no more.
    Stopped,
}

/// Says what is wanted of the input, and sees what it does.
#[derive(Debug, Clone)]
pub struct InputSwitch {
    wanted: watch::Sender<Input>,
    is: watch::Receiver<Is>,
}

/// What the input does, and where the server refuses the subscription, the server's words.
type Is = (Input, Option<String>);

impl InputSwitch {
    /// Leaves the queue group, or joins it again. What had been sent to this member is still read.
    pub fn pause(&self, pause: bool) {
        self.want(if pause { Input::Paused } else { Input::Reading });
    }

    /// What the input does now: `Reading` only once the server has the subscription.
    pub fn is(&self) -> Input {
        match (*self.wanted.borrow(), self.is.borrow().0) {
            (Input::Reading, Input::Paused) => Input::Joining,
            (_, is) => is,
        }
    }

    /// The server's words, while it refuses the subscription.
    pub fn refused(&self) -> Option<String> {
        self.is.borrow().1.clone()
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

/// How to end the reading of frames.
#[derive(Debug)]
pub struct Frames {
    switch: InputSwitch,
    ended: oneshot::Receiver<()>,
}

impl Frames {
    /// What pauses the reading.
    pub fn switch(&self) -> &InputSwitch {
        &self.switch
    }

    /// Ends the subscription and waits, at most `bound`, until all that had been sent to it is read.
    pub async fn stop(self, bound: Duration) {
        self.switch.want(Input::Stopped);
        tokio::select! {
            _ = self.ended => {}
            () = tokio::time::sleep(bound) => tracing::warn!("the subscription did not end in time"),
        }
    }
}

/// Reads `<prefix>.frames.>` in a queue group, once [`InputSwitch::pause`] has said not to pause. Every new client subscribes anew, and a
/// subscription that the server refuses is asked for again; [`InputSwitch::is`] tells when the server has it.
pub fn subscribe(connection: &Connection, prefix: &str, queue_group: &str) -> (FrameSource, Frames) {
    let subject = format!("{prefix}.frames.>");
    let (wanted, wanting) = watch::channel(Input::Paused);
    let (is, being) = watch::channel((Input::Joining, None));
    let (ending, ended) = oneshot::channel();
    let skip = prefix.len() + ".frames.".len();
    let reading = Reading {
        connection: connection.clone(),
        subject,
        queue_group: queue_group.to_owned(),
        place: Place::Left,
        wanted: wanting,
        is,
        _ending: ending,
    };
    let source = stream::unfold(reading, move |mut reading| async move {
        let message = reading.next().await?;
        Some((arrival(message, skip), reading))
    });
    let switch = InputSwitch { wanted, is: being };
    (source.boxed(), Frames { switch, ended })
}

/// Where this member stands in its queue group. It reads in the first two places.
enum Place {
    /// In it, as soon as the server confirms it, and until it refuses it.
    Joined(Joined, Waiting<Answer>),
    /// Going; with the echo behind which nothing more comes.
    Leaving(Subscriber, Waiting<()>),
    Left,
    /// Not let in until it asks again, then; what had come before is still read.
    Refused(Subscriber, Instant),
    /// The client of this generation has ended, and the subscription with it.
    Ended(u64),
}

/// A subscription, and which client has it.
struct Joined {
    subscriber: Subscriber,
    generation: u64,
    is_confirmed: bool,
}

/// Something awaited, until it is there.
type Waiting<T> = Option<BoxFuture<'static, T>>;

/// The server's answer to the request for the subscription.
enum Answer {
    /// When there had been so many refusals.
    Confirmed(u64),
    /// In its words.
    Refused(String),
}

struct Reading {
    connection: Connection,
    subject: String,
    queue_group: String,
    place: Place,
    wanted: watch::Receiver<Input>,
    is: watch::Sender<Is>,
    /// Dropped with the stream's end, which is how its end is seen.
    _ending: oneshot::Sender<()>,
}

impl Reading {
    /// The next message; `None` once it is stopped and all is read, or the connection is closed.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match &mut self.place {
                Place::Joined(..) if wanted != Input::Reading => self.leave(wanted).await,
                Place::Joined(joined, answer) => tokio::select! {
                    message = joined.subscriber.next() => match message {
                        Some(message) => {
                            // A frame confirms it as well, and sooner.
                            if !std::mem::replace(&mut joined.is_confirmed, true) {
                                self.is.send_replace((Input::Reading, None));
                            }
                            return Some(message);
                        }
                        None => self.place = Place::Ended(joined.generation),
                    },
                    answer = arrive(answer) => self.answered(answer),
                    () = changed(&mut self.wanted) => {}
                },
                Place::Leaving(subscriber, echo @ Some(_)) => tokio::select! {
                    message = subscriber.next() => match message {
                        Some(message) => return Some(message),
                        None => self.place = Place::Left,
                    },
                    () = arrive(echo) => {}
                    // Nothing more can come.
                    () = self.connection.lost(Duration::ZERO) => *echo = None,
                },
                // What has come is read to its end; a budget of the runtime that is used up would look like the end.
                Place::Leaving(subscriber, None) => match unconstrained(subscriber.next()).now_or_never() {
                    Some(Some(message)) => return Some(message),
                    Some(None) | None => self.place = Place::Left,
                },
                Place::Left | Place::Refused(..) | Place::Ended(_) if wanted == Input::Stopped => return None,
                Place::Refused(subscriber, again) => {
                    let again = *again;
                    tokio::select! {
                        Some(message) = subscriber.next() => return Some(message),
                        () = tokio::time::sleep_until(again) => self.place = Place::Left,
                        () = changed(&mut self.wanted) => {}
                    }
                }
                Place::Ended(generation) => {
                    let generation = *generation;
                    self.is.send_replace((Input::Joining, None));
                    tokio::select! {
                        is_there = self.connection.renewed(generation) => if !is_there { return None },
                        () = changed(&mut self.wanted) => continue,
                    }
                    self.place = Place::Left;
                }
                Place::Left if wanted == Input::Reading => self.join().await,
                Place::Left => {
                    self.is.send_replace((wanted, None));
                    changed(&mut self.wanted).await;
                }
            }
        }
    }

    /// The library's own drain forgets the subscription as soon as the socket is looked at again, and what the server sends until it
    /// has processed it is lost. So the server is told of an end after more messages than it can count (of more than nine digits, which
    /// ends the subscription there at once), for which the library waits for ever.
    async fn leave(&mut self, wanted: Input) {
        self.is.send_replace((wanted, None));
        if let Place::Joined(Joined { mut subscriber, .. }, _) = std::mem::replace(&mut self.place, Place::Left)
            && subscriber.unsubscribe_after(u64::MAX).await.is_ok()
        {
            let connection = self.connection.clone();
            let echo = async move {
                let _ = connection.echo().await;
            };
            self.place = Place::Leaving(subscriber, Some(echo.boxed()));
        }
    }

    async fn join(&mut self) {
        // Why it was refused last stands until the server answers anew.
        self.is.send_modify(|is| is.0 = Input::Joining);
        let (connection, subject) = (self.connection.clone(), self.subject.clone());
        let (generation, after) = (connection.generation(), connection.refusals().count());
        let subscribed = connection.client().queue_subscribe(subject.clone(), self.queue_group.clone()).await;
        let Ok(subscriber) = subscribed else {
            self.place = Place::Ended(generation);
            return;
        };
        let answer = async move {
            tokio::select! {
                biased;
                words = connection.refusals().refused(Action::Subscribe, &subject, after) => Answer::Refused(words),
                () = confirmed(&connection) => Answer::Confirmed(after),
            }
        };
        self.place = Place::Joined(Joined { subscriber, generation, is_confirmed: false }, Some(answer.boxed()));
    }

    fn answered(&mut self, answer: Answer) {
        let Place::Joined(joined, waiting) = &mut self.place else { return };
        match answer {
            // A client that connects again subscribes again, and what was granted may be refused then.
            Answer::Confirmed(after) => {
                joined.is_confirmed = true;
                self.is.send_replace((Input::Reading, None));
                let (connection, subject) = (self.connection.clone(), self.subject.clone());
                let refused = async move { connection.refusals().refused(Action::Subscribe, &subject, after).await };
                *waiting = Some(refused.map(Answer::Refused).boxed());
            }
            Answer::Refused(words) => {
                if self.is.borrow().1.as_ref() != Some(&words) {
                    tracing::warn!(subject = self.subject, words, "the server refuses the subscription; asking again and again");
                }
                self.is.send_replace((Input::Joining, Some(words)));
                if let Place::Joined(Joined { subscriber, .. }, _) = std::mem::replace(&mut self.place, Place::Left) {
                    self.place = Place::Refused(subscriber, Instant::now() + RETRY);
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

/// Waits for what is awaited and forgets it; for ever where nothing is.
async fn arrive<T>(waiting: &mut Waiting<T>) -> T {
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

fn arrival(message: Message, skip: usize) -> Arrival {
    let received_at = Instant::now();
    let envelope = Envelope {
        source: message.subject.get(skip..).unwrap_or_default().to_owned(),
        reply_to: message.reply.map(|subject| subject.to_string()),
        ..message.headers.as_ref().map(from_headers).unwrap_or_default()
    };
    Arrival { payload: message.payload, envelope, received_at }
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

/// MessagePack where nothing else is said; what is neither is read as MessagePack, and fails as that.
fn encoding(content_type: Option<&str>) -> Encoding {
    let kind = content_type.and_then(|text| text.split(';').next()).map(str::trim).unwrap_or_default();
    if kind.eq_ignore_ascii_case("application/json") { Encoding::Json } else { Encoding::MessagePack }
}
