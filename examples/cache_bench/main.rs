//! What the cache gives and costs, measured on a daemon of its own over loopback.
//!
//! - Hits a second over NATS, beside a bare async-nats responder with the same payloads, in turn; and how long the daemon takes for a hit.
//! - The processor time of a frame that is no hit, with the cache on and off, in turn, and what the hash alone takes.
//!
//! `cargo build --release --bin sferic --example cache_bench && target/release/examples/cache_bench [--rounds 5] [--seconds 3] [--json]`
#![allow(missing_docs)] // a program

mod load;
mod responder;

use std::time::Duration;

use anyhow::Context;
use async_nats::Message;
use clap::{Parser, Subcommand};
use load::{Daemon, Frames, closed_loop, median};
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sha2::{Digest, Sha256};

#[derive(Parser)]
struct Args {
    /// Rounds; in each, everything that is compared has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::Respond { url, subject, answer }) = args.role {
        return responder::respond(&url, &subject, answer).await;
    }
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let turn = Duration::from_secs(args.seconds);
    let report = json!({
        "hits": hits(&server, &client, args.rounds, turn).await?,
        "misses": [
            misses(&server, &client, args.rounds, turn, Frames::localization()?).await?,
            misses(&server, &client, args.rounds, turn, Frames::modulation()?).await?,
        ],
    });
    println!("{}", if args.json { report.to_string() } else { serde_json::to_string_pretty(&report)? });
    Ok(())
}

/// Hits a second, and what bare responders do with the same payloads.
async fn hits(server: &PrivateServer, client: &async_nats::Client, rounds: usize, turn: Duration) -> anyhow::Result<Value> {
    let frames = Frames::modulation()?;
    let _daemon = Daemon::start(server, client, "hit", true).await?;
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
    }
    let [daemon, whole, short] = rates;
    let ratio = |to: &[f64]| json!(daemon.iter().zip(to).map(|(hits, bare)| hits / bare).collect::<Vec<_>>());
    let (to_whole, to_short) = (ratio(&whole), ratio(&short));
    Ok(json!({
        "frame_bytes": same(0).len(),
        "answer_bytes": answer_bytes,
        "hits_per_second": {"median": median(&daemon), "rounds": daemon},
        "bare_echo_of_the_payload_per_second": {"median": median(&whole), "rounds": whole},
        "bare_answer_of_600_bytes_per_second": {"median": median(&short), "rounds": short},
        "ratio_to_echo": {"median": median_of(&to_whole), "rounds": to_whole},
        "ratio_to_short_answer": {"median": median_of(&to_short), "rounds": to_short},
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

/// Processor time of the daemon a frame, the cache on and off, with frames that were never seen before.
async fn misses(
    server: &PrivateServer,
    client: &async_nats::Client,
    rounds: usize,
    turn: Duration,
    frames: Frames,
) -> anyhow::Result<Value> {
    let daemons = [("on", true), ("off", false)];
    let mut running = Vec::new();
    for (prefix, enabled) in daemons {
        running.push(Daemon::start(server, client, prefix, enabled).await?);
    }
    let (mut costs, mut runs): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    let mut hash_us = Vec::new();
    let mut sent = 0;
    for round in 0..=rounds {
        // Who goes first takes turns too.
        for which in [round % 2, 1 - round % 2] {
            let before = running[which].cpu()?;
            let first = sent;
            let fresh = |n| frames.bytes(first + n + 1);
            let subject = format!("{}.frames.b", daemons[which].0);
            let (replies, _) = closed_loop(client, &subject, fresh, run_share, turn, OUTSTANDING).await?;
            sent += replies.len() as u64;
            let cpu = running[which].cpu()? - before;
            // The first round warms up.
            if round > 0 {
                costs[which].push(cpu.as_secs_f64() * 1e6 / replies.len() as f64);
                runs[which].push(replies.iter().sum::<f64>() / replies.len() as f64);
            }
        }
        hash_us.push(hash(&frames)?);
    }
    let ([on, off], [runs_on, runs_off]) = (costs, runs);
    let (difference, hash_us) = (median(&on) - median(&off), median(&hash_us));
    Ok(json!({
        "model": frames.model,
        "frame_bytes": frames.bytes(0).len(),
        "cpu_us_per_frame_on": {"median": median(&on), "rounds": on},
        "cpu_us_per_frame_off": {"median": median(&off), "rounds": off},
        "runs_per_frame": {"on": median(&runs_on), "off": median(&runs_off)},
        "difference_us": difference,
        "hash_alone_us": hash_us,
        "beyond_the_hash_percent_of_a_frame": (difference - hash_us) / median(&off) * 100.0,
    }))
}

/// Microseconds of processor time to hash a frame whose bytes are not in the processor's caches.
fn hash(frames: &Frames) -> anyhow::Result<f64> {
    let different: Vec<_> = (0..256).map(|n| frames.bytes(n)).collect();
    let began = load::cpu_of("/proc/thread-self")?;
    for frame in &different {
        std::hint::black_box(Sha256::digest(frame));
    }
    Ok((load::cpu_of("/proc/thread-self")? - began).as_secs_f64() * 1e6 / different.len() as f64)
}

fn median_of(values: &Value) -> f64 {
    median(&values.as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<_>>())
}
