//! Loads a daemon of its own over loopback and measures it from outside; `ops/bench/daemon` builds and starts
//! this.
#![allow(missing_docs)] // a program

use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sferic_samples::Datatype;
use sferic_scene::scene::SAMPLE_RATE_HZ;
use sferic_scene::{FrameSimulator, RECEIVERS, SceneSimulator};
use sferic_wire::FrameMessage;
use tokio::process::Child;

#[derive(Parser)]
struct Args {
    /// Frames at full load; a tenth of them first, unmeasured.
    #[arg(long, default_value_t = 100_000)]
    frames: usize,
    /// One JSON object a model.
    #[arg(long)]
    json: bool,
}

/// Frames on their way at full load, as `sferic publish --wait` has.
const OUTSTANDING: usize = 32;
/// Different frames, sent again and again; the daemon's cache is off.
const DIFFERENT: u64 = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    for (model, share) in [("localization", 1), ("modulation", 20)] {
        let daemon = start(&server, &client).await?;
        let frames = frames(model)?;
        let pid = daemon.id().context("the daemon has ended")?;
        let frames_at_load = (args.frames / share).max(DIFFERENT as usize);
        let bar = ProgressBar::new((frames_at_load + frames_at_load / 10 + 1000) as u64);
        load(&client, &frames, frames_at_load / 10, OUTSTANDING, &bar).await?;
        let alone = load(&client, &frames, 1000, 1, &bar).await?;
        let before = usage(pid)?;
        let began = Instant::now();
        let full = load(&client, &frames, frames_at_load, OUTSTANDING, &bar).await?;
        let seconds = began.elapsed().as_secs_f64();
        let after = usage(pid)?;
        bar.finish_and_clear();
        let report = json!({
            "model": model,
            "frames": frames_at_load,
            "frame_bytes": frames[0].len(),
            "frames_per_second": frames_at_load as f64 / seconds,
            "one_at_a_time_ms": alone,
            "at_full_load_ms": full,
            "daemon_cpu_ms_per_frame": (after.cpu_s - before.cpu_s) * 1e3 / frames_at_load as f64,
            "rss_mib": [before.rss_mib, after.rss_mib],
        });
        println!("{}", if args.json { report.to_string() } else { text(&report) });
        drop(daemon);
    }
    Ok(())
}

fn text(report: &Value) -> String {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    format!(
        "{}: {:.0} frames/s of {:.0} KiB; arrival to prediction one at a time p50 {:.2} ms p99 {:.2} ms, \
         {OUTSTANDING} at a time p50 {:.2} ms p99 {:.2} ms; {:.3} ms of CPU a frame; RSS {:.1} MiB before \
         and {:.1} MiB after {:.0} frames",
        report["model"].as_str().unwrap_or_default(),
        number("/frames_per_second"),
        number("/frame_bytes") / 1024.0,
        number("/one_at_a_time_ms/p50"),
        number("/one_at_a_time_ms/p99"),
        number("/at_full_load_ms/p50"),
        number("/at_full_load_ms/p99"),
        number("/daemon_cpu_ms_per_frame"),
        number("/rss_mib/0"),
        number("/rss_mib/1"),
        number("/frames"),
    )
}

async fn start(server: &PrivateServer, client: &async_nats::Client) -> anyhow::Result<Child> {
    let daemon = sferic_bench::start(server, &[("CACHE__ENABLED", "false"), ("LIMITS__TIMEOUT", "10s")])?;
    sferic_bench::ready(client).await?;
    Ok(daemon)
}

fn frames(model: &str) -> anyhow::Result<Vec<Bytes>> {
    let (scenes, singles) = (SceneSimulator::new(1), FrameSimulator::new(1, 8192));
    let encode = |index| {
        let (samples, sample_rate, num_channels) = match model {
            "localization" => (scenes.scene(index).bytes(), SAMPLE_RATE_HZ, RECEIVERS.len() as u32),
            _ => (singles.frame(index).bytes(), 250e3, 1),
        };
        let message = FrameMessage {
            frame_id: "load",
            datatype: Datatype::Cf32Le.name(),
            sample_rate: Some(sample_rate),
            num_channels,
            model: Some(model),
            samples: &samples,
            ..FrameMessage::default()
        };
        Ok(message.encode()?.into())
    };
    (0..DIFFERENT).map(encode).collect()
}

/// Milliseconds from arrival to prediction, as the daemon states them.
async fn load(
    client: &async_nats::Client,
    frames: &[Bytes],
    count: usize,
    outstanding: usize,
    bar: &ProgressBar,
) -> anyhow::Result<Value> {
    let ask = |n: usize| async move {
        let reply = client.request("iq.frames.load", frames[n % frames.len()].clone()).await?;
        let outcome = rmpv::decode::read_value(&mut &reply.payload[..])?;
        let took = outcome
            .as_map()
            .and_then(|map| map.iter().find(|(key, _)| key.as_str() == Some("inference_time_ms")));
        bar.inc(1);
        took.and_then(|(_, ms)| ms.as_f64()).with_context(|| format!("no prediction: {outcome}"))
    };
    let mut ms: Vec<f64> =
        stream::iter(0..count).map(ask).buffer_unordered(outstanding).try_collect().await?;
    ensure!(ms.len() == count, "{} of {count} frames were answered", ms.len());
    ms.sort_by(f64::total_cmp);
    Ok(json!({"p50": ms[ms.len() / 2], "p99": ms[ms.len() * 99 / 100]}))
}

struct Usage {
    cpu_s: f64,
    rss_mib: f64,
}

/// Processor time and resident memory of a process, from Linux's /proc.
fn usage(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let stat = read("stat")?;
    // User and system time are the 14th and 15th field, in hundredths of a second; the second may hold
    // spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields
        .get(11..13)
        .context("a short stat")?
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap_or(0))
        .sum();
    let status = read("status")?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next());
    Ok(Usage { cpu_s: ticks as f64 / 100.0, rss_mib: rss.context("no VmRSS")?.parse::<f64>()? / 1024.0 })
}
