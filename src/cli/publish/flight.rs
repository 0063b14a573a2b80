//! Frames on their way: sent, and with `--wait` not yet answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures::StreamExt;
use tokio::time::{Instant, sleep_until};

use crate::cli::outcome::Outcome;
use crate::cli::output::Output;

/// Frames that may be unanswered at once.
const MAX_OUTSTANDING: usize = 32;

/// Later than anything that is waited for.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What became of the frames.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames sent.
    pub sent: u64,
    /// Frames predicted.
    pub predictions: u64,
    /// Frames that failed, by code.
    pub failures: BTreeMap<String, u64>,
    /// Frames nobody listened to.
    pub unheard: u64,
    /// Answers to frames that had theirs already.
    pub repeated: u64,
    /// Answers that are no outcome.
    pub unreadable: u64,
}

/// The frames in flight. Without `--wait` there are none: what is sent is done.
pub struct Flight<'a> {
    client: Client,
    replies: Option<Replies>,
    output: &'a Output,
    json: bool,
    /// When the last frame was sent or answered.
    pub last_event: Instant,
    /// What became of those that are done.
    pub tally: Tally,
}

/// The requests and their answers.
struct Replies {
    inbox: String,
    messages: Subscriber,
    /// How long an answer may take.
    patience: Duration,
    /// Until when each unanswered frame is waited for, by its number. All wait equally long, so the first expires first.
    pending: BTreeMap<u64, Instant>,
    /// Frames that were waited for too long. One of them may still be answered.
    lost: BTreeSet<u64>,
}

impl<'a> Flight<'a> {
    /// Sends without waiting for answers, or, with `patience`, waits that long for each.
    ///
    /// # Errors
    /// The answers cannot be listened to.
    pub async fn new(client: &Client, patience: Option<Duration>, output: &'a Output, json: bool) -> anyhow::Result<Self> {
        let replies = match patience {
            None => None,
            Some(patience) => {
                let inbox = client.new_inbox();
                let messages = client.subscribe(format!("{inbox}.*")).await.context("cannot listen to answers")?;
                Some(Replies { inbox, messages, patience, pending: BTreeMap::new(), lost: BTreeSet::new() })
            }
        };
        Ok(Self { client: client.clone(), replies, output, json, last_event: Instant::now(), tally: Tally::default() })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The client refuses it.
    pub async fn send(&mut self, subject: String, message: Vec<u8>) -> anyhow::Result<()> {
        let number = self.tally.sent;
        self.tally.sent += 1;
        self.last_event = Instant::now();
        match &mut self.replies {
            None => {
                self.client.publish(subject, message.into()).await?;
                self.output.advance();
            }
            Some(replies) => {
                replies.pending.insert(number, Instant::now() + replies.patience);
                let reply = format!("{}.{number}", replies.inbox);
                self.client.publish_with_reply(subject, reply, message.into()).await?;
            }
        }
        Ok(())
    }

    /// Waits until a frame is due and there is room for it, and prints what comes meanwhile.
    ///
    /// # Errors
    /// Standard output is closed, or the connection.
    pub async fn until(&mut self, due: Option<Instant>) -> anyhow::Result<()> {
        while let Some(due) = due.filter(|due| *due > Instant::now()) {
            self.step(due).await?;
        }
        self.until_at_most(MAX_OUTSTANDING - 1).await
    }

    /// Waits until every frame is answered or given up on.
    ///
    /// # Errors
    /// As [`Flight::until`].
    pub async fn land(&mut self) -> anyhow::Result<()> {
        self.until_at_most(0).await
    }

    /// Frames waited for too long.
    pub fn lost(&self) -> u64 {
        self.replies.as_ref().map_or(0, |replies| replies.lost.len() as u64)
    }

    async fn until_at_most(&mut self, outstanding: usize) -> anyhow::Result<()> {
        while self.replies.as_ref().is_some_and(|replies| replies.pending.len() > outstanding) {
            self.step(Instant::now() + FAR).await?;
        }
        Ok(())
    }

    /// Takes one answer, or gives up on the frames whose time is over, or returns at `until`.
    async fn step(&mut self, until: Instant) -> anyhow::Result<()> {
        let Some(replies) = &mut self.replies else {
            sleep_until(until).await;
            return Ok(());
        };
        let wake = replies.pending.values().next().map_or(until, |deadline| until.min(*deadline));
        tokio::select! {
            // An answer that is here is taken before its frame is given up on.
            biased;
            message = replies.messages.next() => self.take(&message.context("the connection is closed")?),
            () = sleep_until(wake) => {
                let now = Instant::now();
                while let Some(first) = replies.pending.first_entry().filter(|first| *first.get() <= now) {
                    replies.lost.insert(first.remove_entry().0);
                    self.output.advance();
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, message: &Message) -> anyhow::Result<()> {
        let Some(replies) = &mut self.replies else { return Ok(()) };
        let Some(number) = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok()) else { return Ok(()) };
        if replies.pending.remove(&number).is_some() {
            self.output.advance();
        } else if !replies.lost.remove(&number) {
            self.tally.repeated += 1;
            return Ok(());
        }
        self.last_event = Instant::now();
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            self.tally.unheard += 1;
            return Ok(());
        }
        let outcome = match Outcome::decode(message) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.tally.unreadable += 1;
                self.output.say(format!("the answer to frame {number} is not an outcome: {error:#}"));
                return Ok(());
            }
        };
        match outcome.code() {
            Some(code) => *self.tally.failures.entry(code.to_owned()).or_default() += 1,
            None => self.tally.predictions += 1,
        }
        let written = if self.json { self.output.line(outcome.json()) } else { self.output.line(&outcome) };
        written.context("cannot write to standard output")
    }
}
