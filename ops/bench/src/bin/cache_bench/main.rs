//! Benefit and cost of the cache, measured on a daemon of its own over loopback.
//!
//! - Hits a second over NATS, beside a bare async-nats responder with the same payloads, in turn; and how
//!   long the daemon takes for a hit.
//! - The processor time of a frame that is no hit, with and without the cache, in turn, and what the hash
//!   takes of it.
//!
//! `ops/bench/cache` builds and starts this.
#![allow(missing_docs)] // a program

mod load;

use std::time::Duration;

use anyhow::Context;
use async_nats::Message;
use clap::{Parser, Subcommand};
use indicatif::ProgressBar;
use load::{Daemon, Frames, closed_loop};
use serde::Serialize;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sferic_bench::responder;
use sferic_bench::statistics::median;

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
const SHORT_TURN: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::Respond { url, subject, answer }) = args.role {
        return responder::respond(&url, &subject, answer).await;
    }
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let turn = Duration::from_secs(args.seconds);
    let bar = ProgressBar::new((args.rounds + 4 * args.pairs) as u64);
    let hits = hits(&server, &client, args.rounds, turn, &bar).await?;
    let mut missed = Vec::new();
    for frames in [Frames::localization()?, Frames::modulation()?] {
        for pace in [Pace::Same, Pace::Highest] {
            missed.push(misses(&server, &client, args.pairs, turn, pace, &frames, &bar).await?);
        }
    }
    let report = json!({"hits": hits, "misses": missed});
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
    let [whole, short] = [responder::Answer::Whole, responder::Answer::Short]
        .map(|answer| responder::start(server.url(), answer));
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
        for (answer, rates) in
            [responder::Answer::Whole, responder::Answer::Short].into_iter().zip(&mut rates[1..])
        {
            let (replies, took) =
                closed_loop(client, answer.subject(), same, |_| Ok(()), turn, OUTSTANDING).await?;
            rates.push(replies.len() as f64 / took.as_secs_f64());
        }
        alone.extend(closed_loop(client, "hit.frames.b", same, hit_ms, turn / 3, 1).await?.0);
        bar.inc(1);
    }
    let [daemon, whole, short] = rates;
    let ratio =
        |to: &[f64]| median(&daemon.iter().zip(to).map(|(hits, bare)| hits / bare).collect::<Vec<_>>());
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

/// A frame's share of the run that answered it, and how many microseconds its decoding took; every one must
/// have been run.
fn share_and_decoding(reply: &Message) -> anyhow::Result<[f64; 2]> {
    let outcome = load::outcome(reply)?;
    anyhow::ensure!(outcome["_cache_hit"] == false, "no prediction of its own: {outcome}");
    let decoding_ms = outcome["stages_ms"]["decode"].as_f64().context("no stages_ms.decode")?;
    Ok([1.0 / outcome["batch_size"].as_f64().context("no batch_size")?, decoding_ms * 1e3])
}

/// How fast the frames of a pair of turns come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// Half of what the daemon does with the cache, for both.
    Same,
    /// What the daemon does, which without the hash is more, in larger batches.
    Highest,
}

/// Processor time of the daemon a frame, with and without the cache, of frames that were never seen before.
async fn misses(
    server: &PrivateServer,
    client: &async_nats::Client,
    pairs: usize,
    turn: Duration,
    pace: Pace,
    frames: &Frames,
    bar: &ProgressBar,
) -> anyhow::Result<Value> {
    let daemon = Daemon::start(server, client, "miss").await?;
    // Of each pair of turns, with and without the cache.
    let mut costs = [Vec::new(), Vec::new()];
    let (mut runs, mut decoding) = (costs.clone(), costs.clone());
    let fresh = |n| frames.bytes(n + 1);
    let (first, took) =
        closed_loop(client, "miss.frames.b", fresh, share_and_decoding, turn, OUTSTANDING).await?;
    let mut sent = first.len() as u64 + 1;
    let per_second = (pace == Pace::Same).then_some(first.len() as f64 / took.as_secs_f64() / 2.0);
    for pair in 0..pairs {
        // Who goes first takes turns too.
        for which in [pair % 2, 1 - pair % 2] {
            let first = sent;
            let fresh = |n| if which == 0 { frames.bytes(first + n) } else { frames.uncached(first + n) };
            let before = daemon.cpu_s()?;
            let replies = match per_second {
                Some(rate) => {
                    load::open_loop(client, "miss.frames.b", fresh, share_and_decoding, rate, SHORT_TURN)
                        .await?
                }
                None => {
                    closed_loop(client, "miss.frames.b", fresh, share_and_decoding, SHORT_TURN, OUTSTANDING)
                        .await?
                        .0
                }
            };
            let cpu_s = daemon.cpu_s()? - before;
            sent += replies.len() as u64;
            costs[which].push(cpu_s * 1e6 / replies.len() as f64);
            let column = |at: usize| replies.iter().map(|reply| reply[at]).collect::<Vec<_>>();
            runs[which].push(column(0).iter().sum::<f64>() / replies.len() as f64);
            decoding[which].push(median(&column(1)).median);
        }
        bar.inc(1);
    }
    let [costs_on, costs_off] = &costs;
    // What decoding takes longer with the hash.
    let hash: Vec<_> = decoding[0].iter().zip(&decoding[1]).map(|(on, off)| on - off).collect();
    let costs = costs_on.iter().zip(costs_off).zip(&hash);
    let beyond: Vec<_> = costs.map(|((on, off), hash)| (on - off - hash) / off * 100.0).collect();
    Ok(json!({
        "model": frames.model,
        "frame_bytes": frames.bytes(0).len(),
        "pace": pace,
        "per_second": per_second,
        "cpu_us_per_frame_on": median(costs_on),
        "cpu_us_per_frame_off": median(costs_off),
        "runs_per_frame": {"on": median(&runs[0]), "off": median(&runs[1])},
        "hash_us": median(&hash),
        "beyond_the_hash_percent_of_a_frame": median(&beyond),
    }))
}
