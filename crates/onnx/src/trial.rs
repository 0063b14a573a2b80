//! Trial of a bundle: on the CPU, as the reference, and on other execution providers.

use std::fs;
use std::time::{Duration, Instant};

use super::dispatch::Dispatch;
use super::graph_cache::GraphCache;
use super::library::Runtime;
use super::options::{ExecutionProvider, Options};
use super::provider::Threads;
use super::run_inputs::{RunData, RunInput};
use super::session::{Opening, ReadBy, SessionOptions, SharedSession};
use super::trial_frames::TrialFrames;
use super::warmup::{RUNS, RUNS_TIME, numbers, run};
use sferic_actors::tensor::InputTensor;
use sferic_features::Kind;
use sferic_models::{
    Bundle, Golden, GoldenCase, Head, InputConfig, Inputs, ModelInput, OnnxFile, lacks_batch_axis,
};

/// Difference of outputs from those of the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Largest of any element.
    pub largest: f64,
    /// Root mean square over all elements.
    pub rms: f64,
}

impl Difference {
    /// Limit above which a provider is not used.
    pub const LIMIT: Self = Self { largest: 1e-2, rms: 1e-3 };

    /// Whether neither is above the limit.
    pub fn is_small(self) -> bool {
        self.largest <= Self::LIMIT.largest && self.rms <= Self::LIMIT.rms
    }

    /// Equal infinities and two NaN count as equal, a NaN and a number as infinitely different.
    fn between(a: &[Vec<f64>], b: &[Vec<f64>]) -> Self {
        let same_lengths = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
        if !same_lengths {
            return Self { largest: f64::INFINITY, rms: f64::INFINITY };
        }
        let one = |(a, b): (&f64, &f64)| match (a - b).abs() {
            _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
            difference if difference.is_nan() => f64::INFINITY,
            difference => difference,
        };
        let each: Vec<f64> = a.iter().flatten().zip(b.iter().flatten()).map(one).collect();
        let squares: f64 = each.iter().map(|difference| difference * difference).sum();
        Self {
            largest: each.iter().copied().fold(0.0, f64::max),
            rms: (squares / each.len().max(1) as f64).sqrt(),
        }
    }
}

/// A bundle whose ONNX file was checked in a session on the CPU.
pub(crate) struct Trial<'a> {
    runtime: &'a Runtime,
    bundle: &'a Bundle,
    adds_batch_axis: bool,
    /// Its graph as it was optimised for the CPU, where that was kept.
    optimised: Option<OnnxFile>,
    options: SessionOptions,
    /// As far as the ONNX file takes batches.
    pub max_batch: usize,
    pub inputs: Inputs,
    pub head: Head,
    /// Reads the outputs for senders that want them as they are.
    pub raw: Head,
    pub frames: TrialFrames,
    pub cpu: SharedSession,
}

impl<'a> Trial<'a> {
    /// Opens the session on the CPU.
    ///
    /// # Errors
    /// In words: what of the bundle does not fit the ONNX file.
    pub(crate) fn new(runtime: &'a Runtime, bundle: &'a Bundle, options: &Options) -> Result<Self, String> {
        let (max_batch, graphs) = (options.max_batch.max(1), options.graphs.as_deref());
        let options = SessionOptions {
            threads: Threads { sessions: options.sessions, intra: options.intra_threads },
            // Spectra have as many widths as hops in the longest frame, raw samples as many as samples.
            memory_pattern: bundle.inputs.iter().filter_map(InputConfig::features).all(|features| {
                match features.kind {
                    Kind::Iq => features.frames.is_some(),
                    Kind::LogMel | Kind::LogSpectrum | Kind::Power | Kind::Signature => true,
                }
            }),
        };
        let cache = graphs.map(GraphCache);
        let (mut cpu, optimised) = open_kept(runtime, &bundle.onnx, options, cache).map_err(|error| {
            let library = runtime.version().unwrap_or_default();
            let versions = bundle.onnx.versions();
            format!("onnx runtime {library} can't load model.onnx ({versions}): {error}")
        })?;
        let adds_batch_axis = lacks_batch_axis(&bundle.inputs, &cpu.input_ports(), &cpu.output_ports())?;
        if adds_batch_axis {
            cpu.add_batch_axis();
        }
        let receivers = bundle.gather.as_ref().map(|rules| rules.slots());
        let inputs = Inputs::gathered(&bundle.inputs, &cpu.input_ports(), receivers)?;
        let head = Head::new(&bundle.output, &cpu.output_ports())?;
        let raw = Head::raw(&cpu.output_ports());
        select(&mut cpu, &inputs, &head, &raw)?;
        let max_batch = if inputs.batch_of_one() || head.batch_of_one() { 1 } else { max_batch };
        let frames = TrialFrames::new(&inputs, max_batch);
        Ok(Self {
            runtime,
            bundle,
            adds_batch_axis,
            optimised,
            options,
            max_batch,
            inputs,
            head,
            raw,
            frames,
            cpu,
        })
    }

    /// Opens a session on `providers`, in this order, with the CPU as fallback.
    pub(crate) fn open(&self, providers: &[ExecutionProvider]) -> Result<SharedSession, String> {
        self.open_profiled(providers, None)
    }

    fn open_profiled(
        &self,
        providers: &[ExecutionProvider],
        profile: Option<&std::path::Path>,
    ) -> Result<SharedSession, String> {
        let optimised = self.optimised.as_ref().filter(|_| providers.is_empty());
        let onnx = optimised.unwrap_or(&self.bundle.onnx);
        let opening = Opening { profile, is_optimised: optimised.is_some(), optimised: None };
        let environment = self.runtime.environment();
        let mut session = SharedSession::open(environment, onnx, self.options, providers, opening)
            .map_err(|error| error.to_string())?;
        if self.adds_batch_axis {
            session.add_batch_axis();
        }
        select(&mut session, &self.inputs, &self.head, &self.raw)?;
        Ok(session)
    }

    /// Runs frames of noise and returns all values of all outputs.
    fn outputs(&self, session: &SharedSession, batch: usize) -> Result<Vec<Vec<f64>>, String> {
        run(session, &self.frames.batch(0, batch), ReadBy::Head, |outputs| {
            self.head.check(outputs, batch)?;
            Ok(outputs.iter().map(|output| numbers(output.values)).collect())
        })
    }

    /// Runs the golden cases.
    ///
    /// # Errors
    /// In words: the case, and what is wrong with it or differs.
    pub(crate) fn check_golden(&self, session: &SharedSession, golden: &Golden) -> Result<(), String> {
        let one = |case: &GoldenCase| {
            let tensors = case.inputs_for(self.inputs.iter().map(|input| &input.port))?;
            let inputs: Vec<_> = tensors.iter().map(|tensor| whole(tensor)).collect();
            run(session, &inputs, ReadBy::Sender, |outputs| {
                let names = self.raw.outputs().map(|(name, _)| name).collect::<Vec<_>>();
                case.compare(names.iter().copied().zip(outputs.iter().copied()), golden.tolerance)
            })
        };
        let mut numbered = (1..).zip(&golden.cases);
        numbered.try_for_each(|(number, case)| {
            one(case).map_err(|error| format!("golden case {number}: {error}"))
        })
    }

    /// The first output that is not finite for a frame of noise, in words.
    pub(crate) fn first_non_finite(&self, session: &SharedSession) -> Result<Option<String>, String> {
        run(session, &self.frames.batch(0, 1), ReadBy::Head, |outputs| {
            let named = self.head.outputs().zip(outputs);
            let found =
                named.filter_map(|((name, _), output)| Some((name, output.values.first_non_finite()?)));
            Ok(found
                .map(|(name, at)| format!("for noise, output `{name}` is not finite at element {at}"))
                .next())
        })
    }

    /// Difference of `session` from the CPU, on a single frame or in the largest batch, whichever is larger:
    /// some providers are right about one and wrong about the other.
    pub(crate) fn difference(&self, session: &SharedSession) -> Result<Difference, String> {
        let of = |batch| -> Result<_, String> {
            Ok(Difference::between(&self.outputs(&self.cpu, batch)?, &self.outputs(session, batch)?))
        };
        let alone = of(1)?;
        if self.max_batch == 1 {
            return Ok(alone);
        }
        let Difference { largest, rms } = of(self.max_batch)?;
        Ok(Difference { largest: largest.max(alone.largest), rms: rms.max(alone.rms) })
    }

    /// Adds providers one by one. One that does not open, or whose outputs differ too much, is reported with
    /// the reason and left out. `None`: only the CPU is left.
    pub(crate) fn choose(
        &self,
        providers: &[ExecutionProvider],
        left_out: &mut dyn FnMut(ExecutionProvider, String),
    ) -> (Vec<ExecutionProvider>, Option<SharedSession>) {
        let (mut taken, mut chosen) = (Vec::new(), None);
        for &provider in providers.iter().filter(|&&provider| provider != ExecutionProvider::Cpu) {
            let tried = [&taken[..], &[provider]].concat();
            let checked = self.open(&tried).and_then(|session| match self.difference(&session)? {
                difference if difference.is_small() => Ok(session),
                Difference { largest, rms } => Err(format!(
                    "its outputs differ from the CPU's by up to {largest:.2e} and {rms:.2e} rms, more than \
                     {:.0e} or {:.0e}",
                    Difference::LIMIT.largest,
                    Difference::LIMIT.rms
                )),
            });
            match checked {
                Ok(session) => (taken, chosen) = (tried, Some(session)),
                Err(reason) => left_out(provider, reason),
            }
        }
        (taken, chosen)
    }

    /// Profiles where the nodes run, in a session of its own, so that serving sessions are never slowed.
    pub(crate) fn dispatch(&self, providers: &[ExecutionProvider]) -> Result<Dispatch, String> {
        let folder = tempfile::Builder::new()
            .prefix("sferic-profile-")
            .tempdir()
            .map_err(|error| format!("no folder for it: {error}"))?;
        let mut session = self.open_profiled(providers, Some(&folder.path().join("run")))?;
        let begun = Instant::now();
        for index in 0..=RUNS {
            self.outputs(&session, 1)?;
            if index > 0 && begun.elapsed() > RUNS_TIME || begun.elapsed() > 2 * RUNS_TIME {
                break;
            }
        }
        let file = session.end_profile().map_err(|error| error.to_string())?;
        Dispatch::read(&fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?)
    }

    /// Sorted times of single runs: as many as fit in `time`, from one to `most`, after one that is not
    /// counted.
    pub(crate) fn latencies(
        &self,
        session: &SharedSession,
        time: Duration,
        most: usize,
    ) -> Result<Vec<Duration>, String> {
        let alone = self.frames.batch(0, 1);
        let once = || run(session, &alone, ReadBy::Head, |outputs| self.head.check(outputs, 1));
        once()?;
        let (begun, mut found) = (Instant::now(), Vec::with_capacity(most));
        while found.is_empty() || (found.len() < most && begun.elapsed() < time) {
            let run_begun = Instant::now();
            once()?;
            found.push(run_begun.elapsed());
        }
        found.sort();
        Ok(found)
    }
}

/// Opens a file on the CPU, from its optimised graph where that was kept, which is returned too; else it is
/// optimised and kept.
fn open_kept(
    runtime: &Runtime,
    onnx: &OnnxFile,
    options: SessionOptions,
    cache: Option<GraphCache<'_>>,
) -> Result<(SharedSession, Option<OnnxFile>), ort::Error> {
    let open = |onnx: &OnnxFile, opening: Opening<'_>| {
        SharedSession::open(runtime.environment(), onnx, options, &[], opening)
    };
    let Some(cache) = cache else { return Ok((open(onnx, Opening::default())?, None)) };
    if let Some(graph) = cache.read(runtime, onnx) {
        match open(&graph, Opening { is_optimised: true, ..Opening::default() }) {
            Ok(session) => return Ok((session, Some(graph))),
            Err(error) => {
                tracing::warn!(%error, "an optimised graph that was kept cannot be opened; it is made again");
                cache.forget(runtime, onnx);
            }
        }
    }
    let mut opened = None;
    let kept = cache.keep(runtime, onnx, |file| {
        opened = Some(open(onnx, Opening { optimised: Some(file), ..Opening::default() })?);
        Ok(())
    });
    if let Err(reason) = kept {
        // Of more than 2 GiB, for example.
        tracing::info!(reason, "the optimised graph is not kept");
    }
    let session = opened.map_or_else(|| open(onnx, Opening::default()), Ok)?;
    Ok((session, None))
}

/// A tensor that has its batch axis.
fn whole(tensor: &InputTensor) -> RunInput<'_> {
    let shape = tensor.shape.iter().map(|&axis| i64::try_from(axis).unwrap_or(i64::MAX)).collect();
    RunInput { shape, data: RunData::Given(vec![(tensor.dtype, &tensor.data[..])]) }
}

fn select(session: &mut SharedSession, inputs: &Inputs, head: &Head, raw: &Head) -> Result<(), String> {
    let names = inputs.iter().map(ModelInput::name);
    session.select(names, head.outputs(), raw.outputs()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_absolute_and_nothing_hides_a_nan() {
        let between = |a: &[f64], b: &[f64]| Difference::between(&[a.to_vec()], &[b.to_vec()]);
        let Difference { largest, rms } = between(&[1.0, 2.0], &[1.0, 2.5]);
        assert!(largest == 0.5 && (rms - 0.125f64.sqrt()).abs() < 1e-15);
        assert!(between(&[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY]).is_small());
        for (a, b) in [
            (&[f64::NAN][..], &[0.0][..]),
            (&[f64::INFINITY], &[0.0]),
            (&[f64::INFINITY], &[f64::NEG_INFINITY]),
            (&[0.0], &[0.0, 0.0]),
        ] {
            assert!(!between(a, b).is_small(), "{a:?} {b:?}");
        }
        assert!(
            between(&[0.0; 100], &[0.0099; 100]).largest <= 1e-2
                && !between(&[0.0; 100], &[0.0099; 100]).is_small()
        );
        let mut one = [0.0; 400];
        one[7] = 0.011;
        assert!(!between(&[0.0; 400], &one).is_small(), "an element too far off, though the mean is within");
        one[7] = 0.0099;
        assert!(between(&[0.0; 400], &one).is_small());
    }
}
