//! Computes simulated frames on every core and writes them in order.

use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use sferic_features::{Extractor, FeatureConfig};
use sferic_samples::{Datatype, Samples};
use sferic_scene::{Complex32, Family, FrameSimulator, SceneSimulator, scene, trilateration};

use crate::npy::NpyWriter;

/// Frames computed between two writes.
const PIECE: usize = 512;

/// Writes `features`, `truth` (metres east, north), `snr` (dB per receiver) and `trilateration` (metres east,
/// north).
pub fn scenes(config: &FeatureConfig, out: &Path, count: usize, seed: u64) -> anyhow::Result<()> {
    let simulator = SceneSimulator::new(seed);
    let job = Job { config, out, count, instants: scene::INSTANTS, rate_hz: Some(scene::SAMPLE_RATE_HZ) };
    job.run(["truth", "snr", "trilateration"], [2, 3, 2], |index, labels| {
        let scene = simulator.scene(index);
        let found = trilateration::locate(scene.powers());
        labels[0].extend([scene.truth.offset.east_m as f32, scene.truth.offset.north_m as f32]);
        labels[1].extend(scene.truth.snr_db.map(|snr| snr as f32));
        labels[2].extend([found.east_m as f32, found.north_m as f32]);
        scene.samples
    })
}

/// Writes `features`, `family` (index of the label) and `snr` (dB; NaN for noise).
pub fn frames(
    config: &FeatureConfig,
    out: &Path,
    count: usize,
    seed: u64,
    samples: usize,
) -> anyhow::Result<()> {
    let simulator = FrameSimulator::new(seed, samples);
    let job = Job { config, out, count, instants: samples, rate_hz: None };
    job.run(["family", "snr"], [1, 1], |index, labels| {
        let frame = simulator.frame(index);
        let label = Family::ALL.iter().position(|family| *family == frame.family);
        labels[0].push(label.map_or(f32::NAN, |label| label as f32));
        labels[1].push(frame.snr_db.unwrap_or(f32::NAN));
        frame.samples
    })
}

/// The features of `count` frames of `instants` samples (per channel).
struct Job<'a> {
    config: &'a FeatureConfig,
    out: &'a Path,
    count: usize,
    instants: usize,
    rate_hz: Option<f64>,
}

impl Job<'_> {
    /// Calls `make` for every index; it appends to its label columns, of the given `widths`, and returns the
    /// samples.
    fn run<const L: usize>(
        &self,
        names: [&str; L],
        widths: [usize; L],
        make: impl Fn(u64, &mut [Vec<f32>; L]) -> Vec<Complex32> + Sync,
    ) -> anyhow::Result<()> {
        let shape = Extractor::new(self.config, self.rate_hz)?.shape(self.instants)?;
        let size = shape.iter().product::<usize>();
        let file = |name: &str| self.out.join(format!("{name}.npy"));
        let mut features = NpyWriter::create(&file("features"), &[self.count, shape[0], shape[1], shape[2]])?;
        let mut columns = Vec::new();
        for (name, width) in names.iter().zip(widths) {
            columns.push(NpyWriter::create(&file(name), &[self.count, width])?);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let bar = progress(self.count);
        for start in (0..self.count).step_by(PIECE) {
            let piece = PIECE.min(self.count - start);
            let share = piece.div_ceil(threads);
            let parts: Vec<anyhow::Result<_>> = std::thread::scope(|scope| {
                let workers: Vec<_> = (start..start + piece)
                    .step_by(share)
                    .map(|first| {
                        let last = (first + share).min(start + piece);
                        let make = &make;
                        let bar = &bar;
                        scope.spawn(move || self.part(first..last, size, make, bar))
                    })
                    .collect();
                workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
                    .collect()
            });
            for part in parts {
                let (values, labels) = part?;
                features.write(&values)?;
                for (column, label) in columns.iter_mut().zip(&labels) {
                    column.write(label)?;
                }
            }
        }
        bar.finish();
        columns.into_iter().try_for_each(NpyWriter::finish)?;
        features.finish()
    }

    /// The features and labels of a run of indices.
    fn part<const L: usize>(
        &self,
        indices: std::ops::Range<usize>,
        size: usize,
        make: &(impl Fn(u64, &mut [Vec<f32>; L]) -> Vec<Complex32> + Sync),
        bar: &ProgressBar,
    ) -> anyhow::Result<(Vec<f32>, [Vec<f32>; L])> {
        let mut extractor = Extractor::new(self.config, self.rate_hz)?;
        let mut labels = std::array::from_fn(|_| Vec::new());
        let mut values = vec![0.0; indices.len() * size];
        for (index, out) in indices.zip(values.chunks_exact_mut(size)) {
            let bytes: Vec<u8> = make(index as u64, &mut labels)
                .iter()
                .flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()])
                .flatten()
                .collect();
            let samples = Samples::new(&bytes, Datatype::Cf32Le, self.config.num_channels)?;
            extractor.extract(&samples, out).with_context(|| format!("frame {index}"))?;
            bar.inc(1);
        }
        Ok((values, labels))
    }
}

fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} frames, {eta} left");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
