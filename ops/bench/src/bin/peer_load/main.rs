//! Measures sferic beside what people would run instead, all sides in turn; `ops/bench/peers` builds and
//! starts this, and says what it does.
#![allow(missing_docs)] // a program

mod answer;
mod bare;
mod client;
mod frames;
mod load;
mod machine;
mod measurement;
mod plot;
mod processes;
mod report;
mod rounds;
mod servers;
mod side;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use sferic_settings::available_cores;
use tokio::signal::unix::{SignalKind, signal};

use crate::measurement::{Run, Turn};
use crate::servers::Programs;
use crate::side::Side;

#[derive(Parser)]
#[command(subcommand_negates_reqs = true)]
struct Args {
    /// A model repository.
    #[arg(long, default_value = "../shared/models")]
    repository: PathBuf,
    /// Which of its models; it takes log-mel features of one channel, two-sided on a linear scale.
    #[arg(long, default_value = "cnn_loc")]
    model: String,
    /// Rounds; in each, every side has its turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Users of the closed loops.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    concurrency: Vec<usize>,
    /// Only these sides; absent: all but litserve-batch.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Side>,
    /// Processes or threads of each side; absent: as many as there are cores.
    #[arg(long)]
    workers: Option<usize>,
    /// The daemon; absent: the one beside this program.
    #[arg(long)]
    sferic: Option<PathBuf>,
    /// The interpreter with the peers' packages.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Writes every figure to this file, a JSON object a line.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws the rates into this file, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Measures nothing, and reports the figures of a file that --json has written.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<bare::Role>,
}

/// Where the peers' programs are, below the repository's root.
const PEERS: &str = "ops/bench/peer_servers";

// One thread: the client shares the cores with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if let Some(role) = args.role.take() {
        return role.run().await;
    }
    if let Some(file) = &args.report {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (run, turns) = measurement::read(&text)?;
        return report(&args, &run, &turns);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Whichever ends first, the processes are ended with it.
    let (run, turns) = tokio::select! {
        measured = measure(&args) => measured?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    report(&args, &run, &turns)
}

async fn measure(args: &Args) -> anyhow::Result<(Run, Vec<Turn>)> {
    ensure!(args.rounds > 0 && args.seconds > 0.0, "--rounds and --seconds must be above 0");
    ensure!(
        !args.concurrency.is_empty() && args.concurrency.iter().all(|users| (1..=256).contains(users)),
        "--concurrency must be numbers from 1 to 256"
    );
    let sides = if args.only.is_empty() { Side::usual() } else { args.only.clone() };
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let (version, bundle) = servers::alone(&args.repository, &args.model, folder.path())?;
    let beside = || sferic_bench::daemon();
    let programs = Programs {
        sferic: args.sferic.clone().map_or_else(beside, |path| Ok(std::path::absolute(path)?))?,
        python: args.python.clone(),
        peers: std::path::absolute(PEERS)?,
        nats_server: sferic_tools::places("bin/nats-server")
            .find(|path| path.is_file())
            .unwrap_or_else(|| "nats-server".into()),
        bundle,
        repository: folder.path().to_owned(),
        model: args.model.clone(),
        workers: args.workers.unwrap_or_else(available_cores),
    };
    check(&programs, &sides)?;
    let plan = rounds::Plan {
        model: format!("{}@{version}", args.model),
        rounds: args.rounds,
        seconds: args.seconds,
        concurrency: args.concurrency.clone(),
        sides,
    };
    rounds::measure(&programs, &plan, args.json.as_deref()).await
}

/// Says what is missing before anything is started.
fn check(programs: &Programs, sides: &[Side]) -> anyhow::Result<()> {
    let mut needed: Vec<(&Path, &str)> = vec![
        (&programs.nats_server, "install it with `ops/setup nats-server`"),
        (&programs.sferic, "build it, or name one with --sferic"),
    ];
    if sides.iter().any(|side| side.needs_python()) {
        needed.push((&programs.python, "`ops/bench/peers` sets one up"));
    }
    if sides.iter().any(|side| matches!(side, Side::Fastapi | Side::FastapiLists)) {
        needed.push((Path::new("redis-server"), "install it with `ops/setup debian redis-server`"));
    }
    for (program, remedy) in needed {
        ensure!(machine::is_there(program), "{} cannot be started: {remedy}", program.display());
    }
    Ok(())
}

fn report(args: &Args, run: &Run, turns: &[Turn]) -> anyhow::Result<()> {
    print!("{}", report::markdown(run, turns));
    if let Some(file) = &args.svg {
        let written = std::fs::write(file, plot::svg(run, turns));
        written.with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
