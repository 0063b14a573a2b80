//! The model pool in this process, no broker: its throughput beside the best bare ONNX Runtime loop; the
//! whole pipeline's behaviour when three times as much is asked of it as it can do; and when frames are
//! answered whose deadline passes in the middle of a long run.
//!
//! `cargo run --release -p sferic-bench --bin pool_bench -- [--repository ../shared/models]
//! [--models fastvit_t8,cnn_loc] [--json]`
#![allow(missing_docs)] // a program

mod bare;
mod pool;
mod stand_ins;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use sferic_bench::statistics::at;
use sferic_onnx::{Catalog, Options, Runtime};
use sferic_settings::available_cores;

#[derive(Parser)]
struct Args {
    /// A model repository.
    #[arg(long, default_value = "../shared/models")]
    repository: PathBuf,
    /// Which of its models; their input is `[B, 1, 128, 61]`.
    #[arg(long, value_delimiter = ',', default_value = "fastvit_t8,cnn_loc")]
    models: Vec<String>,
    /// Alternating pairs of the pool and the best bare loop.
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Seconds of each half of a pair.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Seconds of the flood.
    #[arg(long, default_value_t = 30)]
    flood: u64,
    /// The most frames in a run, as pool.max_batch has it.
    #[arg(long, default_value_t = Options::default().max_batch)]
    max_batch: usize,
    /// Leave out the frames whose deadline passes in a long run.
    #[arg(long)]
    no_deadlines: bool,
    /// One JSON object a model.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // In a task, as the daemon's own ends are: what waits outside the runtime's threads costs two switches
    // more a frame.
    tokio::spawn(run(Args::parse())).await?
}

async fn run(args: Args) -> anyhow::Result<()> {
    if !args.repository.is_dir() {
        eprintln!("skipped: {} is not there", args.repository.display());
        return Ok(());
    }
    let runtime = Runtime::open(None)?;
    let options =
        Options { sessions: available_cores().min(4), max_batch: args.max_batch, ..Options::default() };
    if !args.no_deadlines {
        deadlines(&runtime, &options, args.json).await?;
    }
    let catalog = Arc::new(Catalog::load(&args.repository, &runtime, &options)?);
    for name in &args.models {
        let model = catalog.resolve(name).map_err(|failure| anyhow::anyhow!(failure.message))?;
        let onnx = args.repository.join(name).join(&model.id().version).join("model.onnx");
        let onnx = std::fs::read(&onnx).with_context(|| format!("can't read {}", onnx.display()))?;
        let time = Duration::from_secs(args.seconds);

        eprintln!("{name}: looking for the best bare loop");
        let best = bare::best(&runtime, &onnx)?;
        let pool =
            pool::Pool::start(model, bare::SHAPE, Duration::from_millis(500), options.sessions).await?;
        let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 1..=args.pairs {
            // Which goes first changes from pair to pair.
            let mut rates = [0.0; 2];
            for half in [pair % 2, 1 - pair % 2] {
                rates[half] = if half == 0 {
                    pool.closed_loop(time).await?
                } else {
                    bare::rate(&runtime, &onnx, best, time)?
                };
            }
            eprintln!(
                "{name}: pair {pair} of {}: pool {:.1}, bare {:.1} frames/s",
                args.pairs, rates[0], rates[1]
            );
            ours.push(rates[0]);
            bare.push(rates[1]);
            ratios.push(rates[0] / rates[1]);
        }
        let peak = pool.peak(Duration::from_secs(args.seconds.max(3))).await?;
        eprintln!("{name}: {} s of flood", args.flood);
        let flood = pool.flood(peak, Duration::from_secs(args.flood)).await?;
        pool.stop().await;
        let spread = |values: &[f64]| {
            let (least, most) = (at(values, 0.0), at(values, 1.0));
            json!({"median": at(values, 0.5), "min": least, "max": most})
        };
        let report = json!({
            "model": name, "max_batch": model.max_batch(), "best_bare": best.to_string(),
            "bare_frames_per_second": spread(&bare),
            "pool_frames_per_second": spread(&ours), "ratio": spread(&ratios), "flood": flood,
        });
        println!("{}", if args.json { report.to_string() } else { text(&report) });
    }
    Ok(())
}

/// Frames with a budget of 200 ms, one after the other, for a model that takes two seconds.
async fn deadlines(runtime: &Runtime, options: &Options, as_json: bool) -> anyhow::Result<()> {
    eprintln!("deadlines in the middle of a long run");
    let folder = tempfile::tempdir()?;
    let slow = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/slow");
    std::os::unix::fs::symlink(slow, folder.path().join("slow"))?;
    let catalog = Arc::new(Catalog::load(folder.path(), runtime, options)?);
    let model = catalog.resolve("slow").map_err(|failure| anyhow::anyhow!(failure.message))?;
    let pool = pool::Pool::start(model, [1, 2, 8], Duration::from_millis(200), options.sessions).await?;
    let ms = pool.one_by_one(100).await?;
    pool.stop().await;
    let (run_ms, p50, p99) = (model.frame_cost().as_secs_f64() * 1e3, at(&ms, 0.5), at(&ms, 0.99));
    if as_json {
        let answered = json!({"p50": p50, "p99": p99});
        let report = json!({"run_ms": run_ms, "budget_ms": 200, "frames": ms.len(), "answered_ms": answered});
        println!("{report}");
    } else {
        println!(
            "deadline of 200 ms in a run of {run_ms:.0} ms: {} frames answered after p50 {p50:.1} ms, p99 \
             {p99:.1} ms",
            ms.len()
        );
    }
    Ok(())
}

fn text(report: &Value) -> String {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    format!(
        "{}: pool (batches of up to {}) {:.1} frames/s, best bare loop ({}) {:.1}, ratio {:.3} ({:.3} to \
         {:.3}); flood of {:.0} frames/s: goodput {:.3} of peak, \
         served p50 {:.1} ms p99 {:.1} ms of {:.0} ms, RSS {:.1} MiB early and {:.1} MiB late, {:.0} ms \
         until the latency was back",
        report["model"].as_str().unwrap_or_default(),
        report["max_batch"],
        number("/pool_frames_per_second/median"),
        report["best_bare"].as_str().unwrap_or_default(),
        number("/bare_frames_per_second/median"),
        number("/ratio/median"),
        number("/ratio/min"),
        number("/ratio/max"),
        number("/flood/offered_per_second"),
        number("/flood/goodput_of_peak"),
        number("/flood/served_ms/p50"),
        number("/flood/served_ms/p99"),
        number("/flood/budget_ms"),
        number("/flood/rss_mib/0"),
        number("/flood/rss_mib/1"),
        number("/flood/back_after_ms"),
    )
}
