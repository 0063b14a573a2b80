//! What a shadow costs the version that is active: its latencies at half load with and without one, in turn;
//! `ops/bench/shadows` builds and starts this.
#![allow(missing_docs)] // a program

use std::path::PathBuf;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sferic_bench::open_loop::{latencies, most_per_s};
use sferic_bench::statistics::{Median, at, median};
use sferic_bench::{copy_folder, simulated_frames};

#[derive(Parser)]
struct Args {
    /// The bundle that is served, as versions 1 and 2; version 1 is the shadow.
    #[arg(long, default_value = "config/models/modulation/1")]
    bundle: PathBuf,
    /// Pairs of a round without and one with a shadow.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Seconds a round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Share of the most frames a second that a closed loop gets through.
    #[arg(long, default_value_t = 0.5)]
    load: f64,
    /// Samples a frame.
    #[arg(long, default_value_t = 16_384)]
    samples: usize,
    /// Share of the frames that the shadow is to see; one in a billion measures the noise.
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Round {
    p50_ms: f64,
    p99_ms: f64,
    failures: usize,
    /// Frames that the shadow has computed in this round.
    compared: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct Report {
    most_per_s: f64,
    rate_per_s: f64,
    without: Vec<Round>,
    with: Vec<Round>,
    /// With a shadow over without, by pairs.
    p50_ratio: Median,
    p99_ratio: Median,
    /// Median with a shadow over median without.
    p99_of_medians: f64,
    /// Share of the frames that the shadow has computed.
    compared: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.pairs > 0 && args.seconds > 0 && args.load > 0.0, "pairs of rounds, and a load");
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let repository = tempfile::tempdir()?;
    for version in ["1", "2"] {
        copy_folder(&args.bundle, &repository.path().join("served").join(version))?;
    }
    let path = repository.path().to_str().context("a path that is no text")?;
    let settings = [("MODELS__REPOSITORY", path), ("MODELS__DEFAULT", "served"), ("CACHE__ENABLED", "false")];
    let daemon = sferic_bench::start(&server, &settings)?;
    sferic_bench::ready(&client).await?;
    let frames = simulated_frames(args.samples)?;

    let most = most_per_s(&client, &frames).await?;
    let rate = most * args.load;
    let bar = ProgressBar::new(2 * args.pairs as u64);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 0..args.pairs {
        // Each side is first in half of the pairs.
        for is_shadow in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let round = round(&client, &frames, rate, args.seconds, is_shadow.then_some(args.share)).await?;
            if is_shadow { &mut with } else { &mut without }.push(round);
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
    let sent = rate * f64::from(args.seconds) * args.pairs as f64;
    let report = Report {
        most_per_s: most,
        rate_per_s: rate,
        p50_ratio: ratio(|round| round.p50_ms),
        p99_ratio: ratio(|round| round.p99_ms),
        p99_of_medians: p99(&with) / p99(&without),
        compared: with.iter().map(|round| round.compared).sum::<u64>() as f64 / sent,
        without,
        with,
    };
    let text =
        if args.json { serde_json::to_string(&report)? } else { serde_json::to_string_pretty(&report)? };
    println!("{text}");
    Ok(())
}

async fn round(
    client: &async_nats::Client,
    frames: &[Bytes],
    rate: f64,
    seconds: u32,
    share: Option<f64>,
) -> anyhow::Result<Round> {
    let request = match share {
        Some(share) => json!({"version": "1", "share": share}),
        None => json!({"version": null}),
    };
    shadow(client, request).await?;
    let (ms, failures) = latencies(client, frames, rate, seconds).await?;
    let shown = shadow(client, json!({})).await?;
    let number = |of: &Value| of.as_u64().unwrap_or_default();
    Ok(Round {
        p50_ms: at(&ms, 0.5),
        p99_ms: at(&ms, 0.99),
        failures,
        compared: number(&shown["shadow"]["paired"]["frames"]),
        skipped: number(&shown["shadow"]["skipped"]),
    })
}

async fn shadow(client: &async_nats::Client, request: Value) -> anyhow::Result<Value> {
    let answer = client.request("sferic.models.shadow", request.to_string().into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer["model"] == "served", "the shadow was refused: {answer}");
    Ok(answer)
}
