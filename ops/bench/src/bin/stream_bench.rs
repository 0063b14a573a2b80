//! Frames from a stream: the daemon against a bare loop that pulls, publishes and acknowledges, alternated on
//! one server; then frames that have waited without a daemon. `ops/bench/streams` builds and starts this.
#![allow(missing_docs)] // a program

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, Context, stream};
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sferic::nats::PrivateServer;
use sferic_bench::statistics::median;
use sferic_wire::FrameMessage;
use tempfile::TempDir;
use tokio::process::{Child, Command};

#[derive(Parser)]
struct Args {
    /// Runs of each side.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Frames a run.
    #[arg(long, default_value_t = 12_000)]
    frames: u64,
    /// Samples of a frame, of two bytes each.
    #[arg(long, default_value_t = 8192)]
    samples: usize,
    /// A model repository, and the model.
    #[arg(long, default_value = "../shared/models")]
    models: PathBuf,
    #[arg(long, default_value = "overhead")]
    model: String,
    /// The server syncs every message to the disk before it acknowledges it.
    #[arg(long)]
    sync_always: bool,
    /// Seconds without a daemon, in the last part.
    #[arg(long, default_value_t = 60)]
    absent: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Frames on their way at once, as the daemon has by default.
const OUTSTANDING: usize = 256;
/// Different frames; the daemon's cache is off.
const DIFFERENT: usize = 64;
const PATIENCE: Duration = Duration::from_secs(300);

struct Bench {
    args: Args,
    server: PrivateServer,
    context: Context,
    frames: Vec<Bytes>,
    _store: TempDir,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let bench = Bench::start(Args::parse()).await?;
    let bar = ProgressBar::new(bench.args.pairs as u64 + 1)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")?);
    // The bare loop publishes what the daemon publishes.
    let outcome = bench.warm_up().await?;
    let (mut daemon, mut bare, mut one, mut ratio) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for pair in 0..bench.args.pairs {
        // Each side is first as often as it is last.
        let mut ours = None;
        if pair % 2 == 0 {
            ours = Some(bench.daemon_rate().await?);
        }
        let theirs = bench.bare_rate(&outcome, OUTSTANDING).await?;
        one.push(bench.bare_rate(&outcome, 1).await?);
        let ours = match ours {
            Some(ours) => ours,
            None => bench.daemon_rate().await?,
        };
        bar.inc(1);
        bar.set_message(format!("{ours:.0} of {theirs:.0} frames/s"));
        daemon.push(ours);
        bare.push(theirs);
        ratio.push(ours / theirs);
    }
    let peak = median(&daemon).median;
    let absent = bench.absent().await?;
    bar.finish_and_clear();
    let report = json!({
        "frames": bench.args.frames,
        "frame_bytes": bench.frames[0].len(),
        "sync_always": bench.args.sync_always,
        "daemon_frames_per_second": median(&daemon),
        "bare_frames_per_second": median(&bare),
        "daemon_to_bare": median(&ratio),
        "bare_one_at_a_time_frames_per_second": median(&one),
        "after_absence": {
            "seconds": bench.args.absent,
            "frames_per_second": absent.rate,
            "to_peak": absent.rate / peak,
            "delivered_again": absent.delivered_again,
            "delivered_more_than_twice": absent.delivered_more_than_twice,
        },
    });
    if bench.args.json {
        println!("{report}");
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

/// What became of the frames that had waited.
struct Absence {
    rate: f64,
    delivered_again: usize,
    delivered_more_than_twice: usize,
}

impl Bench {
    async fn start(args: Args) -> anyhow::Result<Self> {
        ensure!(args.models.join(&args.model).is_dir(), "{} has no {}", args.models.display(), args.model);
        let store = TempDir::new()?;
        let config = store.path().join("server.conf");
        let sync = if args.sync_always { "sync_interval: always" } else { "" };
        std::fs::write(&config, format!("jetstream {{ store_dir: {:?}\n{sync} }}\n", store.path()))?;
        let server = PrivateServer::start(&["-c", config.to_str().context("an odd path")?]).await?;
        let context = jetstream::new(async_nats::connect(server.url()).await?);
        let frames = frames(args.samples)?;
        Ok(Self { args, server, context, frames, _store: store })
    }

    fn daemon(&self) -> anyhow::Result<Child> {
        let settings = [
            ("NATS__MODE", "jetstream"),
            ("JETSTREAM__MAX_BYTES", "2GiB"),
            ("MODELS__REPOSITORY", self.args.models.to_str().context("a path that is no text")?),
            ("MODELS__DEFAULT", &self.args.model),
            ("CACHE__ENABLED", "false"),
        ];
        sferic_bench::start(&self.server, &settings)
    }

    /// Has the daemon make the streams, and gives one of its outcomes.
    async fn warm_up(&self) -> anyhow::Result<Bytes> {
        let daemon = self.daemon()?;
        sferic_bench::ready(&self.context.client()).await?;
        end(daemon).await?;
        self.run_daemon(200).await?;
        let outcomes = self.context.get_stream("IQ_OUTCOMES").await?;
        let last = outcomes.cached_info().state.last_sequence;
        let message = outcomes.get_raw_message(last).await?;
        ensure!(message.subject.starts_with("iq.predictions."), "{} is no prediction", message.subject);
        Ok(message.payload)
    }

    async fn daemon_rate(&self) -> anyhow::Result<f64> {
        Ok(self.run_daemon(self.args.frames).await?.1)
    }

    /// Fills the stream, starts the daemon, and gives it and the rate from its first outcome to its last.
    async fn run_daemon(&self, frames: u64) -> anyhow::Result<(u64, f64)> {
        let before = self.fill(frames).await?;
        self.drain_with_daemon(before, frames).await
    }

    async fn drain_with_daemon(&self, before: u64, frames: u64) -> anyhow::Result<(u64, f64)> {
        let daemon = self.daemon()?;
        self.published(before + 1).await?;
        let began = Instant::now();
        let first = self.last_outcome().await? - before;
        self.published(before + frames).await?;
        let rate = (frames - first) as f64 / began.elapsed().as_secs_f64();
        end(daemon).await?;
        Ok((before, rate))
    }

    /// The same by a loop that knows nothing of models: pulls, publishes an outcome, acknowledges.
    async fn bare_rate(&self, outcome: &Bytes, outstanding: usize) -> anyhow::Result<f64> {
        let before = self.fill(self.args.frames).await?;
        let frames = self.context.get_stream("IQ_FRAMES").await?;
        let consumer: PullConsumer = frames.get_consumer("sferic").await.map_err(anyhow::Error::msg)?;
        let messages = consumer.stream().max_messages_per_batch(OUTSTANDING).messages().await?;
        let began = Instant::now();
        let count = self.args.frames as usize;
        messages
            .map_err(anyhow::Error::from)
            .map_ok(|message| async move {
                let info = message.info().map_err(anyhow::Error::msg)?;
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("IQ_FRAMES:{}", info.stream_sequence));
                let published =
                    self.context.publish_with_headers("iq.predictions.rx", headers, outcome.clone());
                published.await?.await?;
                message.ack().await.map_err(anyhow::Error::msg)
            })
            .try_buffer_unordered(outstanding)
            .take(count)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        let rate = self.args.frames as f64 / began.elapsed().as_secs_f64();
        ensure!(self.last_outcome().await? == before + self.args.frames, "outcomes are missing");
        Ok(rate)
    }

    /// Frames wait without a daemon; then one comes.
    async fn absent(&self) -> anyhow::Result<Absence> {
        let before = self.fill(self.args.frames).await?;
        tokio::time::sleep(Duration::from_secs(self.args.absent)).await;
        let (_, rate) = self.drain_with_daemon(before, self.args.frames).await?;
        let outcomes = self.context.get_stream("IQ_OUTCOMES").await?;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: before + 1 },
            ..pull::OrderedConfig::default()
        };
        let messages = outcomes.create_consumer(config).await?.messages().await?;
        let messages: Vec<_> = messages.take(self.args.frames as usize).try_collect().await?;
        let mut deliveries = Vec::new();
        for message in &messages {
            let body = rmpv::decode::read_value(&mut &message.payload[..])?;
            let entries = body.as_map().context("no map")?;
            let found = entries.iter().find(|(key, _)| key.as_str() == Some("deliveries"));
            deliveries.push(found.and_then(|(_, count)| count.as_u64()).context("no deliveries")?);
        }
        Ok(Absence {
            rate,
            delivered_again: deliveries.iter().filter(|count| **count > 1).count(),
            delivered_more_than_twice: deliveries.iter().filter(|count| **count > 2).count(),
        })
    }

    /// Empties both streams' contents, puts frames into theirs, and gives the last outcome's sequence.
    async fn fill(&self, frames: u64) -> anyhow::Result<u64> {
        self.context.get_stream("IQ_FRAMES").await?.purge().await?;
        let outcomes: stream::Stream = self.context.get_stream("IQ_OUTCOMES").await?;
        outcomes.purge().await?;
        let mut acks = Vec::new();
        for n in 0..frames as usize {
            let frame = self.frames[n % DIFFERENT].clone();
            acks.push(self.context.publish("iq.frames.rx", frame).await?);
            if acks.len() == OUTSTANDING {
                for ack in acks.drain(..) {
                    ack.await?;
                }
            }
        }
        for ack in acks {
            ack.await?;
        }
        self.last_outcome().await
    }

    async fn last_outcome(&self) -> anyhow::Result<u64> {
        Ok(self.context.get_stream("IQ_OUTCOMES").await?.cached_info().state.last_sequence)
    }

    async fn published(&self, last: u64) -> anyhow::Result<()> {
        let published = async {
            while self.last_outcome().await? < last {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, published).await.context("outcomes do not come")?
    }
}

async fn end(mut daemon: Child) -> anyhow::Result<()> {
    let pid = daemon.id().context("it has ended")?.to_string();
    Command::new("kill").args(["-s", "TERM", &pid]).status().await?;
    let status = tokio::time::timeout(PATIENCE, daemon.wait()).await.context("it does not end")??;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

fn frames(samples: usize) -> anyhow::Result<Vec<Bytes>> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let mut encode = || {
        let samples: Vec<u8> = (0..2 * samples).map(|_| noise()).collect();
        let message = FrameMessage {
            frame_id: "load",
            datatype: "ci8",
            sample_rate: Some(1e6),
            num_channels: 1,
            samples: &samples,
            ..FrameMessage::default()
        };
        Ok(message.encode()?.into())
    };
    (0..DIFFERENT).map(|_| encode()).collect()
}
