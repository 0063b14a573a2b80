//! A model that is ready to run.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use sferic_actors::frame::{Content, ModelId};
use sferic_actors::gather::GatherRules;
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{LoadedModel, RunError};
use sferic_actors::tensor;
use sferic_features::Extractor;
use sferic_models::{
    Bundle, Head, Inputs, LocalOrigin, ModelInput, ModelInputSource, OutputConfig, Port, hexadecimal,
};

use super::dispatch::Dispatch;
use super::library::Runtime;
use super::options::{ExecutionProvider, Options};
use super::run_inputs::{RunData, RunInput};
use super::session::{ReadBy, RunTerminator, SharedSession};
use super::trial::Trial;
use super::trial_frames::batch_shape;
use super::warmup::{BatchCost, WarmUp, warm_up};

/// One loaded and warmed version of a model.
#[derive(Debug)]
pub struct Model {
    id: Arc<ModelId>,
    onnx_digest: [u8; 32],
    given: Inputs,
    head: Head,
    raw: Head,
    session: SharedSession,
    providers: Vec<ExecutionProvider>,
    dispatch: Option<Dispatch>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    rules: Option<Arc<GatherRules>>,
    origin: Option<LocalOrigin>,
    nodes: usize,
    warm_up: WarmUp,
    /// An output of the warm-up that is not finite.
    non_finite: Option<String>,
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
        options.check.as_ref().map_or(Ok(()), |check| check.run(folder))?;
        let bundle = Bundle::read_within(folder, options.max_bytes).map_err(|error| error.to_string())?;
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
        let session = chosen.as_ref().unwrap_or(&trial.cpu);
        let non_finite = match &bundle.golden {
            Some(golden) => trial.check_golden(session, golden).map(|()| None)?,
            None => trial.first_non_finite(session)?,
        };
        let Trial { cpu, inputs: given, head, raw, frames, max_batch, .. } = trial;
        let session = chosen.unwrap_or(cpu);
        let head = head.with_confidence_interval(options.confidence_interval);
        let warm_up = warm_up(&session, &frames, &head, max_batch)?;
        let digest = hexadecimal(&bundle.onnx.digest);
        let (inputs, outputs) = (session.input_ports(), session.output_ports());
        let model = Self {
            id: Arc::new(ModelId {
                name: name.into(),
                version: version.into(),
                digest,
                config_digest: bundle.config_digest,
            }),
            onnx_digest: bundle.onnx.digest,
            given,
            head,
            raw,
            session,
            providers,
            dispatch,
            inputs,
            outputs,
            rules: bundle.gather.clone(),
            origin: match bundle.output {
                OutputConfig::Localization { origin, .. } => origin,
                _ => None,
            },
            nodes: bundle.onnx.nodes(),
            warm_up,
            non_finite,
            empty_bands_logged: Once::new(),
        };
        for features in model.given.features() {
            if let Some(rate) = features.sample_rate_hz {
                let extractor =
                    Extractor::new(features, Some(rate)).map_err(|error| format!("[features] {error}"))?;
                model.warn_of_empty_bands(&extractor);
            }
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

    /// What the model gets, by input.
    pub fn given(&self) -> &Inputs {
        &self.given
    }

    /// Origin of metres, where it answers in metres.
    pub fn origin(&self) -> Option<LocalOrigin> {
        self.origin
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

    /// Checks that it gave finite outputs for the noise of its warm-up. A bundle with golden cases has been
    /// checked by them instead: they may say NaN.
    ///
    /// # Errors
    /// In words: the output.
    pub fn check_finite(&self) -> Result<(), String> {
        self.non_finite.as_ref().map_or(Ok(()), |reason| Err(reason.clone()))
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

    /// Runs a batch of frames that [can share a run](tensor::Inputs::can_share_run); `scratch` holds, by
    /// input, what is computed for more than one, `canceller` can cancel the run. One result per frame, in
    /// order.
    ///
    /// # Errors
    /// The run failed as a whole.
    pub fn run(
        &self,
        batch: &[&tensor::Inputs],
        scratch: &mut Vec<Vec<f32>>,
        canceller: &RunTerminator,
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let Some(first) = batch.first() else { return Ok(Vec::new()) };
        if let Some(other) = batch.iter().find(|other| !first.can_share_run(other)) {
            return Err(RunError(format!("{}: a batch of {first:?} and {other:?}", self.id)));
        }
        let inputs = self.together(batch, scratch)?;
        let (head, read_by) =
            if first.is_raw { (&self.raw, ReadBy::Sender) } else { (&self.head, ReadBy::Head) };
        let failed = |error: ort::Error| RunError(format!("{}: {error}", self.id));
        let outputs = self.session.run(&inputs, read_by, canceller).map_err(failed)?;
        let views = outputs.views().map_err(failed)?;
        head.check(&views, batch.len()).map_err(|error| RunError(format!("{}: {error}", self.id)))?;
        let answer = |(frame, inputs): (usize, &&tensor::Inputs)| {
            self.check_range(inputs)?;
            head.answer(&views, frame)
        };
        Ok(batch.iter().enumerate().map(answer).collect())
    }

    /// The inputs of a batch, each of all frames.
    fn together<'a>(
        &self,
        batch: &[&'a tensor::Inputs],
        scratch: &'a mut Vec<Vec<f32>>,
    ) -> Result<Vec<RunInput<'a>>, RunError> {
        let kinds = self.given.iter().len();
        if let Some(inputs) = batch.iter().find(|inputs| inputs.iter().len() != kinds) {
            let got = inputs.iter().len();
            return Err(RunError(format!("{}: {got} inputs, expected {kinds}", self.id)));
        }
        scratch.resize_with(kinds, Vec::new);
        let one = |(at, (known, scratch)): (usize, (&ModelInput, &'a mut Vec<f32>))| {
            let mut shape = None;
            let mut given = Vec::new();
            scratch.clear();
            for input in batch.iter().filter_map(|inputs| inputs.iter().nth(at)) {
                match (input, &known.source) {
                    (tensor::Input::Computed(tensor), ModelInputSource::Computed(_, known)) => {
                        shape.get_or_insert_with(|| known.shape(batch.len(), tensor.shape));
                        if batch.len() == 1 {
                            let shape = shape.unwrap_or_default();
                            return Ok(RunInput { shape, data: RunData::Floats(&tensor.data) });
                        }
                        scratch.extend_from_slice(&tensor.data);
                    }
                    (tensor::Input::Given(tensor), _) => {
                        shape.get_or_insert_with(|| batch_shape(batch.len(), &tensor.shape));
                        given.push((tensor.dtype, &tensor.data[..]));
                    }
                    _ => return Err(RunError(format!("{}: `{}` is no feature", self.id, known.name()))),
                }
            }
            let data = if given.is_empty() { RunData::Floats(&*scratch) } else { RunData::Given(given) };
            Ok(RunInput { shape: shape.unwrap_or_default(), data })
        };
        self.given.iter().zip(scratch.iter_mut()).enumerate().map(one).collect()
    }

    /// Checks that what was computed stays finite in the types of the ONNX file.
    fn check_range(&self, inputs: &tensor::Inputs) -> Result<(), Failure> {
        self.given.iter().zip(inputs.iter()).try_for_each(|(known, input)| match (&known.source, input) {
            (ModelInputSource::Computed(_, known), tensor::Input::Computed(tensor)) => {
                known.check_range(&tensor.data)
            }
            _ => Ok(()),
        })
    }
}

impl LoadedModel for Model {
    fn id(&self) -> &Arc<ModelId> {
        &self.id
    }

    fn accepts(&self, content: &Content) -> Result<(), Failure> {
        self.given.fits(content)
    }

    fn gather(&self) -> Option<&Arc<GatherRules>> {
        self.rules.as_ref()
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
        // Under the key of a frame that wants the raw outputs there is nothing else.
        let is_raw = matches!(answer, Answer::Tensors(_)) && !self.head.is_raw();
        if is_raw { self.raw.rebind(answer) } else { self.head.rebind(answer) }
    }
}
