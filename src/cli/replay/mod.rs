//! `sferic replay`: recorded frames again, and whether their answers are the recorded ones.

mod compare;
mod item;
mod stream;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use futures::stream::{self as streams, BoxStream};
use jiff::Timestamp;
use serde_json::Value;
use sferic_recording::ring::{RecordedOutcome, recorded};
use sferic_settings::Settings;
use tokio::time::Instant;
use uuid::Uuid;

use super::outcome::Outcome;
use super::output::Output;
use super::sending::{Bounds, GRACE, InFlight, Pacer, Rate};
use super::{ConnectArgs, Usage};
use crate::nats::{self, Connection};
use crate::recorder::message;
use compare::Comparison;
use item::Item;
use stream::Range;

/// How long a daemon is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends recorded frames again, and with --compare says whether their answers are the recorded ones.
///
/// The frames go to <prefix>.frames.replay.<source>, with their ids, and no answer comes from a cache. With
/// --stream they are read from the stream of frames instead of a recording, and their outcomes from that of
/// outcomes.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
--compare: labels have to be the same, scores and tensors within 1e-5, positions within 1e-4 of the smaller \
sigma; the exit code is 0 when all are. Answers that are equal in every bit are counted beside. Frames whose \
recorded outcome is none, or a failure that may pass (retryable), are sent and not compared.

Examples:
  sferic replay records --compare
  sferic replay records --compare --model modulation@2 --rate max
  sferic replay --stream --since 2026-11-28T18:00:00Z --until 2026-11-28T18:05:00Z --compare --json")]
pub struct ReplayArgs {
    /// Folders or metadata files that `sferic record` or the daemon has written.
    #[arg(value_name = "DIR", required_unless_present = "stream", conflicts_with = "stream")]
    pub paths: Vec<PathBuf>,
    /// Read the frames from the stream `jetstream.frames_stream`.
    #[arg(long)]
    pub stream: bool,
    /// The first sequence in the stream.
    #[arg(long, value_name = "N", requires = "stream")]
    pub from: Option<u64>,
    /// The last sequence in the stream.
    #[arg(long, value_name = "N", requires = "stream")]
    pub to: Option<u64>,
    /// Frames published since then, such as 2026-11-28T18:00:00Z.
    #[arg(long, value_name = "TIME", requires = "stream", conflicts_with = "from")]
    pub since: Option<Timestamp>,
    /// Frames published until then.
    #[arg(long, value_name = "TIME", requires = "stream")]
    pub until: Option<Timestamp>,
    /// Frames per second; `realtime`: as they came; `max`: as fast as they are answered.
    #[arg(long, value_name = "N|realtime|max", default_value = "realtime")]
    pub rate: Rate,
    /// Ask this model, `name` or `name@version` [default: the one that each frame has asked].
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Compare the answers with the recorded ones.
    #[arg(long)]
    pub compare: bool,
    /// Print JSON: with --compare one object, else each outcome.
    #[arg(long)]
    pub json: bool,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// How often a frame is sent whose failure may pass.
const ATTEMPTS: u32 = 3;

/// What is compared, and what is still to be, by number.
#[derive(Default)]
struct Comparing {
    comparison: Comparison,
    expected: HashMap<u64, Expected>,
    /// Frames that failed as they may under load, to be sent again one at a time.
    again: Vec<Expected>,
}

/// A frame whose answer is to be compared.
struct Expected {
    id: String,
    recorded: Value,
    subject: String,
    message: Bytes,
    attempts: u32,
}

impl ReplayArgs {
    /// Runs the command: 0 when every frame was answered, and with `--compare` as recorded; else 1.
    ///
    /// # Errors
    /// Recordings that cannot be read, no connection, or no daemon.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let ranges = [self.from.is_some(), self.to.is_some(), self.since.is_some(), self.until.is_some()];
        if !self.stream && ranges.contains(&true) {
            let words = "--from, --to, --since and --until are for --stream: a recording is played whole";
            return Err(Usage(words.to_owned()).into());
        }
        let connection = nats::connect(&settings.nats, "sferic replay").await?;
        let unreadable = Arc::<AtomicU64>::default();
        let (frames, count) = self.frames(&connection, &settings, &unreadable).await?;
        let output = Output::with_bar(count);
        let patience = settings.limits.max_timeout + GRACE;
        let bounds = Bounds {
            subscriber: PATIENCE,
            outcome: Some(patience),
            connection: settings.nats.publish_timeout,
            is_live: false,
        };
        let comparing = Arc::<Mutex<Comparing>>::default();
        let mut in_flight = InFlight::new(&connection, bounds, &output, self.json).await?;
        if self.compare {
            let comparing = Arc::clone(&comparing);
            in_flight.observe(move |number, outcome| lock(&comparing).take(number, outcome));
        }
        let played = self.play(frames, &settings, &connection, &mut in_flight, &comparing).await;
        let mut done = played.and(in_flight.finish().await);
        if done.is_ok() {
            done = in_flight.confirm().await;
        }
        output.finish();
        let (sent, lost) = (in_flight.counts.sent, in_flight.lost() + in_flight.counts.without_subscriber);
        drop(in_flight);
        done?;
        let unreadable = unreadable.load(Relaxed);
        if unreadable > 0 {
            output
                .say(format!("{unreadable} messages of the stream are no frames that can be read: left out"));
        }
        anyhow::ensure!(sent > 0, "no frame is in that range of {}", settings.jetstream.frames_stream);
        connection.close(settings.nats.publish_timeout).await;
        let mut comparing = lock(&comparing);
        if !self.compare {
            output.say(format!("{sent} frames sent again, {lost} without an outcome"));
            return Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let unanswered = comparing.expected.len() as u64;
        comparing.comparison.unanswered(unanswered);
        let comparison = &comparing.comparison;
        if self.json {
            output.line(serde_json::to_string(comparison)?)?;
        } else {
            for line in comparison.to_string().lines() {
                output.line(line)?;
            }
        }
        Ok(if comparison.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The frames in the order in which they came, and how many there are at most.
    async fn frames(
        &self,
        connection: &Connection,
        settings: &Settings,
        unreadable: &Arc<AtomicU64>,
    ) -> anyhow::Result<(BoxStream<'static, anyhow::Result<Item>>, u64)> {
        if self.stream {
            let range = Range {
                from: self.from.unwrap_or(0),
                to: self.to.unwrap_or(u64::MAX),
                since: self.since,
                until: self.until,
            };
            return stream::frames(connection, settings, range, Arc::clone(unreadable)).await;
        }
        let mut frames = Vec::new();
        for path in &self.paths {
            frames
                .extend(recorded(path).map_err(|error| Usage(sferic_telemetry::with_causes(&error.into())))?);
        }
        frames.sort_by_key(|frame| frame.received_at);
        let count = frames.len() as u64;
        let items = streams::iter(frames).map(|frame: RecordedOutcome| {
            let samples = frame.samples()?;
            let RecordedOutcome { source, received_at, frame: keys, outcome, datatype, .. } = frame;
            Ok(Item { source, received_at, keys, outcome, datatype, samples })
        });
        Ok((items.boxed(), count))
    }

    async fn play(
        &self,
        mut frames: BoxStream<'static, anyhow::Result<Item>>,
        settings: &Settings,
        connection: &Connection,
        in_flight: &mut InFlight<'_>,
        comparing: &Mutex<Comparing>,
    ) -> anyhow::Result<()> {
        let mut pacer = Pacer::new(self.rate);
        let mut first = None;
        while let Some(item) = frames.next().await {
            let mut item = item?;
            let first = *first.get_or_insert(item.received_at);
            let seconds = item.received_at.duration_since(first).as_secs_f64();
            let number = in_flight.counts.sent;
            in_flight.until(pacer.due(number, seconds)).await?;
            if in_flight.counts.without_subscriber > 0 {
                anyhow::bail!("no daemon listens any more");
            }
            let subject = format!("{}.frames.replay.{}", settings.nats.prefix, item.source);
            let id = item.keys.get("frame_id").and_then(Value::as_str).unwrap_or("?").to_owned();
            let message = message(&item.keys, item.samples, item.datatype, self.model.as_deref())
                .with_context(|| format!("frame {id} of {} cannot be sent", item.source))?;
            let max_payload = connection.client().max_payload();
            anyhow::ensure!(
                message.len() <= max_payload,
                "frame {id} is {} bytes, the server's max_payload is {max_payload}: raise it",
                message.len()
            );
            let (message, new_id) = (Bytes::from(message), Uuid::now_v7().to_string());
            let waited = {
                let sending = in_flight.send_as(subject.clone(), Some(&new_id), message.clone());
                let is_answer = lock(comparing).comparison.sent(&item.outcome);
                if is_answer {
                    let recorded = item.outcome.take();
                    let expected = Expected { id, recorded, subject, message, attempts: 1 };
                    lock(comparing).expected.insert(number, expected);
                }
                sending.await?
            };
            pacer.postpone(waited);
            pacer.postpone(again(in_flight, comparing).await?);
        }
        in_flight.finish().await?;
        again(in_flight, comparing).await?;
        Ok(())
    }
}

/// Sends frames again whose failures may pass, each once nothing else is on its way: what a model does under
/// load is not compared. Returns how long that took.
async fn again(in_flight: &mut InFlight<'_>, comparing: &Mutex<Comparing>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while !lock(comparing).again.is_empty() {
        in_flight.finish().await?;
        let Some(mut expected) = lock(comparing).again.pop() else { break };
        expected.attempts += 1;
        let (subject, message) = (expected.subject.clone(), expected.message.clone());
        lock(comparing).expected.insert(in_flight.counts.sent, expected);
        let new_id = Uuid::now_v7().to_string();
        in_flight.send_as(subject, Some(&new_id), message).await?;
        in_flight.finish().await?;
    }
    Ok(began.elapsed())
}

impl Comparing {
    fn take(&mut self, number: u64, outcome: &Outcome) {
        let Some(expected) = self.expected.remove(&number) else { return };
        let answer: Value = serde_json::from_str(&outcome.json()).unwrap_or_default();
        let may_pass = answer["retryable"] == true && expected.attempts < ATTEMPTS;
        if may_pass {
            self.again.push(expected);
        } else {
            self.comparison.answered(&expected.id, &expected.recorded, &answer);
        }
    }
}

fn lock(comparing: &Mutex<Comparing>) -> std::sync::MutexGuard<'_, Comparing> {
    comparing.lock().unwrap_or_else(PoisonError::into_inner)
}
