//! Live radio: one reading task a source, and one that sends.

mod feed;
mod retry;
mod rtl_tcp;
mod stdin;
mod zmq;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::stream::{self, SelectAll, StreamExt};
use serde_json::json;
use sferic_live::{Endpoint, Transport};
use sferic_settings::Settings;
use sferic_wire::FrameMessage;
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::Instant;
use uuid::Uuid;

use super::PublishArgs;
use super::plan::{check_size, source_of};
use crate::cli::Usage;
use crate::cli::output::Output;
use crate::cli::sending::{Bounds, GRACE, InFlight};
use crate::nats::{self, Connection};
use crate::shutdown;
use feed::{Feed, FeedCounts, LiveFrame, MAX_QUEUE};
use retry::Retry;

/// Time for the answers to what was sent, once nothing more is.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Interval at which losses are reported.
const REPORT: Duration = Duration::from_secs(10);

/// A server that is there is connected to within this time.
const SOON: Duration = Duration::from_secs(1);

/// The keys of a frame beside its samples take less than this.
const KEYS_BYTES: u64 = 1024;

/// A live source with the name it is published as.
struct Source {
    endpoint: Endpoint,
    /// The subject's tokens after `<prefix>.frames.`.
    name: String,
}

/// Publishes live sources until they end or the user does: 0 then; with `--wait` 1 where a frame that was
/// sent got no outcome, or several.
///
/// # Errors
/// Wrong usage, a frame larger than the server takes or that it refuses, or something else at an address than
/// was said.
pub async fn run(args: &PublishArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let sources = sources(args)?;
    let output = Output::plain();
    let mut stop = pin!(shutdown::requested());
    let connection = nats::connect_when_there(&settings.nats, "sferic publish").await?;
    let mut patience = pin!(tokio::time::sleep(SOON));
    let mut is_patient = true;
    while !connection.is_up() {
        tokio::select! {
            () = connection.reconnected(0) => {}
            () = &mut patience, if is_patient => {
                is_patient = false;
                output.say(format!("waiting for the NATS server at {}", settings.nats.shown_url()));
            }
            stopped = &mut stop => {
                return stopped.map(|()| ExitCode::SUCCESS).context("cannot watch signals");
            }
        }
    }
    for Source { endpoint, .. } in &sources {
        let instant = endpoint.format.datatype.bytes_per_sample() as u64;
        let max_payload = connection.client().max_payload();
        let bytes = args.frame_samples.saturating_mul(instant).saturating_add(KEYS_BYTES);
        check_size(endpoint, instant, bytes, max_payload)?;
    }
    let patience = args.timeout.unwrap_or(settings.limits.timeout) + GRACE;
    let bounds = Bounds {
        subscriber: args.patience,
        outcome: args.wait.then_some(patience),
        connection: settings.nats.publish_timeout,
        is_live: true,
    };
    let mut in_flight = InFlight::new(&connection, bounds, &output, args.json).await?;
    let (began, sources_ended) = (Instant::now(), in_flight.sources_ended());

    let others = sources.len() > 1;
    // A source that is something else than was said.
    let wrong = OnceLock::new();
    let (mut reading, mut counts, mut frames) = (Vec::new(), Vec::new(), SelectAll::new());
    for (index, source) in sources.iter().enumerate() {
        let waits = !matches!(source.endpoint.transport, Transport::Zmq { .. });
        let (feed, counted, receiver) = Feed::new(source.endpoint.format, args.cut(), args.squelch, waits);
        reading.push(async {
            if let Err(error) = read(&source.endpoint, feed, &output).await {
                if others {
                    output.say(format!("{error}; the other sources go on"));
                }
                // Only one of several is in the exit's message.
                _ = wrong.set(error);
            }
        });
        counts.push(counted);
        frames.push(queue(index, receiver));
    }
    let sender = Sender { args, settings, sources: &sources, connection: &connection, output: &output };
    let mut report = Report { sources: &sources, counts, shown: vec![0; sources.len()] };
    let mut seconds = tokio::time::interval_at(began + REPORT, REPORT);
    let played = {
        let mut sending = pin!(sender.send(&mut frames, &mut in_flight));
        let mut reading = pin!(futures::future::join_all(reading));
        let mut is_reading = true;
        loop {
            tokio::select! {
                biased;
                _ = &mut reading, if is_reading => {
                    is_reading = false;
                    sources_ended.store(true, Relaxed);
                }
                sent = &mut sending => break sent.map(|()| false),
                stopped = &mut stop => break stopped.map(|()| true).context("cannot watch signals"),
                _ = seconds.tick() => report.losses(&output),
            }
        }
    };
    // Unconstrained, because an exhausted task budget would look like the end.
    let queued = std::iter::from_fn(|| unconstrained(frames.next()).now_or_never().flatten());
    let unsent = queued.take(MAX_QUEUE * sources.len()).count();
    drop(frames);
    let ending = async {
        in_flight.finish().await?;
        if connection.is_up() { in_flight.confirm().await } else { Ok(()) }
    };
    let ended = tokio::time::timeout(ENDS_WITHIN, ending).await;
    in_flight.counts.kept_back = report.kept_back();
    if !in_flight.is_refused() {
        args.summarise(&in_flight, began.elapsed(), &output, patience);
        report.summary(&output, unsent);
    }
    if ended.is_err() {
        output.say(format!("ended without the answers that were not there within {ENDS_WITHIN:?}"));
    }
    let is_stopped = played?;
    ended.unwrap_or(Ok(()))?;
    if let Some(error) = wrong.into_inner() {
        return Err(error);
    }
    if in_flight.counts.sent == 0 && unsent > 0 && !is_stopped {
        anyhow::bail!("no frame was sent: no daemon listens; start one with `sferic run`");
    }
    let is_complete = in_flight.lost() == 0 && in_flight.counts.repeated == 0;
    drop(in_flight);
    connection.close(settings.nats.publish_timeout).await;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sources of a call.
fn sources(args: &PublishArgs) -> Result<Vec<Source>, Usage> {
    let mut sources: Vec<Source> = Vec::new();
    for input in &args.inputs {
        let Some(address) = input.to_str().filter(|address| Endpoint::is_address(address)) else {
            let path = input.display();
            return Err(Usage(format!("{path} is a recording: publish it apart from live sources")));
        };
        let endpoint = Endpoint::parse(address, args.datatype, args.sample_rate, args.frequency)
            .map_err(|error| Usage(error.to_string()))?;
        let name = args.source.clone().unwrap_or_else(|| name(&endpoint));
        sources.push(Source { endpoint, name });
    }
    if args.rate.is_some() {
        return Err(Usage("--rate is for recordings: a live source sets its own".to_owned()));
    }
    if args.source.is_some() && sources.len() > 1 {
        return Err(Usage("--source is for one live source: leave it out, or publish them apart".to_owned()));
    }
    let mut names = HashSet::new();
    match sources.iter().find(|source| !names.insert(&source.name)) {
        Some(Source { endpoint, .. }) => Err(Usage(format!("{endpoint} is given twice"))),
        None => Ok(sources),
    }
}

/// The name of a source that the user gives none.
fn name(endpoint: &Endpoint) -> String {
    let dashed = |kind: &str, address: &str| {
        let address = address.trim_start_matches("tcp://").replace(['.', ':', '[', ']'], "-");
        source_of(OsStr::new(&format!("{kind}-{address}")))
    };
    match &endpoint.transport {
        Transport::Stdin => "stdin".to_owned(),
        Transport::RtlTcp { address, .. } => dashed("rtl_tcp", address),
        Transport::Zmq { address } => dashed("zmq", address),
    }
}

/// Reads a source into its feed for as long as it lasts.
async fn read(endpoint: &Endpoint, feed: Feed, output: &Output) -> anyhow::Result<()> {
    let retry = Retry::new(endpoint, output);
    match &endpoint.transport {
        Transport::Stdin => stdin::read(feed).await,
        Transport::RtlTcp { address, tuning } => rtl_tcp::read(address, tuning, feed, retry).await,
        Transport::Zmq { address } => {
            zmq::read(address, endpoint.format.datatype.bytes_per_sample(), feed, retry).await
        }
    }
}

/// The frames of the source of this index, as a stream.
fn queue(
    index: usize,
    mut frames: mpsc::Receiver<LiveFrame>,
) -> stream::BoxStream<'static, (usize, LiveFrame)> {
    stream::poll_fn(move |context| frames.poll_recv(context).map(|frame| Some((index, frame?)))).boxed()
}

/// Sends frames.
struct Sender<'a> {
    args: &'a PublishArgs,
    settings: &'a Settings,
    sources: &'a [Source],
    connection: &'a Connection,
    output: &'a Output,
}

impl Sender<'_> {
    /// Sends what comes, and handles the answers, until every source has ended.
    async fn send(
        &self,
        frames: &mut (impl futures::Stream<Item = (usize, LiveFrame)> + Unpin),
        in_flight: &mut InFlight<'_>,
    ) -> anyhow::Result<()> {
        loop {
            let next = tokio::select! {
                biased;
                next = frames.next() => next,
                ended = in_flight.handle_answers() => return ended,
            };
            let Some((index, frame)) = next else { return Ok(()) };
            let Some(source) = self.sources.get(index) else { continue };
            let subject = self.args.subject(&self.settings.nats.prefix, &source.name, frame.seq);
            in_flight.until(None).await?;
            while !self.connection.is_up_within(SOON).await {
                anyhow::ensure!(!in_flight.sources_ended().load(Relaxed), "the connection to NATS was lost");
                tokio::time::sleep(SOON).await;
            }
            let frame_id = Uuid::now_v7().to_string();
            let message = self.message(source, &frame, &frame_id).encode()?;
            in_flight.send(subject, message.into()).await?;
            if self.args.json && !self.args.wait {
                let line = json!({"frame_id": frame_id, "source": source.name, "seq": frame.seq});
                self.output.line(line).context("cannot write to standard output")?;
            }
        }
    }

    fn message<'a>(
        &'a self,
        source: &'a Source,
        frame: &'a LiveFrame,
        frame_id: &'a str,
    ) -> FrameMessage<'a> {
        let format = source.endpoint.format;
        FrameMessage {
            frame_id,
            seq: Some(frame.seq),
            datetime: frame.datetime,
            datatype: format.datatype.name(),
            sample_rate: Some(format.sample_rate),
            num_channels: 1,
            frequency: format.frequency,
            geolocation: self.args.position.as_ref(),
            session_size: self.args.session_size,
            model: self.args.model.as_deref(),
            timeout_ms: self.args.timeout.map(|timeout| timeout.as_millis() as u64),
            cache_enabled: None,
            samples: &frame.bytes,
        }
    }
}

/// What was not sent, by source.
struct Report<'a> {
    sources: &'a [Source],
    counts: Vec<Arc<FeedCounts>>,
    /// Dropped frames that were reported.
    shown: Vec<u64>,
}

impl Report<'_> {
    /// Says what was dropped since the last time.
    fn losses(&mut self, output: &Output) {
        for ((source, counts), shown) in self.sources.iter().zip(&self.counts).zip(&mut self.shown) {
            let dropped = counts.dropped.load(Relaxed);
            let new = dropped - std::mem::replace(shown, dropped);
            if new > 0 {
                output.say(format!(
                    "{}: {new} frames dropped in the last {REPORT:?}: the daemon or the connection does not \
                     keep up",
                    source.name
                ));
            }
        }
    }

    /// Frames of all sources that were kept back.
    fn kept_back(&self) -> u64 {
        self.counts.iter().map(|counts| counts.kept_back.load(Relaxed)).sum()
    }

    /// Says what became of each source; `unsent` frames were still queued.
    fn summary(&self, output: &Output, unsent: usize) {
        for (source, counts) in self.sources.iter().zip(&self.counts) {
            let count = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
            let mut line = format!("{}: {} frames dropped", source.name, count(&counts.dropped));
            if count(&counts.stops) > 0 {
                _ = write!(line, ", {} stops of the source", count(&counts.stops));
            }
            if count(&counts.cut_off) > 0 {
                _ = write!(line, ", {} samples made no whole frame", count(&counts.cut_off));
            }
            output.say(line);
        }
        if unsent > 0 {
            output.say(format!("{unsent} frames were not sent any more"));
        }
    }
}

#[cfg(test)]
mod tests;
