//! Reloads the model of a daemon of its own again and again, under an even load and then without one: what
//! fails, whose answers are of a version that was not active, and what memory is left; `ops/bench/reloads`
//! builds and starts this.
#![allow(missing_docs)] // a program

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sferic_bench::usage::Usage;
use sferic_bench::{copy_folder, simulated_frames};
use tokio::process::Child;
use tokio::time::Instant;

#[derive(Parser)]
struct Args {
    /// The bundle that is served, as versions 1, 2 and 3.
    #[arg(long, default_value = "config/models/modulation/1")]
    bundle: PathBuf,
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds of load, in each of which a version is reloaded.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Reloads without load, after which memory is looked at.
    #[arg(long, default_value_t = 200)]
    reloads: usize,
    /// Samples a frame.
    #[arg(long, default_value_t = 16_384)]
    samples: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

const VERSIONS: [&str; 3] = ["1", "2", "3"];
/// Reloads after which memory is first looked at.
const SETTLED: usize = 10;

/// A reload: the version was not active before it began, and is since it ended.
struct Reload {
    version: &'static str,
    began: Instant,
    ended: Instant,
}

/// An answer: a version, or the code of a failure.
struct Answer {
    sent: Instant,
    received: Instant,
    result: Result<String, String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(
        args.rate > 0 && args.seconds > 0 && args.reloads > SETTLED,
        "more than {SETTLED} reloads, and a load"
    );
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let repository = tempfile::tempdir()?;
    for version in VERSIONS {
        copy_folder(&args.bundle, &repository.path().join("served").join(version))?;
    }
    let daemon = start(&server, &client, repository.path()).await?;
    let pid = daemon.id().context("the daemon has ended")?;
    let frames = Arc::new(simulated_frames(args.samples)?);

    let bar = ProgressBar::new(u64::from(args.seconds) + args.reloads as u64);
    let reloading = tokio::spawn(reload_each_second(client.clone(), args.seconds, bar.clone()));
    let answers = load(&client, &frames, &args).await?;
    let reloads = reloading.await??;
    let mut failures = std::collections::BTreeMap::<&str, usize>::new();
    answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().err())
        .for_each(|code| *failures.entry(code).or_default() += 1);
    let stale = answers.iter().filter(|answer| is_stale(answer, &reloads)).count();
    let mut ms: Vec<f64> =
        answers.iter().map(|answer| (answer.received - answer.sent).as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let mut reload_ms: Vec<f64> =
        reloads.iter().map(|reload| (reload.ended - reload.began).as_secs_f64() * 1e3).collect();
    reload_ms.sort_by(f64::total_cmp);

    let mut resident = Vec::new();
    for n in 1..=args.reloads {
        reload(&client, VERSIONS[n % VERSIONS.len()]).await?;
        bar.inc(1);
        if n == SETTLED || n == args.reloads {
            resident.push(Usage::of(pid)?.resident_bytes as f64 / f64::from(1 << 20));
        }
    }
    bar.finish_and_clear();
    let quantile = |sorted: &[f64], q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
    let report = json!({
        "requests": answers.len(),
        "reloads_under_load": reloads.len(),
        "failures": failures,
        "answers_of_versions_not_active": stale,
        "answer_ms": {"p50": quantile(&ms, 0.5), "p99": quantile(&ms, 0.99), "max": quantile(&ms, 1.0)},
        "reload_ms": {"p50": quantile(&reload_ms, 0.5), "max": quantile(&reload_ms, 1.0)},
        "reloads": args.reloads,
        "resident_mib": {"after_10": resident[0], "at_the_end": resident[1]},
    });
    drop(daemon);
    println!("{}", if args.json { report.to_string() } else { serde_json::to_string_pretty(&report)? });
    ensure!(failures.is_empty() && stale == 0, "answers failed, or are of a version that was not active");
    Ok(())
}

async fn start(
    server: &PrivateServer,
    client: &async_nats::Client,
    repository: &Path,
) -> anyhow::Result<Child> {
    let repository = repository.to_str().context("a path that is no text")?;
    let settings =
        [("MODELS__REPOSITORY", repository), ("MODELS__DEFAULT", "served"), ("CACHE__ENABLED", "false")];
    let daemon = sferic_bench::start(server, &settings)?;
    sferic_bench::ready(client).await?;
    Ok(daemon)
}

/// Sends at even times, whatever has been answered.
async fn load(
    client: &async_nats::Client,
    frames: &Arc<Vec<Bytes>>,
    args: &Args,
) -> anyhow::Result<Vec<Answer>> {
    let mut waiting = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / args.rate);
    let count = args.rate as usize * args.seconds as usize;
    let mut answers = Vec::with_capacity(count);
    let mut sent = 0;
    while answers.len() < count {
        tokio::select! {
            _ = ticks.tick(), if sent < count => {
                let (client, frames) = (client.clone(), Arc::clone(frames));
                let frame = sent % frames.len();
                waiting.push(tokio::spawn(async move { ask(&client, frames[frame].clone()).await }));
                sent += 1;
            }
            Some(answer) = waiting.next() => answers.push(answer??),
        }
    }
    Ok(answers)
}

async fn ask(client: &async_nats::Client, frame: Bytes) -> anyhow::Result<Answer> {
    let sent = Instant::now();
    let reply = client.request("iq.frames.load", frame).await?;
    let received = Instant::now();
    let outcome = rmpv::decode::read_value(&mut &reply.payload[..])?;
    let text = |key: &str| {
        let map = outcome.as_map()?;
        map.iter().find(|(name, _)| name.as_str() == Some(key))?.1.as_str().map(str::to_owned)
    };
    let result = match (text("model_version"), text("code")) {
        (Some(version), _) => Ok(version),
        (None, Some(code)) => Err(code),
        (None, None) => bail!("no outcome: {outcome}"),
    };
    Ok(Answer { sent, received, result })
}

async fn reload_each_second(
    client: async_nats::Client,
    seconds: u32,
    bar: ProgressBar,
) -> anyhow::Result<Vec<Reload>> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut reloads = Vec::new();
    for n in 0..seconds as usize {
        ticks.tick().await;
        reloads.push(reload(&client, VERSIONS[(n + 1) % VERSIONS.len()]).await?);
        bar.inc(1);
    }
    Ok(reloads)
}

/// Loads a version from disk, whether or not its files have changed, and makes it active.
async fn reload(client: &async_nats::Client, version: &'static str) -> anyhow::Result<Reload> {
    let began = Instant::now();
    let request = json!({"version": version, "force": true}).to_string();
    let answer = client.request("sferic.models.reload", request.into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer["success"] == true, "the reload failed: {answer}");
    Ok(Reload { version, began, ended: Instant::now() })
}

/// Whether an answer's version was active at no time from its sending to its receipt.
fn is_stale(answer: &Answer, reloads: &[Reload]) -> bool {
    let Ok(version) = &answer.result else { return false };
    // At the start the highest one is.
    let first = (VERSIONS[VERSIONS.len() - 1], answer.sent.min(reloads[0].began));
    let begun = std::iter::once(first).chain(reloads.iter().map(|reload| (reload.version, reload.began)));
    let until = reloads.iter().map(|reload| Some(reload.ended)).chain([None]);
    let mut active = begun.zip(until).filter(|((active, _), _)| active == version);
    !active
        .any(|((_, from), until)| from <= answer.received && until.is_none_or(|until| until >= answer.sent))
}
