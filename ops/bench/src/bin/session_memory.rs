//! Memory and throughput of sessions shared by threads against a session each, for `ops/docs/adr/0002`:
//!
//! `cargo run --release -p sferic-bench --bin session_memory -- <shared|own|prepacked> <threads>
//! <bundle folder>`

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ort::session::Session;
use ort::session::builder::PrepackedWeights;
use ort::value::TensorRef;
use sferic_actors::tensor::{Inputs, Tensor};
use sferic_onnx::{Model, Options, RunTerminator, Runtime};

const SHAPE: [usize; 3] = [1, 128, 61];
const TIME: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, threads, folder] = &arguments[..] else {
        bail!("usage: session_memory shared|own|prepacked THREADS FOLDER")
    };
    let (threads, folder) = (threads.parse::<usize>()?, Path::new(folder));
    let runtime = Runtime::open(None)?;
    let before = resident()?;
    let options = Options { sessions: threads, max_batch: 1, ..Options::default() };
    let load = || Model::load("measured", "1", folder, &runtime, &options).map_err(anyhow::Error::msg);
    let data: Vec<f32> = (0..SHAPE.iter().product()).map(|i| (i as f32).sin()).collect();
    let input = Inputs::from(Tensor { shape: SHAPE, data: data.clone().into() });
    let (loaded, rate, after) = match mode.as_str() {
        "shared" => {
            let model = load()?;
            let runs = (0..threads)
                .map(|_| || model.run(&[&input], &mut Vec::new(), &RunTerminator::default()).is_ok())
                .collect();
            (resident()?, measure(runs)?, resident()?)
        }
        "own" => {
            let models = (0..threads).map(|_| load()).collect::<anyhow::Result<Vec<_>>>()?;
            let runs = models
                .iter()
                .map(|model| || model.run(&[&input], &mut Vec::new(), &RunTerminator::default()).is_ok())
                .collect();
            (resident()?, measure(runs)?, resident()?)
        }
        "prepacked" => {
            let (onnx, weights) = (std::fs::read(folder.join("model.onnx"))?, PrepackedWeights::new());
            let environment = runtime.environment();
            let mut sessions = Vec::new();
            for _ in 0..threads {
                let builder = Session::builder(environment)?
                    .with_intra_threads(1)
                    .map_err(|e| anyhow::anyhow!("{e}"))?;
                let mut builder =
                    builder.with_prepacked_weights(&weights).map_err(|e| anyhow::anyhow!("{e}"))?;
                sessions.push(builder.commit_from_memory(&onnx)?);
            }
            drop(onnx);
            let shape = [1, SHAPE[0], SHAPE[1], SHAPE[2]];
            let runs = sessions
                .iter_mut()
                .map(|session| {
                    let data = &data;
                    move || {
                        TensorRef::from_array_view((shape, &data[..]))
                            .and_then(|x| session.run(ort::inputs![x]).map(drop))
                            .is_ok()
                    }
                })
                .collect();
            (resident()?, measure(runs)?, resident()?)
        }
        other => bail!("no mode {other}"),
    };
    println!(
        "{mode:>9} {threads} threads: {:.1} MiB loaded, {:.1} MiB after running (without the library's \
         {before:.1}), {rate:.1} runs/s",
        loaded - before,
        after - before
    );
    Ok(())
}

/// Runs each on a thread of its own for a while; runs a second, all together.
fn measure(runs: Vec<impl FnMut() -> bool + Send>) -> anyhow::Result<f64> {
    let barrier = Barrier::new(runs.len());
    let counts: Vec<Option<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> = runs
            .into_iter()
            .map(|mut run| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let begun = Instant::now();
                    let mut count = 0;
                    while begun.elapsed() < TIME {
                        if !run() {
                            return None;
                        }
                        count += 1;
                    }
                    Some(count)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
    });
    let total: usize = counts.into_iter().sum::<Option<usize>>().context("a run failed")?;
    Ok(total as f64 / TIME.as_secs_f64())
}

/// Resident memory of this process that no file stands behind, MiB: pages of the library come and go with the
/// system's needs.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
