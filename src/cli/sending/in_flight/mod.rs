//! Frames in flight: sent, and with `--wait` not yet answered.

mod subscriber;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sferic_telemetry::with_causes;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::cli::outcome::{Outcome, acknowledgement};
use crate::cli::output::Output;
use crate::cli::sending::counts::{Bounds, FrameCounts, Outstanding, number_of};
use crate::cli::sending::held::Held;
use crate::cli::sending::refused::refused;
use crate::nats::Connection;

/// Maximum number of unanswered frames.
const MAX_OUTSTANDING: usize = 32;

/// Maximum number of frames that their stream has not acknowledged.
const MAX_UNACKNOWLEDGED: usize = 256;

/// Later than any timeout.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Time to wait for a late refusal of the last frame after the server has answered.
const REFUSAL_GRACE: Duration = Duration::from_millis(100);

/// Interval at which a frame without a subscriber is sent again.
const RESEND_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum number of frames of live radio whose answer is looked for without `--wait`.
const MAX_UNANSWERED: usize = 1024;

/// Called with the number of each frame and its outcome.
type Observer<'a> = Box<dyn FnMut(u64, &Outcome) + Send + 'a>;

/// The frames in flight. Without `--wait` there are none.
pub struct InFlight<'a> {
    connection: &'a Connection,
    bounds: Bounds,
    /// The first subject of each family that was published to.
    subjects: BTreeSet<String>,
    /// What was published to, see [`family`].
    families: BTreeSet<String>,
    /// What acknowledges frames; those that may be in a stream are requests.
    held: Held,
    /// Prefix of the subjects of answers; the number of the frame follows.
    inbox: String,
    answers: BoxStream<'static, Message>,
    waiting: Option<Outstanding>,
    output: &'a Output,
    json: bool,
    observer: Option<Observer<'a>>,
    /// Whether live sources have ended; then nothing is waited for longer than for recordings.
    sources_ended: Arc<AtomicBool>,
    /// When the last frame was sent or answered.
    pub last_event: Instant,
    /// Counts of the finished frames.
    pub counts: FrameCounts,
}

impl<'a> InFlight<'a> {
    /// Nothing in flight yet.
    ///
    /// # Errors
    /// Outcomes are waited for, and the server refuses the subject on which they would come.
    pub async fn new(
        connection: &'a Connection,
        bounds: Bounds,
        output: &'a Output,
        json: bool,
    ) -> anyhow::Result<Self> {
        let inbox = connection.client().new_inbox();
        let answers = connection.subscribe(format!("{inbox}.*")).await.context("cannot listen to answers")?;
        let waiting = bounds.outcome.map(|patience| Outstanding {
            patience,
            pending: BTreeMap::new(),
            lost: BTreeSet::new(),
        });
        let in_flight = Self {
            connection,
            bounds,
            subjects: BTreeSet::new(),
            families: BTreeSet::new(),
            held: Held::default(),
            inbox,
            answers,
            waiting,
            output,
            json,
            observer: None,
            sources_ended: Arc::default(),
            last_event: Instant::now(),
            counts: FrameCounts::default(),
        };
        if in_flight.waiting.is_some() {
            in_flight.settle().await?;
        }
        let refused = refused(connection, &in_flight.subjects, in_flight.inbox().as_ref()).now_or_never();
        refused.map_or(Ok(in_flight), Err)
    }

    /// The subject of the outcomes, where they are awaited.
    fn inbox(&self) -> Option<String> {
        self.waiting.as_ref().map(|_| format!("{}.*", self.inbox))
    }

    /// To be set once live sources have ended.
    pub fn sources_ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.sources_ended)
    }

    /// Calls `observer` with the number of each frame and its outcome, instead of printing that.
    pub fn observe(&mut self, observer: impl FnMut(u64, &Outcome) + Send + 'a) {
        self.observer = Some(Box::new(observer));
    }

    /// Sends a frame; the first frame of a subject is repeated until there is a subscriber. Returns how long
    /// there was none.
    ///
    /// # Errors
    /// The connection is closed or lost, the server refuses the subject, or there is no subscriber in time.
    pub async fn send(&mut self, subject: String, message: Bytes) -> anyhow::Result<Duration> {
        self.send_as(subject, None, message).await
    }

    /// The same, with a message id, by which a stream knows a frame that it has.
    ///
    /// # Errors
    /// As [`InFlight::send`].
    pub async fn send_as(
        &mut self,
        subject: String,
        id: Option<&str>,
        message: Bytes,
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        let family = family(&subject);
        if self.families.contains(&family) {
            self.acknowledged(MAX_UNACKNOWLEDGED - 1).await?;
            let as_request =
                self.waiting.is_some() || self.bounds.is_live || !self.held.by_none.contains(&subject);
            self.publish(&subject, id, message, as_request).await?;
        } else {
            while !self.has_subscriber(&subject, id, &message).await? {
                let patience = self.bounds.subscriber;
                let is_live = self.bounds.is_live && !self.sources_ended.load(Relaxed);
                if !is_live && began.elapsed() >= patience {
                    bail!("no daemon listens on {subject}: start one with `sferic run`");
                }
                if waited.is_zero() {
                    let until = if is_live { String::new() } else { format!(" up to {patience:?}") };
                    self.output.say(format!("no daemon listens on {subject} yet; waiting{until} for one"));
                }
                let again = Instant::now() + RESEND_INTERVAL;
                sleep_until(if is_live { again } else { again.min(began + patience) }).await;
                waited = began.elapsed();
            }
            self.families.insert(family);
            self.subjects.insert(subject);
        }
        self.counts.sent += 1;
        self.last_event = Instant::now();
        if self.waiting.is_none() {
            self.output.advance();
        }
        Ok(waited)
    }

    async fn publish(
        &mut self,
        subject: &str,
        id: Option<&str>,
        message: Bytes,
        as_request: bool,
    ) -> anyhow::Result<()> {
        let number = self.counts.sent;
        if let Some(waiting) = &mut self.waiting {
            waiting.pending.insert(number, Instant::now() + waiting.patience);
        }
        let client = self.connection.client();
        if as_request {
            let answers_to = format!("{}.{number}", self.inbox);
            let mut headers = HeaderMap::new();
            if let Some(id) = id {
                headers.insert("Nats-Msg-Id", id);
            }
            if self.waiting.is_some() {
                // The reply to a request is the acknowledgement of the stream, where there is one.
                headers.insert("Sferic-Reply", answers_to.as_str());
            }
            self.held.unanswered.insert(number, subject.to_owned());
            if self.held.unanswered.len() > MAX_UNANSWERED {
                // Somebody who does not answer listens.
                self.held.unanswered.pop_first();
            }
            client.publish_with_reply_and_headers(subject.to_owned(), answers_to, headers, message).await?;
        } else if let Some(id) = id {
            let headers = HeaderMap::from_iter([("Nats-Msg-Id".parse()?, id.into())]);
            client.publish_with_headers(subject.to_owned(), headers, message).await?;
        } else {
            client.publish(subject.to_owned(), message).await?;
        }
        Ok(())
    }

    /// Handles answers for as long as it is polled.
    ///
    /// # Errors
    /// As [`InFlight::until`].
    pub async fn handle_answers(&mut self) -> anyhow::Result<()> {
        loop {
            self.step(Instant::now() + FAR).await?;
        }
    }

    /// Reads the answers that are there, and waits until at most so many frames are unacknowledged.
    async fn acknowledged(&mut self, most: usize) -> anyhow::Result<()> {
        while let Some(Some(answer)) = unconstrained(self.answers.next()).now_or_never() {
            self.take(&answer)?;
        }
        let give_up = Instant::now() + self.bounds.connection;
        while self.held.unacknowledged() > most {
            if Instant::now() >= give_up {
                let (left, bound) = (self.held.unacknowledged(), self.bounds.connection);
                if !self.bounds.is_live {
                    bail!("the stream has not acknowledged {left} frames within {bound:?}");
                }
                self.counts.unacknowledged += left as u64;
                self.held.unanswered.clear();
            }
            self.step(give_up).await?;
        }
        Ok(())
    }

    /// Waits until the server has accepted every frame, and the stream has it, where there is one.
    ///
    /// # Errors
    /// It refuses one, or does not answer in time.
    pub async fn confirm(&mut self) -> anyhow::Result<()> {
        let flushed = tokio::time::timeout(self.bounds.connection, self.connection.client().flush()).await;
        flushed
            .context("the server did not take every frame in time")?
            .context("the server did not take every frame")?;
        self.settle().await?;
        self.acknowledged(0).await?;
        // With `--wait` a refusal would be known by now.
        let grace = if self.waiting.is_some() { Duration::ZERO } else { REFUSAL_GRACE };
        let inbox = self.inbox();
        let refused = refused(self.connection, &self.subjects, inbox.as_ref());
        tokio::time::timeout(grace, refused).await.map_or(Ok(()), Err)
    }

    /// Whether the server has refused frames or their outcomes.
    pub fn is_refused(&self) -> bool {
        refused(self.connection, &self.subjects, self.inbox().as_ref()).now_or_never().is_some()
    }

    /// Waits until a frame is due and there is room for it; prints outcomes meanwhile.
    ///
    /// # Errors
    /// Standard output is closed, or the connection.
    pub async fn until(&mut self, due: Option<Instant>) -> anyhow::Result<()> {
        while let Some(due) = due.filter(|due| *due > Instant::now()) {
            self.step(due).await?;
        }
        self.until_at_most(MAX_OUTSTANDING - 1).await
    }

    /// Waits until every frame is answered or its timeout has passed.
    ///
    /// # Errors
    /// As [`InFlight::until`].
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        self.until_at_most(0).await
    }

    /// Number of frames whose timeout has passed.
    pub fn lost(&self) -> u64 {
        self.waiting.as_ref().map_or(0, |waiting| waiting.lost.len() as u64)
    }

    async fn until_at_most(&mut self, outstanding: usize) -> anyhow::Result<()> {
        while self.waiting.as_ref().is_some_and(|waiting| waiting.pending.len() > outstanding) {
            self.step(Instant::now() + FAR).await?;
        }
        Ok(())
    }

    /// Handles one answer or the passed timeouts, or returns at `until`.
    async fn step(&mut self, until: Instant) -> anyhow::Result<()> {
        let first = self.waiting.as_ref().and_then(|waiting| waiting.pending.values().next());
        let wake = first.map_or(until, |deadline| until.min(*deadline));
        let inbox = self.inbox();
        let message = tokio::select! {
            // A received answer is handled before its timeout.
            biased;
            message = self.answers.next() => Some(message.context("the connection is closed")?),
            error = refused(self.connection, &self.subjects, inbox.as_ref()) => return Err(error),
            () = sleep_until(wake) => None,
        };
        if let Some(message) = message {
            return self.take(&message);
        }
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        while let Some(first) = waiting.pending.first_entry().filter(|first| *first.get() <= Instant::now()) {
            waiting.lost.insert(first.remove_entry().0);
            self.output.advance();
        }
        Ok(())
    }

    fn take(&mut self, message: &Message) -> anyhow::Result<()> {
        let Some(number) = number_of(message) else { return Ok(()) };
        let is_unheard = message.status == Some(StatusCode::NO_RESPONDERS);
        let decoded = Outcome::decode(message);
        let acknowledged = if decoded.is_ok() { None } else { acknowledgement(message) };
        if is_unheard
            && self.bounds.is_live
            && let Some(subject) = self.held.unanswered.get(&number)
        {
            // The next frame of it waits for a subscriber, as the first one did.
            self.families.remove(&family(subject));
        }
        self.held.answered(number, acknowledged.is_some());
        if let Some(Err(reason)) = acknowledged {
            bail!("the stream refuses frame {number}: {reason}");
        }
        let Some(waiting) = &mut self.waiting else {
            self.counts.without_subscriber += u64::from(is_unheard);
            return Ok(());
        };
        let outcome = match decoded {
            Err(error) if !is_unheard => {
                // Its outcome may still come.
                if acknowledged.is_none() {
                    let error = with_causes(&error);
                    self.output.say(format!("an answer to frame {number} is not an outcome: {error}"));
                }
                return Ok(());
            }
            outcome => outcome.ok(),
        };
        if waiting.pending.remove(&number).is_some() {
            self.output.advance();
        } else if !waiting.lost.remove(&number) {
            self.counts.repeated += 1;
            return Ok(());
        }
        self.last_event = Instant::now();
        let Some(outcome) = outcome else {
            self.counts.without_subscriber += 1;
            return Ok(());
        };
        match outcome.code() {
            Some(code) => *self.counts.failures.entry(code.to_owned()).or_default() += 1,
            None => self.counts.predictions += 1,
        }
        if let Some(observer) = &mut self.observer {
            observer(number, &outcome);
            return Ok(());
        }
        let written = if self.json { self.output.line(outcome.json()) } else { self.output.line(&outcome) };
        written.context("cannot write to standard output")
    }
}

/// The subject; of a source's frames in sessions the same one for all of them.
fn family(subject: &str) -> String {
    let parts =
        subject.split_once(".sessions.").and_then(|(prefix, rest)| Some((prefix, rest.split_once('.')?)));
    match parts {
        Some((prefix, (_, source))) => format!("{prefix}.sessions.*.{source}"),
        None => subject.to_owned(),
    }
}
