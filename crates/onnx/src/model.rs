//! A model that is ready to run.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use sferic_actors::frame::{IqSamples, ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{LoadedModel, RunError};
use sferic_features::{Extractor, FeatureConfig};
use sferic_models::{Bundle, Head, Input, Port, hexadecimal};

use super::dispatch::Dispatch;
use super::library::Runtime;
use super::options::{ExecutionProvider, Options};
use super::session::{RunTerminator, SharedSession};
use super::trial::Trial;
use super::warmup::{BatchCost, WarmUp, warm_up};

/// One loaded and warmed version of a model.
#[derive(Debug)]
pub struct Model {
    id: Arc<ModelId>,
    features: FeatureConfig,
    onnx_digest: [u8; 32],
    input: Input,
    head: Head,
    session: SharedSession,
    providers: Vec<ExecutionProvider>,
    dispatch: Option<Dispatch>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: usize,
    warm_up: WarmUp,
    empty_bands_logged: Once,
}

impl Model {
    /// Reads the bundle in `folder`, checks it against its ONNX file, opens it on the first providers that
    /// work, and warms it. A provider that is left out is logged as a warning.
    ///
    /// # Errors
    /// In words, with what was found and what was expected.
    pub fn load(
        name: &str,
        version: &str,
        folder: &Path,
        runtime: &Runtime,
        options: &Options,
    ) -> Result<Self, String> {
        let bundle = Bundle::read(folder).map_err(|error| error.to_string())?;
        let trial = Trial::new(runtime, &bundle, options)?;
        let (providers, chosen) = trial.choose(&options.providers, &mut |provider, reason| {
            let model = format!("{name}@{version}");
            tracing::warn!(model, %provider, reason, "execution provider left out");
        });
        if chosen.is_none() && !options.providers.contains(&ExecutionProvider::Cpu) {
            return Err("none of the execution providers can run it, and the cpu is not among them".into());
        }
        let dispatch = trial
            .dispatch(&providers)
            .inspect_err(|reason| {
                tracing::warn!(model = format!("{name}@{version}"), reason, "no profile of a run")
            })
            .ok();
        let Trial { cpu, input, head, frame, .. } = trial;
        let session = chosen.unwrap_or(cpu);
        let head = head.with_confidence_interval(options.confidence_interval);
        let warm_up = warm_up(&session, &input, &head, frame, options.max_batch)?;
        let digest = hexadecimal(&bundle.onnx.digest);
        let (inputs, outputs) = (session.input_ports(), session.output_ports());
        let model = Self {
            id: Arc::new(ModelId {
                name: name.into(),
                version: version.into(),
                digest,
                config_digest: bundle.config_digest,
            }),
            features: bundle.features,
            onnx_digest: bundle.onnx.digest,
            input,
            head,
            session,
            providers,
            dispatch,
            inputs,
            outputs,
            nodes: bundle.onnx.nodes(),
            warm_up,
            empty_bands_logged: Once::new(),
        };
        if let Some(rate) = model.features.sample_rate_hz {
            let extractor =
                Extractor::new(&model.features, Some(rate)).map_err(|error| format!("[features] {error}"))?;
            model.warn_of_empty_bands(&extractor);
        }
        Ok(model)
    }

    /// Logs a warning about bands that catch no bin, once: at load, or at the first frame where only frames
    /// have a sample rate.
    pub fn warn_of_empty_bands(&self, extractor: &Extractor) {
        self.empty_bands_logged.call_once(|| extractor.warn_of_empty_bands(&self.id.to_string()));
    }

    /// The model behind the port; `None` where it is another implementation.
    pub fn behind(model: &dyn LoadedModel) -> Option<&Self> {
        let model: &dyn Any = model;
        model.downcast_ref()
    }

    /// Name, version and digest.
    pub fn id(&self) -> &Arc<ModelId> {
        &self.id
    }

    /// The features that the model gets.
    pub fn features(&self) -> &FeatureConfig {
        &self.features
    }

    /// Maximum batch size: smaller than the configured one where larger batches save nothing or change the
    /// answer.
    pub fn max_batch(&self) -> usize {
        self.warm_up.max_batch
    }

    /// Whether a frame's answer would depend on the frames it shares a run with.
    pub fn batch_variant(&self) -> bool {
        self.warm_up.batch_variant
    }

    /// Session time of a single frame, as measured at warm-up.
    pub fn frame_cost(&self) -> Duration {
        self.warm_up.costs.first().map(|cost| cost.run).unwrap_or_default()
    }

    /// The execution providers of its session in order of preference, without the CPU, which is the fallback
    /// of all.
    pub fn providers(&self) -> &[ExecutionProvider] {
        &self.providers
    }

    /// Where its nodes run, by the profile of a warm-up run; `None` where no profile could be taken.
    pub fn dispatch(&self) -> Option<&Dispatch> {
        self.dispatch.as_ref()
    }

    /// The inputs of the ONNX file.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs of the ONNX file.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Nodes of its graph as it is in the file, before any optimisation.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Run times at warm-up by batch size, rising from 1.
    pub fn costs(&self) -> &[BatchCost] {
        &self.warm_up.costs
    }

    /// Checks a frame of `instants` samples a channel before its features are computed.
    ///
    /// # Errors
    /// `shape_mismatch` (channels, sample rate, or a width the ONNX file does not take), `not_enough_samples`
    /// (fewer than the bundle's `min_samples`, before any padding) or `invalid_frame` (no usable sample rate
    /// where one is needed), with the value and the limit.
    pub fn fits(&self, channels: usize, instants: usize, sample_rate_hz: Option<f64>) -> Result<(), Failure> {
        self.input.fits(&self.features, channels, instants, sample_rate_hz)
    }

    /// Runs a batch of tensors of one shape; `scratch` holds the input of more than one, `canceller` can
    /// cancel the run. One result per tensor, in order.
    ///
    /// # Errors
    /// The run failed as a whole.
    pub fn run(
        &self,
        batch: &[&Tensor],
        scratch: &mut Vec<f32>,
        canceller: &RunTerminator,
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let Some(first) = batch.first() else { return Ok(Vec::new()) };
        if let Some(other) = batch.iter().find(|tensor| tensor.shape != first.shape) {
            return Err(RunError(format!("a batch of tensors {:?} and {:?}", first.shape, other.shape)));
        }
        let data = match batch {
            [one] => &*one.data,
            many => {
                scratch.clear();
                many.iter().for_each(|tensor| scratch.extend_from_slice(&tensor.data));
                &*scratch
            }
        };
        let failed = |error: ort::Error| RunError(format!("{}: {error}", self.id));
        let outputs =
            self.session.run(&self.input.shape(batch.len(), first.shape), data, canceller).map_err(failed)?;
        let views = outputs.views().map_err(failed)?;
        self.head.check(&views, batch.len()).map_err(|error| RunError(format!("{}: {error}", self.id)))?;
        let answer = |(frame, tensor): (usize, &&Tensor)| {
            self.input.check_range(&tensor.data)?;
            self.head.answer(&views, frame)
        };
        Ok(batch.iter().enumerate().map(answer).collect())
    }
}

impl LoadedModel for Model {
    fn id(&self) -> &Arc<ModelId> {
        &self.id
    }

    fn accepts(&self, samples: &IqSamples) -> Result<(), Failure> {
        self.fits(samples.channels, samples.len(), samples.sample_rate)
    }

    fn max_batch(&self) -> usize {
        self.warm_up.max_batch
    }

    fn expected_run(&self) -> Duration {
        self.frame_cost()
    }

    /// Of the ONNX file, see [`OnnxFile::digest`](sferic_models::OnnxFile::digest), and of `model.toml`.
    fn digests(&self) -> [&[u8; 32]; 2] {
        [&self.onnx_digest, &self.id.config_digest]
    }

    fn rebind(&self, answer: Answer) -> Option<Answer> {
        self.head.rebind(answer)
    }
}
