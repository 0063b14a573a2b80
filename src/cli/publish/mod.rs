//! `sferic publish`: publishes recordings and live radio as frames.

mod args;
mod live;
mod plan;

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sferic_live::Endpoint;
use sferic_recording::{RecordedFrame, RecordingError};
use sferic_settings::Settings;
use sferic_telemetry::with_causes;
use sferic_wire::FrameMessage;
use tokio::time::Instant;
use uuid::Uuid;

use super::output::Output;
use super::sending::{Bounds, GRACE, InFlight, Pacer, Rate};
use crate::nats::{self, Connection, NoConnection};
pub use args::PublishArgs;
use plan::{Plan, Planned};

/// The longest window of a session that a bundle may state.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

/// Interval of attempts to connect to a server.
const RETRY: Duration = Duration::from_millis(200);

/// Frames with their recordings and their numbers there.
type Turn<'a> = Box<dyn Iterator<Item = (&'a Planned, u64, Result<RecordedFrame, RecordingError>)> + 'a>;

/// Frames of several recordings in turn: the first of each, then the second of each.
struct SideBySide<'a> {
    turns: Vec<Turn<'a>>,
    at: usize,
}

impl<'a> Iterator for SideBySide<'a> {
    type Item = <Turn<'a> as Iterator>::Item;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.turns.is_empty() {
            let at = self.at % self.turns.len();
            match self.turns[at].next() {
                Some(next) => {
                    self.at = at + 1;
                    return Some(next);
                }
                None => {
                    drop(self.turns.remove(at));
                    self.at = at;
                }
            }
        }
        None
    }
}

impl PublishArgs {
    /// Runs the command: 0 when every frame was sent, and answered once where that is waited for; else 1.
    ///
    /// # Errors
    /// Wrong usage, a recording that cannot be read, a frame larger than the server takes or that it refuses,
    /// nobody listening, or a connection that cannot be had or is lost for longer than
    /// `nats.publish_timeout`.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let is_address = |input: &OsString| input.to_str().is_some_and(Endpoint::is_address);
        if self.inputs.iter().any(is_address) {
            return live::run(&self, &settings).await;
        }
        let plan = Plan::open(&self, &Output::plain())?;
        let connection = self.connect(&settings).await?;
        plan.check_size(connection.client().max_payload())?;

        let output = Output::with_bar(plan.count());
        // A session may wait for its window before the budget of its frames begins.
        let window = if self.session.is_some() { LONGEST_WINDOW } else { Duration::ZERO };
        let patience = self.timeout.unwrap_or(settings.limits.timeout) + GRACE + window;
        let bounds = Bounds {
            subscriber: self.patience,
            outcome: self.wait.then_some(patience),
            connection: settings.nats.publish_timeout,
            is_live: false,
        };
        let mut in_flight = InFlight::new(&connection, bounds, &output, self.json).await?;
        let mut pacer = Pacer::new(self.rate.unwrap_or(Rate::Max));
        let played = self.play(&plan, &settings, &connection, &output, &mut in_flight, &mut pacer).await;
        // After an error too, outcomes of sent frames are awaited.
        let mut done = played.and(in_flight.finish().await);
        if done.is_ok() {
            done = in_flight.confirm().await;
        }
        output.finish();
        if in_flight.counts.sent + in_flight.counts.kept_back > 0 && !in_flight.is_refused() {
            self.summarise(&in_flight, pacer.until(in_flight.last_event), &output, patience);
            if pacer.late > 0 {
                let worst = pacer.latest_by.as_secs_f64() * 1e3;
                let late = pacer.late;
                output.say(format!("{late} frames were sent late, at most {worst:.0} ms after their time"));
            }
        }
        done?;

        let reconnects = connection.traffic().connects.saturating_sub(1);
        if in_flight.counts.without_subscriber > 0 {
            let prefix = &settings.nats.prefix;
            let mut sources: Vec<_> =
                plan.recordings.iter().map(|planned| format!("{prefix}.frames.{}", planned.source)).collect();
            sources.dedup();
            anyhow::bail!("no daemon listens on {}: start one with `sferic run`", sources.join(", "));
        }
        if reconnects > 0 && !self.wait {
            anyhow::bail!("the connection was lost {reconnects} times meanwhile, and with it perhaps frames");
        }
        let is_complete = in_flight.lost() == 0 && in_flight.counts.repeated == 0;
        drop(in_flight);
        connection.close(settings.nats.publish_timeout).await;
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Connects; a server that was just started may not listen yet.
    async fn connect(&self, settings: &Settings) -> anyhow::Result<Connection> {
        let patience = self.patience.min(settings.nats.connect_timeout);
        let began = Instant::now();
        let mut said = false;
        loop {
            match nats::connect(&settings.nats, "sferic publish").await {
                Err(error)
                    if matches!(error.downcast_ref(), Some(NoConnection::Away { .. }))
                        && began.elapsed() + RETRY < patience =>
                {
                    if !std::mem::replace(&mut said, true) {
                        let error = with_causes(&error);
                        Output::plain().say(format!("{error}; waiting up to {patience:?} for it"));
                    }
                    tokio::time::sleep(RETRY).await;
                }
                connected => return connected,
            }
        }
    }

    async fn play(
        &self,
        plan: &Plan,
        settings: &Settings,
        connection: &Connection,
        output: &Output,
        in_flight: &mut InFlight<'_>,
        pacer: &mut Pacer,
    ) -> anyhow::Result<()> {
        let mut counters: HashMap<&str, u64> = HashMap::new();
        for turn in self.turns(plan)? {
            for (planned, n, frame) in turn {
                let Planned { recording, source, starts_at } = planned;
                let subject = self.subject(&settings.nats.prefix, source, n);
                let seq = counters.entry(source).or_default();
                let frame = frame?;
                if !sferic_live::is_over(self.squelch, &frame.bytes, recording.datatype) {
                    in_flight.counts.kept_back += 1;
                    output.advance();
                    continue;
                }
                let seconds =
                    recording.sample_rate.map_or(0.0, |rate| starts_at + frame.position as f64 / rate);
                let due = pacer.due(in_flight.counts.sent, seconds);
                in_flight.until(due).await?;
                if in_flight.counts.without_subscriber > 0 {
                    return Ok(());
                }
                let frame_id = Uuid::now_v7().to_string();
                let message = self.message(planned, &frame, &frame_id, *seq).encode()?;
                let max_payload = connection.client().max_payload();
                let (instant, bytes) = (recording.bytes_per_instant(), message.len() as u64);
                plan::check_size(&recording.data, instant, bytes, max_payload)?;
                let bound = settings.nats.publish_timeout;
                anyhow::ensure!(
                    connection.is_up_within(bound).await,
                    "the connection to NATS was lost for over {bound:?}"
                );
                pacer.sent(due);
                pacer.postpone(in_flight.send(subject.clone(), message.into()).await?);
                if self.json && !self.wait {
                    output.line(json!({"frame_id": frame_id, "source": source, "seq": *seq}))?;
                }
                *seq += 1;
            }
        }
        Ok(())
    }

    /// The frames in the order in which they are sent, each with its recording and its number there: one
    /// recording after the other, or for sessions all of them side by side.
    fn turns<'a>(&self, plan: &'a Plan) -> anyhow::Result<Vec<Turn<'a>>> {
        let numbered = |planned: &'a Planned| -> anyhow::Result<Turn<'a>> {
            let frames = (0..).zip(planned.recording.frames(plan.cut)?);
            Ok(Box::new(frames.map(move |(n, frame)| (planned, n, frame))))
        };
        let turns = plan.recordings.iter().map(numbered).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(match self.session {
            None => turns,
            Some(_) => vec![Box::new(SideBySide { turns, at: 0 })],
        })
    }

    fn message<'a>(
        &'a self,
        planned: &Planned,
        frame: &'a RecordedFrame,
        frame_id: &'a str,
        seq: u64,
    ) -> FrameMessage<'a> {
        FrameMessage {
            frame_id,
            seq: Some(seq),
            datetime: frame.datetime,
            datatype: planned.recording.datatype.name(),
            sample_rate: planned.recording.sample_rate,
            num_channels: planned.recording.num_channels,
            frequency: frame.frequency,
            geolocation: frame.geolocation.as_ref(),
            session_size: self.session_size,
            model: self.model.as_deref(),
            timeout_ms: self.timeout.map(|timeout| timeout.as_millis() as u64),
            cache_enabled: None,
            samples: &frame.bytes,
        }
    }

    fn summarise(&self, in_flight: &InFlight<'_>, elapsed: Duration, output: &Output, patience: Duration) {
        let counts = &in_flight.counts;
        let elapsed = elapsed.as_secs_f64();
        let mut line = format!(
            "{} frames sent in {elapsed:.2} s ({:.1} frames/s)",
            counts.sent,
            counts.sent as f64 / elapsed.max(1e-6)
        );
        if self.wait {
            let codes: Vec<_> =
                counts.failures.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
            let failures: u64 = counts.failures.values().sum();
            line += &format!(
                ": {} predictions, {failures} failures{codes}, {} lost",
                counts.predictions,
                in_flight.lost()
            );
        }
        output.say(line);
        if let Some(squelch) = self.squelch {
            let kept_back = counts.kept_back;
            output.say(format!("{kept_back} frames were kept back, at or below the squelch of {squelch} dB"));
        }
        if counts.without_subscriber > 0 {
            output.say(format!("{} frames had no subscriber", counts.without_subscriber));
        }
        if counts.unacknowledged > 0 {
            let frames = counts.unacknowledged;
            output.say(format!("{frames} frames were not acknowledged by their stream, and may be lost"));
        }
        if in_flight.lost() > 0 {
            output.say(format!("{} frames got no outcome within {patience:?}", in_flight.lost()));
        }
        if counts.repeated > 0 {
            output.say(format!(
                "{} outcomes came for frames that had theirs: is there more than one queue group?",
                counts.repeated
            ));
        }
    }
}

#[cfg(test)]
mod tests;
