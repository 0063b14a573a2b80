//! The pull loop: asks the stream for as many frames and bytes as the pipeline has room for.
//!
//! With requests of its own, because of what async-nats 0.51's loops do: `fetch` and `batch` may hang after a
//! heartbeat, `stream` asks for up to one and a half batches whatever there is room for, and a request is
//! lost with the connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_PIN_ID;
use async_nats::{Message, StatusCode, Subscriber};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use sferic_actors::account::admission::Admission;
use sferic_actors::pipeline::Accounts;
use sferic_actors::ports::{Arrival, FrameSource};
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::acks::Acks;
use super::arrivals::Arrivals;
use super::replies::{Word, word};
use super::request::{self, Inbox, Request, to_ask};
use super::retry::RetryPolicy;
use super::streams::Streams;
use super::unreadable::Unreadable;
use crate::nats::Connection;
use crate::nats::frames::Tokens;
use crate::nats::input::{Frames, Input, InputSeat, InputState};
use crate::nats::reply::Replies;

/// Time without any word from the server after which the request counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// The next request waits for room for this many frames, but not longer than [`GATHERING`].
const ENOUGH: usize = 64;

/// See [`ENOUGH`].
const GATHERING: Duration = Duration::from_millis(2);

/// Pause after an error.
const RETRY: Duration = Duration::from_millis(500);

/// So many refused requests in a row are no accident.
const MANY_REFUSALS: u32 = 5;

/// Reads the frames of a stream once [`InputSwitch::pause`](crate::nats::InputSwitch::pause) is called with
/// `false`.
pub fn pull(
    connection: &Connection,
    streams: &Streams,
    accounts: &Accounts,
    acks: &Acks,
) -> (FrameSource, Frames) {
    let consumers = streams.frame_consumers();
    let (mut frames, seats) = Frames::new(consumers.len());
    let sessions = streams.sessions();
    let gated = frames.gated_seat(sessions.gathers.clone());
    let consumers = consumers.into_iter().zip(seats).map(|(of, seat)| (of, seat, Tokens::Source));
    let of_sessions = (streams.session_consumer(), sessions.subject.clone());
    let all = consumers.chain([(of_sessions, gated, Tokens::SessionAndSource)]);
    let pullers = all.map(|((consumer, subject), seat, tokens)| {
        let InputSeat { wanted, state, ending } = seat;
        // What waits in a session waits beside the frames that are worked on.
        let admission = match tokens {
            Tokens::Source => &accounts.admission,
            Tokens::SessionAndSource => &accounts.gathered,
        };
        let unreadable = Unreadable::new(connection, streams, acks, (&consumer, &subject));
        let puller = Puller {
            connection: connection.clone(),
            arrivals: Arrivals {
                replies: Replies::new(connection.clone(), streams.prefix()),
                acks: acks.clone(),
                policy: RetryPolicy::new(streams.settings()),
                streams: streams.clone(),
                tokens,
                // All but its `>`.
                skip: subject.len() - 1,
            },
            consumer,
            streams: streams.clone(),
            admission: Arc::clone(admission),
            unreadable,
            pin: None,
            refusals: 0,
            reading: Reading::Not,
            wanted,
            state,
            _ending: ending,
        };
        stream::unfold(puller, |mut puller| async move {
            let arrival = puller.next().await?;
            Some((arrival, puller))
        })
        .boxed()
    });
    (stream::select_all(pullers).boxed(), frames)
}

struct Puller {
    connection: Connection,
    streams: Streams,
    consumer: String,
    admission: Arc<Admission>,
    arrivals: Arrivals,
    unreadable: Unreadable,
    /// What the server has pinned the consumer to this daemon by.
    pin: Option<String>,
    /// Requests that were refused, in a row.
    refusals: u32,
    reading: Reading,
    wanted: watch::Receiver<Input>,
    state: watch::Sender<InputState>,
    /// Dropped with the stream, which signals its end.
    _ending: oneshot::Sender<()>,
}

/// What it reads from.
enum Reading {
    Not,
    Inbox(Inbox),
    /// Nothing more is asked for; what was sent is read until the echo.
    Leaving(Subscriber, Option<BoxFuture<'static, ()>>),
}

impl Puller {
    /// The next frame; `None` once the input is stopped and everything is read, or the connection is closed.
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match &mut self.reading {
                Reading::Inbox(_) if wanted != Input::Reading => self.leave(wanted).await,
                // Nothing is asked for until it is found: it would only come back.
                Reading::Inbox(_) if self.unreadable.is_due() => {
                    if let Reading::Inbox(inbox) = std::mem::replace(&mut self.reading, Reading::Not) {
                        self.reading = Reading::Leaving(inbox.subscriber, None);
                    }
                }
                Reading::Inbox(_) => {
                    if let Some(message) = self.read().await {
                        return Some(self.arrivals.of(message));
                    }
                }
                Reading::Leaving(subscriber, echo @ Some(_)) => {
                    let echoed = async {
                        if let Some(echo) = echo.as_mut() {
                            echo.await;
                        }
                    };
                    tokio::select! {
                        message = subscriber.next() => match message {
                            Some(message) if word(&message) == Word::Frame => {
                                return Some(self.arrivals.of(message));
                            }
                            Some(_) => {}
                            None => self.reading = Reading::Not,
                        },
                        () = echoed => *echo = None,
                        () = self.connection.lost(Duration::ZERO) => *echo = None,
                    }
                }
                // Unconstrained, because an exhausted task budget would look like the end.
                Reading::Leaving(subscriber, None) => match unconstrained(subscriber.next()).now_or_never() {
                    Some(Some(message)) if word(&message) == Word::Frame => {
                        return Some(self.arrivals.of(message));
                    }
                    Some(Some(_)) => {}
                    Some(None) | None => self.reading = Reading::Not,
                },
                Reading::Not if wanted == Input::Stopped => return None,
                Reading::Not if wanted == Input::Reading => {
                    if let Some(arrival) = self.unreadable.next() {
                        return Some(arrival);
                    }
                    if self.unreadable.is_due() {
                        tokio::select! {
                            () = self.unreadable.look() => self.pin = None,
                            () = changed(&mut self.wanted) => {}
                        }
                    } else {
                        self.join().await;
                    }
                }
                Reading::Not => {
                    self.state.send_replace((wanted, None));
                    changed(&mut self.wanted).await;
                }
            }
        }
    }

    async fn join(&mut self) {
        self.state.send_modify(|state| state.0 = Input::Joining);
        let (epoch, generation) = (self.connection.epoch(), self.connection.generation());
        let client = self.connection.client();
        let subject = client.new_inbox();
        match client.subscribe(format!("{subject}.*")).await {
            Ok(subscriber) => {
                let request = Request::new(0, 0);
                self.reading = Reading::Inbox(Inbox { subject, subscriber, epoch, generation, request });
            }
            Err(_) => drop(tokio::time::timeout(RETRY, self.connection.renewed(generation)).await),
        }
    }

    /// Asks where there is room, and waits for a frame, for room, or for a change.
    async fn read(&mut self) -> Option<Message> {
        let Reading::Inbox(inbox) = &mut self.reading else { return None };
        let largest = self.connection.client().max_payload();
        let limit = self.admission.max_bytes();
        if inbox.request.frames == 0 {
            let free = self.admission.free();
            if free.0 < ENOUGH.min(self.admission.max_frames()) {
                let room = self.admission.room(ENOUGH, largest);
                tokio::select! {
                    _ = tokio::time::timeout(GATHERING, room) => {}
                    () = changed(&mut self.wanted) => return None,
                }
            }
            let is_gathered = self.arrivals.tokens == Tokens::SessionAndSource;
            let allowed = if is_gathered { usize::MAX } else { self.arrivals.acks.limit().free() };
            let (free, bytes) = self.admission.free();
            let Some((frames, bytes)) = to_ask((free.min(allowed), bytes), largest, limit) else {
                let room = async {
                    if allowed == 0 {
                        self.arrivals.acks.limit().changed().await;
                    }
                    // Of bytes at most all there are.
                    self.admission.room(1, largest).await;
                };
                tokio::select! {
                    // With a limit shared by partitions another may have been told.
                    _ = tokio::time::timeout(SILENCE, room) => {}
                    () = changed(&mut self.wanted) => {}
                }
                return None;
            };
            inbox.request = Request::new(inbox.request.number + 1, frames);
            let answers_to = inbox.answers_to();
            if let Err(error) = self.ask(frames, bytes, answers_to).await {
                tracing::debug!(error = format!("{error:#}"), "no frames could be asked for");
                self.again(RETRY).await;
                return None;
            }
            if self.refusals < MANY_REFUSALS
                && self.state.borrow().0 != Input::Reading
                && self.connection.echo().await.is_ok()
            {
                self.state.send_replace((Input::Reading, None));
            }
        }
        let Reading::Inbox(inbox) = &mut self.reading else { return None };
        let silent = inbox.request.heard + SILENCE;
        tokio::select! {
            // After a pause of the process everything is due at once, and what was sent goes first.
            biased;
            message = inbox.subscriber.next() => match message {
                Some(message) => self.heard(message).await,
                None => {
                    let generation = inbox.generation;
                    self.state.send_replace((Input::Joining, None));
                    self.reading = Reading::Not;
                    tokio::select! {
                        is_there = self.connection.renewed(generation) => if !is_there {
                            // Closed: nothing comes any more.
                            std::future::pending::<()>().await;
                        },
                        () = changed(&mut self.wanted) => {}
                    }
                    None
                }
            },
            () = self.connection.reconnected(inbox.epoch) => {
                // The subscription came back with the connection, the request did not.
                inbox.epoch = self.connection.epoch();
                inbox.request.frames = 0;
                None
            }
            () = tokio::time::sleep_until(silent) => {
                if self.connection.is_up() {
                    tracing::warn!("the stream has not been heard for {SILENCE:?}; asking again");
                }
                self.again(Duration::ZERO).await;
                None
            }
            () = changed(&mut self.wanted) => None,
        }
    }

    async fn ask(&mut self, frames: usize, bytes: usize, answers_to: String) -> anyhow::Result<()> {
        let is_grouped = self.arrivals.tokens == Tokens::Source;
        let request = request::encode(&self.streams, is_grouped, frames, bytes, self.pin.as_deref())?;
        let stream = &self.streams.settings().frames_stream;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", self.consumer);
        Ok(self.connection.client().publish_with_reply(subject, answers_to, request.into()).await?)
    }

    async fn heard(&mut self, message: Message) -> Option<Message> {
        let Reading::Inbox(inbox) = &mut self.reading else { return None };
        inbox.request.heard = Instant::now();
        let word = word(&message);
        let is_refused = word == Word::Over && inbox.is_refused(&message);
        self.refusals = if is_refused { self.refusals + 1 } else { 0 };
        if self.refusals < MANY_REFUSALS && self.state.borrow().0 != Input::Reading {
            self.state.send_replace((Input::Reading, None));
        }
        match word {
            Word::Frame => {
                inbox.request.frames = inbox.request.frames.saturating_sub(1);
                inbox.request.is_untouched = false;
                // A header of that name may also be a sender's.
                if self.streams.is_pinned()
                    && let Some(pin) =
                        message.headers.as_ref().and_then(|headers| headers.get_last(NATS_PIN_ID))
                {
                    self.pin = Some(pin.as_str().to_owned());
                }
                return Some(message);
            }
            Word::Heartbeat => {}
            // The server also says that a request is over whose frames are all here, when the next is out.
            Word::Over if *message.subject != *inbox.answers_to() => {}
            Word::Over => {
                inbox.request.frames = 0;
                if message.status == Some(StatusCode::PIN_ID_MISMATCH) {
                    self.pin = None;
                    return None;
                }
                if is_refused {
                    // Whatever is wrong with the request, the pin may be it.
                    self.pin = None;
                    self.refused(message.description.unwrap_or_default()).await;
                }
            }
            Word::Gone(reason) => {
                tracing::warn!(reason, "the consumer is gone");
                self.state.send_replace((Input::Joining, Some(reason)));
                if let Err(error) = self.streams.ensure().await {
                    tracing::warn!(error = format!("{error:#}"), "the streams cannot be had");
                }
                self.again(RETRY).await;
            }
        }
        None
    }

    async fn refused(&mut self, reason: String) {
        if self.refusals == MANY_REFUSALS {
            tracing::warn!(reason, "the server refuses every request for frames");
        }
        if self.refusals >= MANY_REFUSALS {
            self.state.send_replace((Input::Joining, Some(reason)));
        }
        self.pause(RETRY).await;
    }

    /// Gives the inbox up, with whatever the server still sends to it.
    async fn again(&mut self, pause: Duration) {
        self.reading = Reading::Not;
        self.pause(pause).await;
    }

    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = changed(&mut self.wanted) => {}
        }
    }

    /// Ends the subscription on the server, and reads what it had sent, as
    /// [`Frames`](crate::nats::Frames) has it of a plain one.
    async fn leave(&mut self, wanted: Input) {
        self.state.send_replace((wanted, None));
        if let Reading::Inbox(Inbox { mut subscriber, .. }) =
            std::mem::replace(&mut self.reading, Reading::Not)
            && subscriber.unsubscribe_after(u64::MAX).await.is_ok()
        {
            let (connection, streams) = (self.connection.clone(), self.streams.clone());
            let pinned = self.pin.take().map(|_| self.consumer.clone());
            let echo = async move {
                if let Some(consumer) = pinned {
                    streams.unpin(&consumer).await;
                }
                let _ = connection.echo().await;
            };
            self.reading = Reading::Leaving(subscriber, Some(echo.boxed()));
        }
    }
}

async fn changed(wanted: &mut watch::Receiver<Input>) {
    if wanted.changed().await.is_err() {
        std::future::pending().await
    }
}
