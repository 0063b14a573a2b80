//! What a frame costs in the daemon, by kind of thread, beside the bare costs of its parts; `ops/bench/cost`
//! builds and starts this.
#![allow(missing_docs)] // a program

mod bare;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bare::{Bare, Work};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use sferic::nats::PrivateServer;
use sferic_bench::responder::{self, Answer};
use sferic_bench::statistics::{Median, median};
use sferic_bench::{simulated_frames, usage};
use sferic_settings::available_cores;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Where the model is.
    #[arg(long, default_value = "config/models")]
    repository: PathBuf,
    /// The model.
    #[arg(long, default_value = "modulation")]
    model: String,
    /// Its version.
    #[arg(long, default_value = "1")]
    version: String,
    /// Samples a frame.
    #[arg(long, default_value_t = 16_384)]
    samples: usize,
    /// Requests on their way, each measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    users: Vec<usize>,
    /// Rounds, in each of which everything is measured in turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds a measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// A bare responder: answers every message on a subject until it is ended.
    #[command(hide = true)]
    Respond { url: String, subject: String, answer: Answer },
}

/// A measurement of one process that answers.
#[derive(Serialize)]
struct Answering {
    /// Answers a second.
    rate: f64,
    /// Microseconds of processor time an answer, by kind of thread.
    us: BTreeMap<String, f64>,
}

impl Answering {
    fn total(&self) -> f64 {
        self.us.values().sum()
    }
}

/// A round with so many requests on their way.
#[derive(Serialize)]
struct Round {
    bare: Bare,
    echo: Answering,
    daemon: Answering,
}

impl Round {
    /// The bare costs together.
    fn parts(&self) -> f64 {
        self.bare.features + self.bare.run + self.echo.total()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Role::Respond { url, subject, answer }) = args.role {
        return responder::respond(&url, &subject, answer).await;
    }
    ensure!(args.rounds > 0 && args.seconds > 0.0, "rounds, and how long each takes");
    let server = PrivateServer::start(&[]).await?;
    let client = async_nats::connect(server.url()).await?;
    let repository = args.repository.to_str().context("the repository's path is no text")?;
    let settings = [
        ("CACHE__ENABLED", "false"),
        ("LIMITS__TIMEOUT", "20s"),
        ("MODELS__WATCH", "false"),
        ("MODELS__REPOSITORY", repository),
        ("MODELS__DEFAULT", &args.model),
    ];
    let daemon = sferic_bench::start(&server, &settings)?;
    let echo = responder::start(server.url(), Answer::Short)?;
    sferic_bench::ready(&client).await?;
    let pid = |child: &tokio::process::Child| child.id().context("it has ended");
    let (daemon_pid, echo_pid) = (pid(&daemon)?, pid(&echo)?);
    let frames = simulated_frames(args.samples)?;
    let folder = args.repository.join(&args.model).join(&args.version);
    let work = Work::new(&folder, args.samples, available_cores())?;
    let time = Duration::from_secs_f64(args.seconds);

    let bar = ProgressBar::new((args.rounds * args.users.len()) as u64);
    let mut rounds: BTreeMap<usize, Vec<Round>> = BTreeMap::new();
    load(&client, "iq.frames.cost", &frames, 8, time).await?;
    for _ in 0..args.rounds {
        for &users in &args.users {
            let bare = tokio::task::block_in_place(|| work.measure(time / 3))?;
            let echo = answering(&client, "bare.short", &frames, users, time, echo_pid).await?;
            let daemon = answering(&client, "iq.frames.cost", &frames, users, time, daemon_pid).await?;
            rounds.entry(users).or_default().push(Round { bare, echo, daemon });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&rounds)?);
    } else {
        print(&args, &rounds);
    }
    Ok(())
}

fn print(args: &Args, rounds: &BTreeMap<usize, Vec<Round>>) {
    println!(
        "{} of {} samples; µs of processor time a frame, {} rounds",
        args.model, args.samples, args.rounds
    );
    let of = |rounds: &[Round], what: fn(&Round) -> f64| median(&rounds.iter().map(what).collect::<Vec<_>>());
    let shown = |Median { median, low, high }: Median| format!("{median:.3} ({low:.3} to {high:.3})");
    for (users, rounds) in rounds {
        let us = |what| of(rounds, what).median;
        println!("{users} at a time");
        println!(
            "  bare    features {:.1} + run {:.1} + echo {:.1} = {:.1}; features and run in turn {:.1}",
            us(|round| round.bare.features),
            us(|round| round.bare.run),
            us(|round| round.echo.total()),
            us(Round::parts),
            us(|round| round.bare.both),
        );
        let kinds: std::collections::BTreeSet<_> =
            rounds.iter().flat_map(|round| round.daemon.us.keys()).collect();
        let by_kind = kinds.into_iter().filter_map(|kind| {
            let values: Vec<_> =
                rounds.iter().map(|round| round.daemon.us.get(kind).copied().unwrap_or(0.0)).collect();
            let us = median(&values).median;
            (us >= 0.05).then(|| format!("{kind} {us:.1}"))
        });
        println!(
            "  daemon  {:.1}: {}",
            us(|round| round.daemon.total()),
            by_kind.collect::<Vec<_>>().join(", ")
        );
        println!(
            "  daemon to bare parts {}; with features and run in turn {}",
            shown(of(rounds, |round| round.daemon.total() / round.parts())),
            shown(of(rounds, |round| round.daemon.total() / (round.bare.both + round.echo.total()))),
        );
        println!(
            "  {:.0} frames/s; to the echo's rate {}; to the rate of features and run alone {}",
            us(|round| round.daemon.rate),
            shown(of(rounds, |round| round.daemon.rate / round.echo.rate)),
            shown(of(rounds, |round| round.daemon.rate / round.bare.rate)),
        );
    }
}

/// Sends for so long, and measures what the process that answers takes.
async fn answering(
    client: &async_nats::Client,
    subject: &str,
    frames: &[Bytes],
    users: usize,
    time: Duration,
    pid: u32,
) -> anyhow::Result<Answering> {
    let before = usage::by_thread(pid)?;
    let began = Instant::now();
    let answers = load(client, subject, frames, users, time).await? as f64;
    let seconds = began.elapsed().as_secs_f64();
    let us = usage::by_thread(pid)?
        .into_iter()
        .map(|(kind, s)| {
            let spent = s - before.get(&kind).copied().unwrap_or(0.0);
            (kind, spent * 1e6 / answers)
        })
        .collect();
    Ok(Answering { rate: answers / seconds, us })
}

/// Requests for so long; how many were answered.
async fn load(
    client: &async_nats::Client,
    subject: &str,
    frames: &[Bytes],
    users: usize,
    time: Duration,
) -> anyhow::Result<usize> {
    let until = Instant::now() + time;
    let user = |user: usize| async move {
        let mut answered = 0;
        while Instant::now() < until {
            let frame = frames[(user + users * answered) % frames.len()].clone();
            let reply = client.request(subject.to_owned(), frame).await?;
            ensure!(
                reply.headers.as_ref().is_none_or(|headers| headers.get("Nats-Service-Error").is_none()),
                "a frame failed: {:?}",
                reply.headers
            );
            answered += 1;
        }
        Ok(answered)
    };
    let each: Vec<anyhow::Result<usize>> =
        stream::iter(0..users).map(user).buffer_unordered(users).collect().await;
    each.into_iter().sum()
}
