//! A model that is ready to run.

use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use sferic_actors::frame::{ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::RunError;
use sferic_features::{Extractor, FeatureConfig, Kind};

use super::bundle::{Bundle, hexadecimal};
use super::head::Head;
use super::input::{Input, width};
use super::library::Runtime;
use super::session::{RunBrake, SessionOptions, SharedSession};
use super::warmup::{BatchCost, WarmUp, warm_up};

/// How models are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that work on one operator, the session's thread included.
    pub intra_threads: usize,
    /// The largest batch to try.
    pub max_batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { intra_threads: 1, max_batch: 8 }
    }
}

/// One loaded and warmed version of a model.
#[derive(Debug)]
pub struct Model {
    id: Arc<ModelId>,
    features: FeatureConfig,
    onnx_digest: [u8; 32],
    config_digest: [u8; 32],
    input: Input,
    head: Head,
    session: SharedSession,
    warm_up: WarmUp,
    empty_bands_told: Once,
}

/// Samples of the frame a model of variable width is warmed with.
const WARM_UP_SAMPLES: usize = 16_384;

impl Model {
    /// Reads the bundle in `folder`, checks it against its ONNX file, and warms it.
    ///
    /// # Errors
    /// In words, with what was found and what was expected.
    pub fn load(name: &str, version: &str, folder: &Path, runtime: &Runtime, options: Options) -> Result<Self, String> {
        let bundle = Bundle::read(folder).map_err(|error| error.to_string())?;
        let session_options = SessionOptions {
            intra_threads: options.intra_threads,
            // Of spectra there are as many widths as hops in the longest frame; of raw samples, as many as samples.
            memory_pattern: bundle.features.kind != Kind::Iq || bundle.features.frames.is_some(),
        };
        let mut session = SharedSession::open(runtime.environment(), &bundle.onnx, session_options)
            .map_err(|error| format!("onnx runtime can't load model.onnx: {error}"))?;
        let input = Input::new(&bundle.features, &session.input_ports())?;
        let head = Head::new(&bundle.output, &session.output_ports())?;
        session.select(&input.name, head.outputs()).map_err(|error| error.to_string())?;
        let columns = input.fixed_width.unwrap_or_else(|| width(&bundle.features, WARM_UP_SAMPLES.max(bundle.features.min_samples())));
        let frame = [bundle.features.num_channels, bundle.features.rows(), columns];
        let warm_up = warm_up(&session, &input, &head, frame, options.max_batch)?;
        let digest = hexadecimal(&bundle.onnx_digest);
        let model = Self {
            id: Arc::new(ModelId { name: name.into(), version: version.into(), digest }),
            features: bundle.features,
            onnx_digest: bundle.onnx_digest,
            config_digest: bundle.config_digest,
            input,
            head,
            session,
            warm_up,
            empty_bands_told: Once::new(),
        };
        if let Some(rate) = model.features.sample_rate_hz {
            let extractor = Extractor::new(&model.features, Some(rate)).map_err(|error| format!("[features] {error}"))?;
            model.tell_of_empty_bands(&extractor);
        }
        Ok(model)
    }

    /// Warns of bands that catch no bin, the first time it is called: at load, or where only a frame says the rate, at the first one.
    pub fn tell_of_empty_bands(&self, extractor: &Extractor) {
        self.empty_bands_told.call_once(|| extractor.warn_of_empty_bands(&self.id.to_string()));
    }

    /// Name, version and digest.
    pub fn id(&self) -> &Arc<ModelId> {
        &self.id
    }

    /// What the model is given.
    pub fn features(&self) -> &FeatureConfig {
        &self.features
    }

    /// SHA-256 of the ONNX file.
    pub fn onnx_digest(&self) -> &[u8; 32] {
        &self.onnx_digest
    }

    /// SHA-256 of `model.toml`.
    pub fn config_digest(&self) -> &[u8; 32] {
        &self.config_digest
    }

    /// The most frames that may share a run: where larger batches save nothing, or change the answer, this is smaller than what
    /// was allowed.
    pub fn max_batch(&self) -> usize {
        self.warm_up.max_batch
    }

    /// Whether a frame's answer would depend on the frames it shares a run with.
    pub fn batch_variant(&self) -> bool {
        self.warm_up.batch_variant
    }

    /// What a frame cost a session at the warm-up, alone in its run.
    pub fn frame_cost(&self) -> Duration {
        self.warm_up.costs.first().map(|cost| cost.run).unwrap_or_default()
    }

    /// What runs cost at the warm-up, by batch size, rising from 1.
    pub fn costs(&self) -> &[BatchCost] {
        &self.warm_up.costs
    }

    /// Checks a frame of `instants` samples a channel before its features are computed.
    ///
    /// # Errors
    /// `shape_mismatch` (channels, sample rate, or a width the ONNX file does not take), `not_enough_samples` (fewer than
    /// `n_fft`, before any padding) or `invalid_frame` (no usable sample rate where one is needed), with the value and the limit.
    pub fn fits(&self, channels: usize, instants: usize, sample_rate_hz: Option<f64>) -> Result<(), Failure> {
        self.input.fits(&self.features, channels, instants, sample_rate_hz)
    }

    /// Runs once on tensors of one shape; `scratch` holds the input of more than one, `brake` can end the run. One result a tensor, in
    /// order.
    ///
    /// # Errors
    /// The run failed as a whole.
    pub fn run(&self, batch: &[&Tensor], scratch: &mut Vec<f32>, brake: &RunBrake) -> Result<Vec<Result<Answer, Failure>>, RunError> {
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
        let outputs = self.session.run(&self.input.shape(batch.len(), first.shape), data, brake).map_err(failed)?;
        let views = outputs.views().map_err(failed)?;
        self.head.check(&views, batch.len()).map_err(|error| RunError(format!("{}: {error}", self.id)))?;
        Ok((0..batch.len()).map(|frame| self.head.answer(&views, frame)).collect())
    }
}
