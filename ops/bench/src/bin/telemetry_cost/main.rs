//! Cost of traces: processor time per frame with and without a sampled trace; `ops/bench/telemetry` builds
//! and starts this.
//!
//! What is compared takes turns in one daemon, so that what else the machine does meets all alike: the
//! frames' trace headers say whether they are sampled. A daemon whose receiver is killed is used for that
//! alone.
#![allow(missing_docs)] // a program

mod receiver;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::HeaderMap;
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;
use sferic::nats::PrivateServer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use sferic_bench::simulated_frames;
use sferic_bench::statistics::median;
use sferic_bench::usage::Usage;

#[derive(Parser)]
struct Args {
    /// Model repository with the model `overhead`.
    #[arg(long, default_value = "../shared/models")]
    models: PathBuf,
    /// Rounds, in each of which everything that is compared is measured once.
    #[arg(long, default_value_t = 24)]
    rounds: usize,
    /// Frames of a measurement; a quarter of them first, unmeasured.
    #[arg(long, default_value_t = 2000)]
    frames: usize,
    /// Be the receiver; for this program's own use.
    #[arg(long, hide = true)]
    receive: bool,
}

/// Of the traces that are sampled, by the frames' headers.
const SHARES: [f64; 3] = [0.0, 1.0, 0.01];
/// Frames on their way at once.
const OUTSTANDING: usize = 16;
/// Samples of a frame.
const SAMPLES: usize = 16384;
/// Longer than spans wait for their export.
const FLUSHED: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.receive {
        return receiver::run().await;
    }
    let bench = Bench::new(&args).await?;
    let bar = ProgressBar::new(2 * args.rounds as u64);
    let (mut off, mut all, mut one) = (vec![], vec![], vec![]);
    {
        let receiver = Receiver::start().await?;
        let daemon = bench.start(&receiver).await?;
        for round in 0..args.rounds {
            // In turn the first, so that nobody always follows the same one.
            let mut costs = [0.0; 3];
            for turn in 0..3 {
                let which = (round + turn) % 3;
                costs[which] = bench.measure(&daemon, SHARES[which], None).await?.cpu_s / args.frames as f64;
            }
            off.push(costs[0] * 1e6);
            all.push(costs[1] / costs[0]);
            one.push(costs[2] / costs[0]);
            bar.inc(1);
        }
    }
    let (mut gone, mut grown) = (vec![], vec![]);
    for _ in 0..args.rounds {
        let receiver = Receiver::start().await?;
        let daemon = bench.start(&receiver).await?;
        let before = bench.measure(&daemon, 1.0, None).await?;
        let after = bench.measure(&daemon, 1.0, Some(receiver)).await?;
        gone.push(after.cpu_s / before.cpu_s);
        grown.push((after.resident_bytes as f64 - before.resident_bytes as f64) / 1e6);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = json!({
        "rounds": args.rounds,
        "frames": args.frames,
        "without_us_per_frame": median(&off),
        "all_sampled_over_without": median(&all),
        "one_percent_over_without": median(&one),
        "receiver_killed_over_before": median(&gone),
        "receiver_killed_memory_mb": median(&grown),
        "receiver_killed_memory_mb_most": grown.iter().copied().fold(f64::MIN, f64::max),
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// This program once more, as a receiver; killed when dropped.
struct Receiver {
    _process: Child,
    endpoint: String,
}

impl Receiver {
    async fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--receive")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let endpoint = lines.next_line().await?.context("the receiver does not start")?;
        Ok(Self { _process: process, endpoint })
    }
}

struct Bench {
    server: PrivateServer,
    client: async_nats::Client,
    frames: Vec<Bytes>,
    count: usize,
    _repository: tempfile::TempDir,
    models: String,
}

impl Bench {
    async fn new(args: &Args) -> anyhow::Result<Self> {
        let repository = tempfile::tempdir()?;
        let model = args.models.join("overhead");
        let model = model.canonicalize().with_context(|| format!("{} is not there", model.display()))?;
        std::os::unix::fs::symlink(model, repository.path().join("overhead"))?;
        let server = PrivateServer::start(&[]).await?;
        let client = async_nats::connect(server.url()).await?;
        let models = repository.path().display().to_string();
        Ok(Self {
            server,
            client,
            frames: simulated_frames(SAMPLES)?,
            count: args.frames,
            _repository: repository,
            models,
        })
    }

    async fn start(&self, receiver: &Receiver) -> anyhow::Result<Child> {
        let settings = [
            ("MODELS__REPOSITORY", self.models.as_str()),
            ("MODELS__DEFAULT", "overhead"),
            ("CACHE__ENABLED", "false"),
            ("LIMITS__TIMEOUT", "10s"),
            ("TELEMETRY__LOG", "error"),
            ("TELEMETRY__SLOW_FRAME", "60s"),
            ("TELEMETRY__OTLP_ENDPOINT", &receiver.endpoint),
        ];
        let daemon = sferic_bench::start(&self.server, &settings)?;
        sferic_bench::ready(&self.client).await?;
        Ok(daemon)
    }

    /// What the frames cost this daemon where this share of their traces is sampled, and the memory it has
    /// then. `killed` is, soon after the first was sent.
    async fn measure(&self, daemon: &Child, sampled: f64, killed: Option<Receiver>) -> anyhow::Result<Usage> {
        let pid = daemon.id().context("the daemon has ended")?;
        self.load(self.count / 4, sampled).await?;
        tokio::time::sleep(FLUSHED).await;
        let before = Usage::of(pid)?;
        let kill = async {
            tokio::time::sleep(FLUSHED / 6).await;
            drop(killed);
        };
        tokio::join!(self.load(self.count, sampled), kill).0?;
        tokio::time::sleep(FLUSHED).await;
        let after = Usage::of(pid)?;
        Ok(Usage { cpu_s: after.cpu_s - before.cpu_s, ..after })
    }

    /// Requests whose trace headers say that this share of them is sampled, evenly spread.
    async fn load(&self, count: usize, sampled: f64) -> anyhow::Result<()> {
        let ask = |n: usize| async move {
            let is_sampled = ((n + 1) as f64 * sampled) as usize > (n as f64 * sampled) as usize;
            let mut headers = HeaderMap::new();
            headers.insert(
                "traceparent",
                format!("00-{:032x}-{:016x}-{:02x}", n + 1, n + 1, u8::from(is_sampled)),
            );
            let frame = self.frames[n % self.frames.len()].clone();
            let reply = self.client.request_with_headers("iq.frames.load", headers, frame).await?;
            let failed = reply.headers.and_then(|headers| headers.get("Nats-Service-Error").cloned());
            ensure!(failed.is_none(), "no prediction: {failed:?}");
            anyhow::Ok(())
        };
        stream::iter(0..count).map(ask).buffer_unordered(OUTSTANDING).try_collect::<()>().await
    }
}
