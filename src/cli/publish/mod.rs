//! `sferic publish`: publishes recordings as frames.

mod flight;
mod pace;
mod plan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use humantime_serde::re::humantime;
use serde_json::json;
use sferic_recording::{RecordedFrame, name};
use sferic_samples::Datatype;
use sferic_wire::FrameMessage;
use tokio::time::Instant;
use uuid::Uuid;

use super::ConnectArgs;
use super::output::Output;
use crate::nats::{self, Connection, NoConnection};
use crate::settings::Settings;
use flight::{Bounds, Flight};
use pace::Pacer;
pub use pace::Rate;
use plan::{Plan, Planned};

/// Time that an answer may take beyond the time budget.
const GRACE: Duration = Duration::from_secs(10);

/// Interval of attempts to connect to a server.
const RETRY: Duration = Duration::from_millis(200);

/// Publishes recordings as frames: SigMF (.sigmf-meta, .sigmf-data, .sigmf archives), WAV or raw IQ files.
///
/// Each recording is cut into frames of equal length. One shorter than a frame goes as one frame; a shorter
/// rest at the end is reported and not sent. Captures of one frequency are one stream unless
/// core:global_index or core:datetime shows a gap, and no frame holds two frequencies or a gap.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The datatype of a raw file is taken from its extension (cu8, cs8, cs16, cf32, cfile, …; --datatype for any \
other), its rate \
and centre frequency from its name where that has them side by side with units, as in \
name_433.92M_250k.cu8, and they can \
mean nothing else; what is taken is printed. WAV files (8, 16, 32 bits or float, I left and Q right) are \
read by their \
header, whatever --datatype says, and take their centre frequency from their name where they have no auxi \
chunk.

While a recording's subject has no subscriber, its first frame is sent again, for --patience at most. A \
refusal of the \
server is an error at once.

Without --wait, exits 0 once the server has accepted every frame; with --json prints id, source and seq of \
each. With --wait, \
at most 32 frames are unanswered at a time, each outcome is printed as it comes, and the exit code is 0 \
when every frame \
got exactly one, be it a prediction or a failure. A summary goes to standard error.

Examples:
  sferic publish recording.sigmf-meta --wait
  sferic publish name_433.92M_250k.cu8 --source north.rx2 --rate realtime
  sferic publish capture.bin --datatype ci16_le --sample-rate 2.4e6 --model modulation --wait --json")]
pub struct PublishArgs {
    /// Recordings, in the order in which they are sent.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Publish as this source: one or more tokens, such as `north.rx2` [default: each recording's name, with
    /// = and two hexadecimal digits for each byte but letters, digits, - and _].
    #[arg(long, value_name = "SOURCE", value_parser = source)]
    pub source: Option<String>,
    /// Ask this model, `name` or `name@version` [default: the daemon's].
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Samples per frame and channel.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..))]
    pub frame_samples: u64,
    /// Samples from one frame's start to the next one's [default: --frame-samples].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub hop: Option<u64>,
    /// Frames per second; `realtime`: as they were recorded; `max`: as fast as the server accepts them.
    #[arg(long, value_name = "N|realtime|max", default_value = "max")]
    pub rate: Rate,
    /// How long to wait for a daemon while the frames have no subscriber; 0s: not at all.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience)]
    pub patience: Duration,
    /// Time budget of each frame, such as 500ms [default: the daemon's].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
    /// How the samples are stored (cf32_le, cf32_be, cf64_le, ci32_le, ci16_le, ci16_be, cu16_le, ci8 or
    /// cu8), whatever the file says.
    #[arg(long, value_name = "DATATYPE", value_parser = datatype)]
    pub datatype: Option<Datatype>,
    /// Samples per second, whatever the file says.
    #[arg(long, value_name = "HZ", value_parser = sample_rate)]
    pub sample_rate: Option<f64>,
    /// Wait for each frame's outcome and print it.
    #[arg(long)]
    pub wait: bool,
    /// Print JSON objects, one a line; binary values are in standard base64.
    #[arg(long)]
    pub json: bool,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
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
        let plan = Plan::open(&self, &Output::plain())?;
        let connection = self.connect(&settings).await?;
        plan.check_size(connection.client().max_payload())?;

        let output = Output::with_bar(plan.count());
        let patience = self.timeout.unwrap_or(settings.limits.timeout) + GRACE;
        let bounds = Bounds {
            subscriber: self.patience,
            outcome: self.wait.then_some(patience),
            connection: settings.nats.publish_timeout,
        };
        let mut flight = Flight::new(&connection, bounds, &output, self.json).await?;
        let mut pacer = Pacer::new(self.rate);
        let played = self.play(&plan, &settings, &connection, &output, &mut flight, &mut pacer).await;
        // After an error too, outcomes of sent frames are awaited.
        let mut done = played.and(flight.finish().await);
        if done.is_ok() {
            done = flight.confirm().await;
        }
        output.finish();
        if flight.tally.sent > 0 && !flight.is_refused() {
            self.summarise(&flight, &pacer, &output, patience);
        }
        done?;

        let reconnects = connection.traffic().connects.saturating_sub(1);
        if flight.tally.without_subscriber > 0 {
            let prefix = &settings.nats.prefix;
            let mut sources: Vec<_> =
                plan.recordings.iter().map(|planned| format!("{prefix}.frames.{}", planned.source)).collect();
            sources.dedup();
            anyhow::bail!("no daemon listens on {}: start one with `sferic run`", sources.join(", "));
        }
        if reconnects > 0 && !self.wait {
            anyhow::bail!("the connection was lost {reconnects} times meanwhile, and with it perhaps frames");
        }
        let is_complete = flight.lost() == 0 && flight.tally.repeated == 0;
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
                        Output::plain().say(format!("{error:#}; waiting up to {patience:?} for it"));
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
        flight: &mut Flight<'_>,
        pacer: &mut Pacer,
    ) -> anyhow::Result<()> {
        let mut counters: HashMap<&str, u64> = HashMap::new();
        for planned in &plan.recordings {
            let Planned { recording, source, starts_at } = planned;
            let subject = format!("{}.frames.{source}", settings.nats.prefix);
            let seq = counters.entry(source).or_default();
            for frame in recording.frames(plan.cut)? {
                let frame = frame?;
                let seconds =
                    recording.sample_rate.map_or(0.0, |rate| starts_at + frame.position as f64 / rate);
                let due = pacer.due(flight.tally.sent, seconds);
                flight.until(due).await?;
                if flight.tally.without_subscriber > 0 {
                    return Ok(());
                }
                let frame_id = Uuid::now_v7().to_string();
                let message = self.message(planned, &frame, &frame_id, *seq).encode()?;
                plan::check_size(recording, message.len() as u64, connection.client().max_payload())?;
                let bound = settings.nats.publish_timeout;
                anyhow::ensure!(
                    connection.is_up_within(bound).await,
                    "the connection to NATS was lost for over {bound:?}"
                );
                pacer.sent(due);
                pacer.postpone(flight.send(subject.clone(), message.into()).await?);
                if self.json && !self.wait {
                    output.line(json!({"frame_id": frame_id, "source": source, "seq": *seq}))?;
                }
                *seq += 1;
            }
        }
        Ok(())
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
            model: self.model.as_deref(),
            timeout_ms: self.timeout.map(|timeout| timeout.as_millis() as u64),
            cache_enabled: None,
            samples: &frame.bytes,
        }
    }

    fn summarise(&self, flight: &Flight<'_>, pacer: &Pacer, output: &Output, patience: Duration) {
        let tally = &flight.tally;
        let elapsed = pacer.until(flight.last_event).as_secs_f64();
        let mut line = format!(
            "{} frames sent in {elapsed:.2} s ({:.1} frames/s)",
            tally.sent,
            tally.sent as f64 / elapsed.max(1e-6)
        );
        if self.wait {
            let codes: Vec<_> =
                tally.failures.iter().map(|(code, count)| format!("{code} {count}")).collect();
            let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
            let failures: u64 = tally.failures.values().sum();
            line += &format!(
                ": {} predictions, {failures} failures{codes}, {} lost",
                tally.predictions,
                flight.lost()
            );
        }
        output.say(line);
        if tally.without_subscriber > 0 {
            output.say(format!("{} frames had no subscriber", tally.without_subscriber));
        }
        if flight.lost() > 0 {
            output.say(format!("{} frames got no outcome within {patience:?}", flight.lost()));
        }
        if tally.repeated > 0 {
            output.say(format!(
                "{} outcomes came for frames that had theirs: is there more than one queue group?",
                tally.repeated
            ));
        }
        if pacer.late > 0 {
            let worst = pacer.latest_by.as_secs_f64() * 1e3;
            output
                .say(format!("{} frames were sent late, at most {worst:.0} ms after their time", pacer.late));
        }
    }
}

fn source(text: &str) -> Result<String, String> {
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
    };
    if text.split('.').all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("must be tokens with single dots between them, without spaces, `*` and `>`".to_owned())
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout >= Duration::from_millis(1) => Ok(timeout),
        _ => Err("must be a duration of at least 1ms with its unit, such as 500ms or 2s".to_owned()),
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "must be a duration with its unit, such as 30s, or 0s".to_owned())
}

fn datatype(text: &str) -> Result<Datatype, String> {
    name::datatype_of_name(text).ok_or_else(|| format!("supported: {}", name::datatype_list()))
}

fn sample_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number over 0, in Hz, such as 2.4e6".to_owned()),
    }
}

#[cfg(test)]
mod tests;
