//! `sferic record`: frames and their outcomes as SigMF.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use async_nats::Message;
use bytes::Bytes;
use bytesize::ByteSize;
use clap::Args;
use futures::StreamExt;
use sferic_actors::frame::Encoding;
use sferic_recording::ring::Rule;
use sferic_samples::units::size;
use sferic_settings::Settings;
use sferic_wire as wire;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::output::Output;
use super::{ConnectArgs, Usage, refusal};
use crate::nats::{self, Action};
use crate::recorder::{Choice, Finished, Recorder};
use crate::shutdown;
use crate::source_pattern::is_pattern;

/// Bytes of frames whose outcome is awaited.
const PENDING_BYTES: usize = 256 << 20;

/// What helps where a subject is refused.
const ADVICE: &str = "sign in as a user who may listen there, or choose another --source";

/// Outcomes that may wait for their frames.
const MAX_EARLY: usize = 1024;

/// Time that an outcome may take beyond the longest time budget.
const GRACE: Duration = Duration::from_secs(30);

/// Interval at which frames without an outcome and the folder are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Records frames and their outcomes as SigMF, until Ctrl-C.
///
/// Each source has a recording for each stretch of equal datatype, rate and centre frequency. A frame is an
/// annotation, with its keys without the samples (sferic:frame) and its outcome (sferic:outcome). The oldest
/// recordings are removed for room. Frames that `sferic replay` sends are not recorded.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Rules:
  all              every frame
  share=0.1        a tenth of the frames
  failures         frames that got no prediction
  confidence<0.5   predictions whose confidence, or best score, is less
  ellipse>100      predictions whose ellipse is longer than so many metres, from centre to end

Examples:
  sferic record --out records
  sferic record --out unsure --rule 'confidence<0.6' --model modulation
  sferic record --out north --source 'north.>' --max-bytes 10GiB

The daemon can do the same by itself: [record] in its configuration. It then has frames of batches and HTTP \
calls too, and needs no second copy of each frame.")]
pub struct RecordArgs {
    /// The folder, which is made where it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which frames are recorded.
    #[arg(long, value_name = "RULE", default_value = "all")]
    pub rule: Rule,
    /// How large the folder's recordings may get.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = max_bytes)]
    pub max_bytes: u64,
    /// Record these sources alone, such as `north.>`.
    #[arg(long, value_name = "SOURCE", value_parser = pattern)]
    pub source: Option<String>,
    /// Record what this model has answered alone.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Ends after so many frames.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

fn max_bytes(text: &str) -> Result<u64, String> {
    let size = text.parse().ok().map(|size: ByteSize| size.as_u64());
    size.filter(|bytes| *bytes >= 1 << 20)
        .ok_or_else(|| "must be a size of at least 1MiB, such as 10GiB".to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    let must =
        "must be tokens with single dots between them; `*` stands for one, `>` at the end for the rest";
    if is_pattern(text) { Ok(text.to_owned()) } else { Err(must.to_owned()) }
}

impl RecordArgs {
    /// Runs the command. Ends with 0 on Ctrl-C or after `--count` frames.
    ///
    /// # Errors
    /// No connection, a subject that the server refuses, or a folder that cannot be written.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let choice = Choice { rule: self.rule, source: self.source.clone(), model: self.model.clone() };
        let connection = nats::connect(&settings.nats, "sferic record").await?;
        let sources = self.source.as_deref().unwrap_or(">");
        let prefix = &settings.nats.prefix;
        let subjects: Vec<String> =
            ["frames", "predictions", "failures"].map(|kind| format!("{prefix}.{kind}.{sources}")).into();
        let mut messages = refusal::listen(&connection, &subjects, ADVICE).await?;
        let mut refused = pin!(refusal::of_any(&connection, Action::Subscribe, &subjects));
        let recorder = Recorder::start(&self.out, self.max_bytes, choice)
            .map_err(|error| Usage(sferic_telemetry::with_causes(&error)))?;
        let output = Output::plain();
        output.say(format!(
            "recording {} to {}: {}, at most {}",
            subjects[0],
            self.out.display(),
            self.rule,
            size::text(self.max_bytes)
        ));
        let mut pairing = Pairing::new(&settings, recorder);
        let mut stop = pin!(shutdown::requested());
        let mut ticks = tokio::time::interval(LOOK);
        let mut epoch = connection.epoch();
        while self.count.is_none_or(|count| pairing.recorder.counts().recorded < count) {
            tokio::select! {
                message = messages.next() => {
                    pairing.take(message.context("the connection is closed")?, prefix);
                }
                _ = ticks.tick() => {
                    pairing.look();
                    if pairing.recorder.stopped().is_some() {
                        break;
                    }
                }
                words = &mut refused => bail!(refusal::subscription(&words, ADVICE)),
                () = connection.reconnected(epoch) => {
                    epoch = connection.epoch();
                    output.say("the connection was lost and is back: frames of the time between are missing");
                }
                stopped = &mut stop => {
                    stopped.context("cannot watch signals")?;
                    break;
                }
            }
        }
        let dropped = connection.dropped();
        connection.clone().close(settings.nats.publish_timeout).await;
        while !pairing.order.is_empty() {
            pairing.give_up_first();
        }
        let Pairing { recorder, unmatched, without_id, unanswered, .. } = pairing;
        let stopped = recorder.stopped().map(str::to_owned);
        let counts = tokio::task::spawn_blocking(move || recorder.close()).await?;
        output.say(format!(
            "{} frames recorded in {}, {} in all",
            counts.recorded,
            self.out.display(),
            ByteSize(counts.bytes)
        ));
        for (count, what) in [
            (counts.passed_over, "frames passed over by the rule"),
            (counts.undecodable, "frames could not be decoded"),
            (counts.dropped, "frames found no room"),
            (counts.removed, "older recordings were removed for room"),
            (unmatched, "outcomes belong to no frame that was seen"),
            (without_id, "frames have neither an id nor a seq, so that their outcomes are not known"),
            (unanswered, "frames had no outcome when they were recorded"),
            (dropped, "times messages came faster than they were read"),
        ] {
            if count > 0 {
                output.say(format!("{count} {what}"));
            }
        }
        match stopped {
            Some(reason) => bail!("recording has ended: {reason}"),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

/// What an outcome has in common with its frame.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Id(String),
    Seq(u64),
}

/// By what the frame of an outcome can be found.
fn keys(outcome: &Outcome) -> [Option<Key>; 2] {
    let id = outcome.get("frame_id").and_then(|id| id.as_str()).map(|id| Key::Id(id.to_owned()));
    [id, outcome.get("seq").and_then(rmpv::Value::as_u64).map(Key::Seq)]
}

/// Brings frames and outcomes together.
struct Pairing {
    recorder: Recorder,
    /// In the order in which they came: a frame's id is its sender's, and need not be another one each time.
    pending: HashMap<(String, Key), VecDeque<Pending>>,
    waiting: usize,
    /// In the order in which they came; those that have ended are still in it.
    order: VecDeque<((String, Key), Instant)>,
    bytes: usize,
    patience: Duration,
    /// Outcomes that came before their frames: the two are read from different subscriptions.
    early: VecDeque<(String, Outcome, Instant)>,
    unmatched: u64,
    without_id: u64,
    unanswered: u64,
}

/// A frame whose outcome is awaited.
struct Pending {
    payload: Bytes,
    encoding: Encoding,
    received_at: SystemTime,
    since: Instant,
}

impl Pairing {
    fn new(settings: &Settings, recorder: Recorder) -> Self {
        Self {
            recorder,
            pending: HashMap::new(),
            waiting: 0,
            order: VecDeque::new(),
            bytes: 0,
            patience: settings.limits.max_timeout + GRACE,
            early: VecDeque::new(),
            unmatched: 0,
            without_id: 0,
            unanswered: 0,
        }
    }

    fn take(&mut self, message: Message, prefix: &str) {
        let Some(rest) = message.subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else {
            return;
        };
        match rest.split_once('.') {
            Some(("frames", source)) if self.recorder.wants(source) => {
                let source = source.to_owned();
                self.frame(source, message);
            }
            Some(("predictions" | "failures", source)) if self.recorder.wants(source) => {
                let source = source.to_owned();
                if let Ok(outcome) = Outcome::decode(&message) {
                    self.outcome(source, outcome);
                }
            }
            _ => {}
        }
    }

    fn frame(&mut self, source: String, message: Message) {
        let encoding = nats::encoding_of(&message);
        let info = wire::salvage(&message.payload, encoding);
        let header = || Some(message.headers.as_ref()?.get("Nats-Msg-Id")?.as_str().to_owned());
        let id = Some(info.frame_id).filter(|id| !id.is_empty()).or_else(header);
        let Some(key) = id.map(Key::Id).or(info.seq.map(Key::Seq)) else {
            self.without_id += 1;
            return;
        };
        let (key, since) = ((source, key), Instant::now());
        self.bytes += message.payload.len();
        let pending = Pending { payload: message.payload, encoding, received_at: SystemTime::now(), since };
        self.pending.entry(key.clone()).or_default().push_back(pending);
        self.waiting += 1;
        self.order.push_back((key.clone(), since));
        if self.order.len() > 2 * self.waiting + MAX_EARLY {
            let pending = &self.pending;
            self.order.retain(|(key, since)| {
                pending.get(key).is_some_and(|frames| frames.iter().any(|frame| frame.since == *since))
            });
        }
        let early = self.early.iter().position(|(source, outcome, _)| {
            *source == key.0 && keys(outcome).into_iter().flatten().any(|each| each == key.1)
        });
        if let Some((_, outcome, _)) = early.and_then(|index| self.early.remove(index)) {
            self.outcome(key.0, outcome);
        }
        while self.bytes > PENDING_BYTES {
            self.give_up_first();
        }
    }

    fn outcome(&mut self, source: String, outcome: Outcome) {
        let mut found = keys(&outcome).into_iter().flatten().map(|key| (source.clone(), key));
        match found.find_map(|key| self.first(&key, None)) {
            Some(pending) => self.finish(source, pending, outcome.json().into_bytes()),
            None => {
                self.early.push_back((source, outcome, Instant::now()));
                if self.early.len() > MAX_EARLY {
                    self.early.pop_front();
                    self.unmatched += 1;
                }
            }
        }
    }

    /// Records what has waited too long for its outcome.
    fn look(&mut self) {
        while self.early.front().is_some_and(|(_, _, since)| since.elapsed() > LOOK) {
            self.early.pop_front();
            self.unmatched += 1;
        }
        while self.order.front().is_some_and(|(_, since)| since.elapsed() > self.patience) {
            self.give_up_first();
        }
    }

    fn give_up_first(&mut self) {
        let Some((key, since)) = self.order.pop_front() else { return };
        // A frame with this key may have ended, and another one have come since.
        if let Some(pending) = self.first(&key, Some(since)) {
            self.unanswered += 1;
            self.finish(key.0, pending, b"null".to_vec());
        }
    }

    /// Takes the first frame of a key, where `since` is given only if it came then.
    fn first(&mut self, key: &(String, Key), since: Option<Instant>) -> Option<Pending> {
        let frames = self.pending.get_mut(key)?;
        if since.is_some_and(|since| frames.front().is_none_or(|frame| frame.since != since)) {
            return None;
        }
        let first = frames.pop_front();
        if frames.is_empty() {
            self.pending.remove(key);
        }
        self.waiting -= usize::from(first.is_some());
        first
    }

    fn finish(&mut self, source: String, pending: Pending, outcome: Vec<u8>) {
        let Pending { payload, encoding, received_at, .. } = pending;
        self.bytes -= payload.len();
        self.recorder.take(Finished { source, payload, encoding, received_at, outcome });
    }
}
