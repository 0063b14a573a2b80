//! What viewers of the operator's page cost the frames: latencies with and without them, in turn;
//! `ops/bench/viewers` builds and starts this.
#![allow(missing_docs)] // a program

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use indicatif::ProgressBar;
use serde::Serialize;
use sferic::nats::PrivateServer;
use sferic_bench::open_loop::latencies;
use sferic_bench::statistics::{Median, at, median};
use sferic_scene::scene::{FREQUENCY_HZ, SAMPLE_RATE_HZ};
use sferic_scene::{RECEIVERS, SceneSimulator};
use sferic_wire::FrameMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Parser)]
struct Args {
    /// Pairs of a round without and one with viewers.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Fixes a second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Viewers that read what comes.
    #[arg(long, default_value_t = 10)]
    reading: usize,
    /// Viewers that are connected and do not read.
    #[arg(long, default_value_t = 10)]
    stalled: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Round {
    p50_ms: f64,
    p99_ms: f64,
    failures: usize,
}

#[derive(Serialize)]
struct Report {
    rate_per_s: f64,
    without: Vec<Round>,
    with: Vec<Round>,
    /// With viewers over without, by pairs.
    p50_ratio: Median,
    p99_ratio: Median,
    /// Median with viewers over median without.
    p99_of_medians: f64,
    /// Bytes that the reading viewers have got.
    read_bytes: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.pairs > 0 && args.seconds > 0 && args.rate > 0.0, "pairs of rounds, and a rate");
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    // Free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listen = address.to_string();
    let daemon = sferic_bench::start(&server, &[("HTTP__LISTEN", &listen), ("CACHE__ENABLED", "false")])?;
    sferic_bench::ready(&client).await?;
    let frames = scenes()?;
    let bar = ProgressBar::new(2 * args.pairs as u64);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let read_bytes = Arc::<AtomicU64>::default();
    for pair in 0..args.pairs {
        // Each side is first in half of the pairs.
        for has_viewers in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let mut viewers = JoinSet::new();
            let mut stalled = Vec::new();
            if has_viewers {
                for _ in 0..args.reading {
                    let stream = view(address).await?;
                    viewers.spawn(read(stream, Arc::clone(&read_bytes)));
                }
                for _ in 0..args.stalled {
                    stalled.push(view(address).await?);
                }
            }
            let (ms, failures) = latencies(&client, &frames, args.rate, args.seconds).await?;
            drop(stalled);
            viewers.shutdown().await;
            let round = Round { p50_ms: at(&ms, 0.5), p99_ms: at(&ms, 0.99), failures };
            if has_viewers { &mut with } else { &mut without }.push(round);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    drop(daemon);
    let ratio = |of: fn(&Round) -> f64| {
        let ratios: Vec<_> = without.iter().zip(&with).map(|(off, on)| of(on) / of(off)).collect();
        median(&ratios)
    };
    let p99 = |rounds: &[Round]| median(&rounds.iter().map(|round| round.p99_ms).collect::<Vec<_>>()).median;
    let report = Report {
        rate_per_s: args.rate,
        p50_ratio: ratio(|round| round.p50_ms),
        p99_ratio: ratio(|round| round.p99_ms),
        p99_of_medians: p99(&with) / p99(&without),
        read_bytes: read_bytes.load(Relaxed),
        without,
        with,
    };
    let text =
        if args.json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    println!("{text}");
    Ok(())
}

/// Frames of scenes, for fixes.
fn scenes() -> anyhow::Result<Vec<Bytes>> {
    let simulator = SceneSimulator::new(1);
    let encode = |index| {
        let samples = simulator.scene(index).bytes();
        let message = FrameMessage {
            frame_id: "bench",
            datatype: "cf32_le",
            sample_rate: Some(SAMPLE_RATE_HZ),
            num_channels: RECEIVERS.len() as u32,
            frequency: Some(FREQUENCY_HZ),
            model: Some("localization"),
            samples: &samples,
            ..FrameMessage::default()
        };
        Ok(message.encode()?.into())
    };
    (0..64).map(encode).collect()
}

/// Connects a viewer; it looks once this returns.
async fn view(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).await.context("the daemon takes no viewer")?;
    ensure!(begin.ends_with(b"200 OK"), "the daemon refuses a viewer");
    Ok(stream)
}

/// Reads until it is stopped.
async fn read(mut stream: TcpStream, bytes: Arc<AtomicU64>) {
    let mut part = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut part).await {
        bytes.fetch_add(read as u64, Relaxed);
    }
}
