//! The measurement: all sides are started once, then each has its turns, round after round.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sferic_models::{Bundle, OutputConfig};

use crate::answer::{Answer, agree};
use crate::frames::SAMPLES;
use crate::load;
use crate::machine::{machine, versions};
use crate::measurement::{Line, Load, Measured, Run, Turn};
use crate::processes::used;
use crate::report::BUSY;
use crate::servers::{Asked, Programs, Servers, Started};
use crate::side::Side;

/// What is to be measured.
pub struct Plan {
    /// Name and version of the model.
    pub model: String,
    pub rounds: usize,
    /// Of a turn.
    pub seconds: f64,
    pub concurrency: Vec<usize>,
    pub sides: Vec<Side>,
}

/// Frames whose answers are compared, one at a time.
const COMPARED: u64 = 3;

/// Time in which it is seen what sides take while nobody asks them.
const IDLE: Duration = Duration::from_secs(2);

/// Measures, and writes each figure to `file` when it is there.
///
/// # Errors
/// A side does not start, fails a frame, or answers otherwise than the others.
pub async fn measure(
    programs: &Programs,
    plan: &Plan,
    file: Option<&Path>,
) -> anyhow::Result<(Run, Vec<Turn>)> {
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    let mut file = file.map(create).transpose()?;
    let mut servers = Servers::new(programs).await?;
    let mut sides = Vec::new();
    for &side in &plan.sides {
        let started = servers.start(side, programs);
        sides.push(started.with_context(|| format!("cannot start {}", side.name()))?);
    }
    eprintln!("{} sides are started", sides.len());
    servers.ready().await?;
    compare(&sides, origin(&programs.bundle)?).await?;
    warm_up(&mut sides).await?;
    let idle_cores = idle(&sides).await?;
    for (side, cores) in idle_cores.iter().filter(|(_, cores)| **cores >= BUSY) {
        eprintln!("{side} takes {cores:.2} of a core while nobody asks it");
    }
    let run = Run {
        date: now(),
        model: plan.model.clone(),
        frame_bytes: 8 * SAMPLES,
        workers: programs.workers,
        seconds: plan.seconds,
        concurrency: plan.concurrency.clone(),
        machine: machine(),
        versions: versions(programs, &plan.sides),
        idle_cores,
    };
    write(&mut file, &Line::Run(run.clone()))?;
    let mut turns = Vec::new();
    let most = plan.concurrency.iter().max().copied().unwrap_or_default();
    let loads = plan.concurrency.iter().map(|users| Load::Users(*users)).chain([Load::Loop, Load::Half]);
    let loads: Vec<_> = loads.collect();
    let does = |side: &Started, load| side.side.is_loop() == (load == Load::Loop);
    let all = plan.rounds
        * sides.iter().map(|side| if side.side.is_loop() { 1 } else { loads.len() - 1 }).sum::<usize>();
    for round in 1..=plan.rounds {
        // The rate of each side with the most users of this round.
        let mut rates = BTreeMap::new();
        // At one load all sides have their turns shortly after each other.
        for &load in &loads {
            for side in sides.iter_mut().filter(|side| does(side, load)) {
                let half = rates.get(&side.side).map(|rate| rate / 2.0);
                let offered = half.filter(|_| load == Load::Half);
                let turn = take_turn(side, plan, round, load, offered).await?;
                if load == Load::Users(most) {
                    rates.insert(side.side, turn.measured.rate);
                }
                tell(&turn, turns.len() + 1, all);
                write(&mut file, &Line::Turn(turn.clone()))?;
                turns.push(turn);
            }
        }
        // Who goes first takes turns too.
        sides.rotate_left(1);
    }
    Ok((run, turns))
}

/// A turn of a side.
async fn take_turn(
    side: &mut Started,
    plan: &Plan,
    round: usize,
    load: Load,
    offered: Option<f64>,
) -> anyhow::Result<Turn> {
    let time = Duration::from_secs_f64(plan.seconds);
    let warm_up = time.mul_f64(0.2).max(Duration::from_millis(300));
    let measured = match (&mut side.asked, load, offered) {
        (Asked::Loop(running), ..) => running.turn(time),
        (Asked::Through(door), Load::Users(users), _) => {
            load::closed(door, &side.roles, users, warm_up, time).await
        }
        (Asked::Through(door), _, Some(rate)) => {
            load::open(door, &side.roles, rate, round as u64, time).await
        }
        (Asked::Through(_), ..) => Err(anyhow::anyhow!("there is no rate to take half of")),
    };
    let measured = measured.with_context(|| format!("{}, {}", side.side.name(), shown(load, offered)))?;
    Ok(Turn { round, side: side.side, load, offered, measured })
}

/// Checks that all sides answer alike, so that all do the same work. The first that is asked is what the
/// others are compared with.
async fn compare(sides: &[Started], origin: [f64; 2]) -> anyhow::Result<()> {
    let mut first: Option<(Side, Vec<Answer>)> = None;
    for side in sides {
        let Asked::Through(door) = &side.asked else { continue };
        let mut answers = Vec::new();
        for pattern in 0..COMPARED {
            let answer = door.user(pattern).await?.ask(None).await;
            answers.extend(answer.with_context(|| side.side.name())?);
        }
        if answers.is_empty() {
            continue;
        }
        let Some((with, expected)) = &first else {
            first = Some((side.side, answers));
            continue;
        };
        for (ours, theirs) in expected.iter().zip(&answers) {
            let same = agree(ours, theirs, origin);
            same.with_context(|| format!("{} and {} answer differently", with.name(), side.side.name()))?;
        }
    }
    if let Some((_, answers)) = &first {
        eprintln!("all sides that predict answer {COMPARED} frames alike: the first {:?}", answers[0]);
    }
    Ok(())
}

/// Of the model's positions; zero where they are in degrees.
fn origin(bundle: &Path) -> anyhow::Result<[f64; 2]> {
    match Bundle::read(bundle)?.output {
        OutputConfig::Localization { origin, .. } => {
            Ok(origin.map_or([0.0; 2], |origin| [origin.latitude, origin.longitude]))
        }
        _ => anyhow::bail!("the model does not answer positions, which all sides are compared by"),
    }
}

/// All processes of all sides have answered before the first turn.
async fn warm_up(sides: &mut [Started]) -> anyhow::Result<()> {
    let time = Duration::from_millis(500);
    for side in sides {
        let name = side.side.name();
        let done: anyhow::Result<Measured> = match &mut side.asked {
            Asked::Loop(running) => running.turn(time),
            Asked::Through(door) => load::closed(door, &side.roles, 8, time, time).await,
        };
        done.with_context(|| format!("{name}, warming up"))?;
    }
    Ok(())
}

/// Cores that each side takes while nobody asks any.
async fn idle(sides: &[Started]) -> anyhow::Result<BTreeMap<String, f64>> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = sides.iter().map(|side| used(&side.roles)).collect::<anyhow::Result<Vec<_>>>()?;
    tokio::time::sleep(IDLE).await;
    let mut cores = BTreeMap::new();
    for (side, before) in sides.iter().zip(&before) {
        let since = used(&side.roles)?.cpu_since(before);
        let server = since.get("server").copied().unwrap_or_default();
        cores.insert(side.side.name(), (server / IDLE.as_secs_f64() * 1e4).round() / 1e4);
    }
    Ok(cores)
}

fn shown(load: Load, offered: Option<f64>) -> String {
    match load {
        Load::Users(users) => format!("{users} at a time"),
        Load::Half => format!("{:.1}/s due", offered.unwrap_or_default()),
        Load::Loop => "loop".to_owned(),
    }
}

fn tell(turn: &Turn, done: usize, all: usize) {
    let Measured { rate, p50_ms, p99_ms, rss_mib, cpu_ms, .. } = &turn.measured;
    let cpu: Vec<_> = cpu_ms.iter().map(|(role, ms)| format!("{role} {ms:.3}")).collect();
    eprintln!(
        "{done}/{all} round {}: {:<18} {:<13} {rate:8.1}/s  p50 {p50_ms:.2} p99 {p99_ms:.2} ms  CPU ms: {}  \
         RSS {:.0} MiB",
        turn.round,
        turn.side.name(),
        shown(turn.load, turn.offered),
        cpu.join(", "),
        rss_mib.get("server").copied().unwrap_or_default(),
    );
}

fn write(file: &mut Option<File>, line: &Line) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    writeln!(file, "{}", serde_json::to_string(line)?).context("cannot write the figures")
}

/// Today, UTC.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
