//! Computes simulated frames on every core and writes them in order.

use std::path::Path;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sferic_samples::{Datatype, Samples};
use sferic_scene::waveforms::Waveform;
use sferic_scene::{Complex32, Family, Frame, FrameSimulator, SceneSimulator, scene, trilateration};

use crate::inputs::Inputs;
use crate::npy::{self, NpyWriter};

/// Frames computed between two writes.
const PIECE: usize = 512;

/// Writes the inputs, `truth` (metres east, north), `snr` (dB per receiver) and `trilateration` (metres east,
/// north).
pub fn scenes(inputs: &Inputs, out: &Path, count: usize, seed: u64) -> anyhow::Result<()> {
    let simulator = SceneSimulator::new(seed);
    let job = Job { inputs, out, count, instants: scene::INSTANTS, rate_hz: Some(scene::SAMPLE_RATE_HZ) };
    job.run(["truth", "snr", "trilateration"], [2, 3, 2], |index, labels| {
        let scene = simulator.scene(index);
        let found = trilateration::locate(scene.powers());
        labels[0].extend([scene.truth.offset.east_m as f32, scene.truth.offset.north_m as f32]);
        labels[1].extend(scene.truth.snr_db.map(|snr| snr as f32));
        labels[2].extend([found.east_m as f32, found.north_m as f32]);
        scene.samples
    })
}

/// Writes the inputs, `family` (index of the label) and `snr` (dB; NaN for noise).
pub fn frames(inputs: &Inputs, out: &Path, count: usize, seed: u64, samples: usize) -> anyhow::Result<()> {
    let simulator = FrameSimulator::new(seed, samples);
    let job = Job { inputs, out, count, instants: samples, rate_hz: None };
    job.run(["family", "snr"], [1, 1], |index, labels| labelled(simulator.frame(index), labels))
}

/// The same of the clean waveforms in a folder, received as simulated ones are.
pub fn waveforms(inputs: &Inputs, out: &Path, from: &Path, seed: u64) -> anyhow::Result<()> {
    let [samples, family, bandwidth] =
        ["samples", "family", "bandwidth"].map(|name| npy::read(&from.join(format!("{name}.npy"))));
    let (samples, family, bandwidth) = (samples?, family?, bandwidth?);
    let count = family.shape[0];
    ensure!(samples.shape[0] == count && bandwidth.shape[0] == count, "the arrays differ in length");
    let instants = samples.shape[1];
    let simulator = FrameSimulator::new(seed, instants);
    let job = Job { inputs, out, count, instants, rate_hz: None };
    job.run(["family", "snr"], [1, 1], |index, labels| {
        let at = index as usize;
        let label = Family::ALL.get(family.values[at] as usize).copied().unwrap_or(Family::Unknown);
        let waveform = Waveform { samples: samples.complex(at), bandwidth: bandwidth.values[at] };
        labelled(simulator.receive(index, label, waveform), labels)
    })
}

/// Writes the inputs of the frames in a folder as they are.
pub fn samples(inputs: &Inputs, out: &Path, from: &Path) -> anyhow::Result<()> {
    let samples = npy::read(&from.join("samples.npy"))?;
    let job = Job { inputs, out, count: samples.shape[0], instants: samples.shape[1], rate_hz: None };
    job.run([], [], |index, _| samples.complex(index as usize))
}

/// The samples of a frame, after its labels were appended.
fn labelled(frame: Frame, labels: &mut [Vec<f32>; 2]) -> Vec<Complex32> {
    let label = Family::ALL.iter().position(|family| *family == frame.family);
    labels[0].push(label.map_or(f32::NAN, |label| label as f32));
    labels[1].push(frame.snr_db.unwrap_or(f32::NAN));
    frame.samples
}

/// The inputs of `count` frames of `instants` samples (per channel).
struct Job<'a> {
    inputs: &'a Inputs,
    out: &'a Path,
    count: usize,
    instants: usize,
    rate_hz: Option<f64>,
}

/// Values of each input, and of each label.
type Part<const L: usize> = (Vec<Vec<f32>>, [Vec<f32>; L]);

impl Job<'_> {
    /// Calls `make` for every index; it appends to its label columns, of the given `widths`, and returns the
    /// samples.
    fn run<const L: usize>(
        &self,
        names: [&str; L],
        widths: [usize; L],
        make: impl Fn(u64, &mut [Vec<f32>; L]) -> Vec<Complex32> + Sync,
    ) -> anyhow::Result<()> {
        let mut features = self.inputs.create(self.out, self.count, self.instants, self.rate_hz)?;
        let mut columns = Vec::new();
        for (name, width) in names.iter().zip(widths) {
            let path = self.out.join(format!("{name}.npy"));
            columns.push(NpyWriter::create(&path, &[self.count, width])?);
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
                        scope.spawn(move || self.part(first..last, make, bar))
                    })
                    .collect();
                workers
                    .into_iter()
                    .map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
                    .collect()
            });
            for part in parts {
                let (values, labels) = part?;
                for (file, values) in features.iter_mut().zip(&values) {
                    file.write(values)?;
                }
                for (column, label) in columns.iter_mut().zip(&labels) {
                    column.write(label)?;
                }
            }
        }
        bar.finish();
        columns.into_iter().chain(features).try_for_each(NpyWriter::finish)
    }

    /// The inputs and labels of a run of indices.
    fn part<const L: usize>(
        &self,
        indices: std::ops::Range<usize>,
        make: &(impl Fn(u64, &mut [Vec<f32>; L]) -> Vec<Complex32> + Sync),
        bar: &ProgressBar,
    ) -> anyhow::Result<Part<L>> {
        let mut extractors = self.inputs.extractors(self.rate_hz)?;
        let mut labels = std::array::from_fn(|_| Vec::new());
        let mut values = vec![Vec::new(); extractors.len()];
        for index in indices {
            let bytes: Vec<u8> = make(index as u64, &mut labels)
                .iter()
                .flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()])
                .flatten()
                .collect();
            let channels = self.inputs.channels();
            let samples = Samples::new(&bytes, Datatype::Cf32Le, channels)?;
            extractors.extract(&samples, &mut values).with_context(|| format!("frame {index}"))?;
            bar.inc(1);
        }
        Ok((values, labels))
    }
}

fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} frames, {eta} left");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
