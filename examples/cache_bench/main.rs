//! What the cache gives and costs, measured on a daemon of its own over loopback.
//!
//! - Hits a second over NATS, beside a bare async-nats responder with the same payloads, in turn; and how long the daemon takes for a hit.
//! - The processor time of a frame that is no hit, with and without the cache, in turn, and what the hash alone takes.
//!
//! `cargo build --release --bin sferic --example cache_bench && target/release/examples/cache_bench [--rounds 5] [--seconds 3] [--pairs 60] [--json]`
#![allow(missing_docs)] // a program

mod load;
#[path = "../measure/mod.rs"]
mod measure;
mod responder;

use std::time::Duration;

use anyhow::Context;
use async_nats::Message;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use load::{Daemon, Frames, closed_loop};
use measure::statistics::median;
use measure::usage;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sha2::{Digest, Sha256};

#[derive(Parser)]
struct Args {
    /// Rounds of hits; in each, everything that is compared has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Pairs of short turns with and without the cache, of frames that are no hits.
    #[arg(long, default_value_t = 60)]
    pairs: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// What the daemon is compared with: answers every message on a subject until it is ended.
    #[command(hide = true)]
    Respond { url: String, subject: String, answer: responder::Answer },
}

/// Requests on their way.
const OUTSTANDING: usize = 32;
/// One of a pair of turns, so short that what else the machine does meets both alike.
const SHORT_TURN: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::Respond { url, subject, answer }) = args.role {
        return responder::respond(&url, &subject, answer).await;
    }
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let turn = Duration::from_secs(args.seconds);
    let bar = ProgressBar::new((args.rounds + 2 * args.pairs) as u64);
    let report = json!({
        "hits": hits(&server, &client, args.rounds, turn, &bar).await?,
        "misses": [
            misses(&server, &client, args.pairs, Frames::localization()?, &bar).await?,
            misses(&server, &client, args.pairs, Frames::modulation()?, &bar).await?,
        ],
    });
    bar.finish_and_clear();
    println!("{}", if args.json { report.to_string() } else { serde_json::to_string_pretty(&report)? });
    Ok(())
}

/// Hits a second, and what bare responders do with the same payloads.
async fn hits(
    server: &PrivateServer,
    client: &async_nats::Client,
    rounds: usize,
    turn: Duration,
    bar: &ProgressBar,
) -> anyhow::Result<Value> {
    let frames = Frames::modulation()?;
    let _daemon = Daemon::start(server, client, "hit").await?;
    let [whole, short] = [responder::Answer::Whole, responder::Answer::Short].map(|answer| responder::start(server.url(), answer));
    let (_whole, _short) = (whole?, short?);
    let payload = frames.bytes(0);
    let same = |_| payload.clone();
    let answer_bytes = load::ask(client, "hit.frames.b", same(0)).await?.payload.len();
    let mut rates: [Vec<f64>; 3] = Default::default();
    let (mut alone, mut half, mut full) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (times, took) = closed_loop(client, "hit.frames.b", same, hit_ms, turn, OUTSTANDING).await?;
        let rate = times.len() as f64 / took.as_secs_f64();
        rates[0].push(rate);
        full.extend(times);
        half.extend(load::open_loop(client, "hit.frames.b", same, hit_ms, rate / 2.0, turn).await?);
        for (answer, rates) in [responder::Answer::Whole, responder::Answer::Short].into_iter().zip(&mut rates[1..]) {
            let (replies, took) = closed_loop(client, answer.subject(), same, |_| Ok(()), turn, OUTSTANDING).await?;
            rates.push(replies.len() as f64 / took.as_secs_f64());
        }
        alone.extend(closed_loop(client, "hit.frames.b", same, hit_ms, turn / 3, 1).await?.0);
        bar.inc(1);
    }
    let [daemon, whole, short] = rates;
    let ratio = |to: &[f64]| median(&daemon.iter().zip(to).map(|(hits, bare)| hits / bare).collect::<Vec<_>>());
    Ok(json!({
        "frame_bytes": same(0).len(),
        "answer_bytes": answer_bytes,
        "hits_per_second": median(&daemon),
        "bare_echo_of_the_payload_per_second": median(&whole),
        "bare_answer_of_600_bytes_per_second": median(&short),
        "ratio_to_echo": ratio(&whole),
        "ratio_to_short_answer": ratio(&short),
        "daemon_side_hit_ms": {
            "one_at_a_time": load::percentiles(&mut alone),
            "half_of_the_rate": load::percentiles(&mut half),
            "32_at_a_time": load::percentiles(&mut full),
        },
    }))
}

/// Milliseconds from arrival to prediction, as the daemon states them; every one must be a hit.
fn hit_ms(reply: &Message) -> anyhow::Result<f64> {
    let outcome = load::outcome(reply)?;
    anyhow::ensure!(outcome["_cache_hit"] == true, "no hit: {outcome}");
    outcome["inference_time_ms"].as_f64().context("no inference_time_ms")
}

/// A frame's share of the run that answered it; every one must have been run.
fn run_share(reply: &Message) -> anyhow::Result<f64> {
    let outcome = load::outcome(reply)?;
    anyhow::ensure!(outcome["_cache_hit"] == false, "no prediction of its own: {outcome}");
    Ok(1.0 / outcome["batch_size"].as_f64().context("no batch_size")?)
}

/// Processor time of the daemon a frame, with and without the cache, of frames that were never seen before.
async fn misses(
    server: &PrivateServer,
    client: &async_nats::Client,
    pairs: usize,
    frames: Frames,
    bar: &ProgressBar,
) -> anyhow::Result<Value> {
    let daemon = Daemon::start(server, client, "miss").await?;
    let (mut costs, mut runs): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    let (mut hash_us, mut beyond) = (Vec::new(), Vec::new());
    let mut sent = 1;
    for pair in 0..=pairs {
        // Who goes first takes turns too.
        for which in [pair % 2, 1 - pair % 2] {
            let first = sent;
            let fresh = |n| if which == 0 { frames.bytes(first + n) } else { frames.uncached(first + n) };
            let before = daemon.cpu_s()?;
            let (replies, _) = closed_loop(client, "miss.frames.b", fresh, run_share, SHORT_TURN, OUTSTANDING).await?;
            let cpu_s = daemon.cpu_s()? - before;
            sent += replies.len() as u64;
            costs[which].push(cpu_s * 1e6 / replies.len() as f64);
            runs[which].push(replies.iter().sum::<f64>() / replies.len() as f64);
        }
        hash_us.push(hash(&frames)?);
        bar.inc(1);
        // The first pair warms up.
        if pair == 0 {
            [&mut costs, &mut runs].into_iter().flatten().chain([&mut hash_us]).for_each(Vec::clear);
        } else {
            let [Some(on), Some(off), Some(hash)] = [costs[0].last(), costs[1].last(), hash_us.last()] else { continue };
            beyond.push((on - off - hash) / off * 100.0);
        }
    }
    Ok(json!({
        "model": frames.model,
        "frame_bytes": frames.bytes(0).len(),
        "cpu_us_per_frame_on": median(&costs[0]),
        "cpu_us_per_frame_off": median(&costs[1]),
        "runs_per_frame": {"on": median(&runs[0]), "off": median(&runs[1])},
        "hash_alone_us": median(&hash_us),
        "beyond_the_hash_percent_of_a_frame": median(&beyond),
    }))
}

/// Microseconds of processor time to hash a frame whose bytes are not in the processor's caches.
fn hash(frames: &Frames) -> anyhow::Result<f64> {
    let different: Vec<_> = (0..256).map(|n| frames.bytes(n)).collect();
    let began = usage::of_this_thread()?;
    for frame in &different {
        std::hint::black_box(Sha256::digest(frame));
    }
    Ok((usage::of_this_thread()? - began) * 1e6 / different.len() as f64)
}
