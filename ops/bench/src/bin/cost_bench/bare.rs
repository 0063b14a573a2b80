//! The work alone, with nothing around it: threads that compute features, and threads that run the network.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context;
use ort::session::Session;
use ort::value::TensorRef;
use sferic_features::{Extractor, FeatureConfig};
use sferic_onnx::{Model, Options, Runtime};
use sferic_samples::{Datatype, Samples};
use sferic_scene::FrameSimulator;

/// Sample rate of the simulated frames, Hz.
pub const RATE_HZ: f64 = 250e3;

/// What a frame of a model takes, whoever does it.
pub struct Work {
    runtime: Runtime,
    onnx: std::path::PathBuf,
    features: FeatureConfig,
    frames: Vec<Vec<u8>>,
    threads: usize,
}

/// Microseconds of processor time a frame.
#[derive(Clone, Copy, serde::Serialize)]
pub struct Bare {
    /// The features alone.
    pub features: f64,
    /// `session.run` alone.
    pub run: f64,
    /// Both in turn, on one thread.
    pub both: f64,
    /// Frames a second of that, all threads together.
    pub rate: f64,
}

impl Work {
    /// That of a version of a model, for frames of so many samples, on so many threads.
    pub fn new(folder: &Path, samples: usize, threads: usize) -> anyhow::Result<Self> {
        let runtime = Runtime::open(None)?;
        let model =
            Model::load("model", "1", folder, &runtime, &Options::default()).map_err(anyhow::Error::msg)?;
        let input = model.given().iter().next().context("the model has no input")?;
        let features = input.features().context("the model takes tensors alone")?.clone();
        let simulator = FrameSimulator::new(1, samples);
        let frames = (0..16).map(|index| simulator.frame(index).bytes()).collect();
        Ok(Self { runtime, onnx: folder.join("model.onnx"), features, frames, threads })
    }

    /// Measures each part for so long.
    pub fn measure(&self, time: Duration) -> anyhow::Result<Bare> {
        let (features, _) = self.cost(true, false, time)?;
        let (run, _) = self.cost(false, true, time)?;
        let (both, rate) = self.cost(true, true, time)?;
        Ok(Bare { features, run, both, rate })
    }

    /// Processor time a frame, µs, and frames a second.
    fn cost(&self, features: bool, run: bool, time: Duration) -> anyhow::Result<(f64, f64)> {
        let start = Barrier::new(self.threads);
        let ends = std::thread::scope(|scope| {
            let one = || scope.spawn(|| self.one(features, run, time, &start));
            let threads: Vec<_> = std::iter::repeat_with(one).take(self.threads).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
            };
            threads.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
        })?;
        let frames: u64 = ends.iter().map(|end: &(u64, u64)| end.0).sum();
        let ns: u64 = ends.iter().map(|end| end.1).sum();
        Ok((ns as f64 / 1e3 / frames as f64, frames as f64 / time.as_secs_f64()))
    }

    /// Frames, and nanoseconds of processor time.
    fn one(&self, features: bool, run: bool, time: Duration, start: &Barrier) -> anyhow::Result<(u64, u64)> {
        let mut extractor = Extractor::new(&self.features, Some(RATE_HZ))?;
        let view = |at: usize| Samples::new(&self.frames[at % self.frames.len()], Datatype::Cf32Le, 1);
        let [channels, rows, columns] = extractor.shape(view(0)?.len())?;
        let mut tensor = vec![0.0; channels * rows * columns];
        extractor.extract(&view(0)?, &mut tensor)?;
        let builder = Session::builder(self.runtime.environment())?
            .with_intra_threads(1)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut session = { builder }.commit_from_file(&self.onnx)?;
        let shape = [1, channels, rows, columns];
        let mut step = |at: usize| -> anyhow::Result<()> {
            if features {
                extractor.extract(&view(at)?, &mut tensor)?;
            }
            if run {
                session.run(ort::inputs![TensorRef::from_array_view((shape, &tensor[..]))?])?;
            }
            Ok(())
        };
        (0..32).try_for_each(&mut step)?;
        start.wait();
        let (began, before, mut frames) = (Instant::now(), thread_ns()?, 0);
        while began.elapsed() < time {
            (0..8).try_for_each(&mut step)?;
            frames += 8;
        }
        Ok((frames, thread_ns()? - before))
    }
}

/// Processor time of this thread, ns.
fn thread_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().context("an empty schedstat")?.parse()?)
}
