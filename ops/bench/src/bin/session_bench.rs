//! Sessions of five receivers over three daemons, one of which is killed in the middle: how many are
//! answered, how soon, and what becomes of the others. `ops/bench/sessions` builds and starts this.
#![allow(missing_docs)] // a program

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;
use tempfile::TempDir;
use tokio::process::Child;

#[derive(Parser)]
struct Args {
    /// Sessions a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// For so long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Kill one of the three daemons in the middle; with streams it is started again.
    #[arg(long)]
    kill: bool,
    /// Over streams.
    #[arg(long)]
    jetstream: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

const RECEIVERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const DAEMONS: usize = 3;
/// What still comes after the last frame.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of the frames.
#[derive(Default)]
struct Seen {
    /// Outcomes of each frame, by id.
    outcomes: HashMap<String, u32>,
    failures: HashMap<String, u64>,
    /// From the last frame of a session to its first answer, ms.
    latencies: Vec<f64>,
    sent: HashMap<String, Instant>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let store = TempDir::new()?;
    let mapping = "iq.sessions.{{partition(3,1)}}.{{wildcard(1)}}.>";
    let config = store.path().join("server.conf");
    let streams = format!("jetstream {{ store_dir: {:?} }}", store.path());
    let streams = if args.jetstream { streams.as_str() } else { "" };
    std::fs::write(&config, format!("mappings: {{\"iq.sessions.*.>\": \"{mapping}\"}}\n{streams}\n"))?;
    let server = PrivateServer::start(&["-c", config.to_str().context("an odd path")?]).await?;
    let client = async_nats::connect(server.url()).await?;
    let mut daemons = Vec::new();
    for part in 0..DAEMONS {
        daemons.push(daemon(&server, part, args.jetstream)?);
        sferic_bench::ready(&client).await?;
    }
    all_ready(&client).await?;

    let seen = Arc::new(Mutex::new(Seen::default()));
    let listening = listen(&client, Arc::clone(&seen)).await?;
    let bar = ProgressBar::new(args.rate * args.seconds)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} sessions")?);
    let began = Instant::now();
    let total = args.rate * args.seconds;
    let mut killed_at = None;
    for n in 0..total {
        let due = began + Duration::from_secs_f64(n as f64 / args.rate as f64);
        tokio::time::sleep_until(due.into()).await;
        if args.kill && killed_at.is_none() && n >= total / 2 {
            daemons[0].start_kill()?;
            daemons[0].wait().await?;
            killed_at = Some(n);
            if args.jetstream {
                daemons[0] = daemon(&server, 0, true)?;
            }
        }
        for source in RECEIVERS {
            let id = format!("{n}{source}");
            client.publish(format!("iq.sessions.{n}.{source}"), frame(&id)?).await?;
        }
        lock(&seen).sent.insert(n.to_string(), Instant::now());
        bar.inc(1);
    }
    client.flush().await?;
    let sending = began.elapsed().as_secs_f64();
    settle(&seen, total * 5, args.kill && !args.jetstream).await;
    bar.finish_and_clear();
    listening.abort();
    let (counts, members) = (ledgers(&client).await?, total * 5);
    let seen = std::mem::take(&mut *lock(&seen));
    let twice = seen.outcomes.values().filter(|count| **count > 1).count();
    let mut latencies = seen.latencies.clone();
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies.get((q * (latencies.len().max(1) - 1) as f64) as usize);
    let report = json!({
        "sessions": total,
        "sessions_per_second": total as f64 / sending,
        "members": members,
        "outcomes": seen.outcomes.len(),
        "without_outcome": members - seen.outcomes.len() as u64,
        "with_two": twice,
        "failures": seen.failures,
        "complete_ms": {"p50": quantile(0.5), "p99": quantile(0.99)},
        "killed_at_session": killed_at,
        "ledgers": counts,
    });
    println!("{}", if args.json { report.to_string() } else { serde_json::to_string_pretty(&report)? });
    drop(daemons);
    Ok(())
}

fn daemon(server: &PrivateServer, part: usize, jetstream: bool) -> anyhow::Result<Child> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let repository = std::env::temp_dir().join(format!("sferic-session-bench-{}", std::process::id()));
    let own = repository.join("gathered");
    if !own.exists() {
        sferic_bench::copy_folder(&models.join("gathered"), &own)?;
    }
    let subject = format!("iq.sessions.{part}.>");
    let mut settings = vec![
        ("MODELS__REPOSITORY", repository.to_str().context("a path that is no text")?),
        ("MODELS__DEFAULT", "gathered"),
        ("GATHER__SUBJECT", subject.as_str()),
        ("LIMITS__TIMEOUT", "10s"),
        ("JETSTREAM__MAX_BYTES", "1GiB"),
        ("JETSTREAM__ACK_WAIT", "3s"),
    ];
    if jetstream {
        settings.push(("NATS__MODE", "jetstream"));
    }
    sferic_bench::start(server, &settings)
}

/// Waits until three daemons answer, all of them ready.
async fn all_ready(client: &async_nats::Client) -> anyhow::Result<()> {
    let ready = async {
        while ledgers(client).await?.len() < DAEMONS {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, ready).await.context("three daemons do not get ready")?
}

/// The ledgers of the daemons that answer.
async fn ledgers(client: &async_nats::Client) -> anyhow::Result<Vec<serde_json::Value>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply("$SRV.STATS.sferic", inbox, "".into()).await?;
    let mut found = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(500), answers.next()).await {
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        found.push(answer["endpoints"][0]["data"]["ledger"].clone());
    }
    Ok(found)
}

async fn listen(
    client: &async_nats::Client,
    seen: Arc<Mutex<Seen>>,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let predictions = client.subscribe("iq.predictions.>").await?;
    let failures = client.subscribe("iq.failures.>").await?;
    client.flush().await?;
    let mut outcomes = futures::stream::select(predictions, failures);
    Ok(tokio::spawn(async move {
        while let Some(message) = outcomes.next().await {
            let now = Instant::now();
            let Ok(body) = rmpv::decode::read_value(&mut &message.payload[..]) else { continue };
            let text = |key: &str| {
                let entries = body.as_map()?.iter();
                let (_, value) = entries.into_iter().find(|(name, _)| name.as_str() == Some(key))?;
                value.as_str().map(str::to_owned)
            };
            let mut seen = lock(&seen);
            *seen.outcomes.entry(text("frame_id").unwrap_or_default()).or_default() += 1;
            if let Some(code) = text("code") {
                *seen.failures.entry(code).or_default() += 1;
            } else if let Some(sent) = text("session_id").and_then(|session| seen.sent.remove(&session)) {
                seen.latencies.push(now.duration_since(sent).as_secs_f64() * 1e3);
            }
        }
    }))
}

/// Waits until every member has its outcome, or nothing has come for a while.
async fn settle(seen: &Mutex<Seen>, members: u64, some_are_gone: bool) {
    let (began, mut last, mut since) = (Instant::now(), 0, Instant::now());
    let quiet = if some_are_gone { Duration::from_secs(2) } else { Duration::from_secs(20) };
    while began.elapsed() < PATIENCE {
        let count = lock(seen).outcomes.len();
        if count as u64 >= members || since.elapsed() > quiet {
            return;
        }
        if count != last {
            (last, since) = (count, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn frame(id: &str) -> anyhow::Result<Bytes> {
    let map = |entries: Vec<(&str, Value)>| {
        Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    };
    let tensor = map(vec![
        ("shape", Value::Array(vec![1.into()])),
        ("dtype", "float32".into()),
        ("data", Value::Binary(1f32.to_le_bytes().into())),
    ]);
    let frame = map(vec![
        ("frame_id", id.into()),
        ("session_size", 5.into()),
        ("tensors", map(vec![("level", tensor)])),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &frame)?;
    ensure!(!bytes.is_empty(), "no frame");
    Ok(bytes.into())
}
