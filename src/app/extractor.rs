//! The feature workers.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use sferic_actors::frame::{Content, IqSamples, ModelId, Slot};
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::ports::{FeatureWorker, FeatureWorkers, LoadedModel};
use sferic_actors::tensor::{Input, Inputs, Tensor};
use sferic_features::{Correlator, Extractor, FeatureConfig, FrameError};
use sferic_models::{GatheredInput, GatheredKind, ModelInput, ModelInputSource, check_range, frame_failure};
use sferic_onnx::Model;
use sferic_samples::{BufferPool, Dtype, Samples};

use super::session_inputs::SessionInputs;

/// Maximum number of plans per worker. Sample rates come from senders, so the plans must be bounded.
const PLANS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// Maximum number of models whose correlations a worker keeps plans for.
const CORRELATORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// One worker, with its own plans by model, input and rate; tensors come from the shared pool.
struct ModelExtractor {
    buffers: BufferPool,
    plans: Plans,
    correlators: LruCache<Arc<ModelId>, Correlator>,
}

/// Creates workers with one tensor pool.
pub fn extractors(buffers: BufferPool) -> FeatureWorkers {
    Arc::new(move || {
        Box::new(ModelExtractor {
            buffers: buffers.clone(),
            plans: LruCache::new(PLANS),
            correlators: LruCache::new(CORRELATORS),
        })
    })
}

impl FeatureWorker for ModelExtractor {
    fn extract(&mut self, model: &dyn LoadedModel, content: Content) -> Result<Inputs, Failure> {
        let Some(loaded) = Model::behind(model) else {
            let message = format!("{} is no model of ONNX Runtime", model.id());
            return Err(Failure::new(FailureCode::Internal, message));
        };
        if !content.slots.is_empty() {
            return self.session(loaded, &content.slots);
        }
        let Content { samples, mut tensors, is_raw, .. } = content;
        // Routing has checked the frame against the model.
        let lacks =
            || Failure::new(FailureCode::Internal, format!("the frame lacks an input of {}", model.id()));
        let mut inputs = loaded.given().iter().enumerate().map(|(at, input)| {
            if let Some(place) = tensors.iter().position(|tensor| tensor.name == input.name()) {
                let tensor = tensors.swap_remove(place);
                check_range(&tensor, input.dtype())?;
                return Ok(Input::Given(tensor));
            }
            let (features, samples) = input.features().zip(samples.as_ref()).ok_or_else(lacks)?;
            let tensor = self.tensor(loaded, at, features, samples);
            tensor.map(Input::Computed).map_err(|error| frame_failure(&error))
        });
        let first = inputs.next().ok_or_else(lacks)??;
        let others = inputs.collect::<Result<_, _>>()?;
        Ok(Inputs { first, others, is_raw, left_out: Vec::new(), clocks: Vec::new() })
    }
}

impl ModelExtractor {
    /// The features of the input at this place.
    fn tensor(
        &mut self,
        model: &Model,
        at: usize,
        features: &FeatureConfig,
        samples: &IqSamples,
    ) -> Result<Tensor, FrameError> {
        let rate = features.plan_rate(samples.sample_rate)?;
        let key = (Arc::clone(model.id()), at, rate.map(f64::to_bits));
        let extractor = plan(&mut self.plans, key, model, features, samples)?;
        let view = Samples::new(&samples.bytes, samples.datatype, samples.channels)?;
        let shape = extractor.shape(view.len())?;
        let mut data = self.buffers.take(Dtype::Float32, &shape);
        extractor.extract(&view, &mut data)?;
        Ok(Tensor { shape, data })
    }

    /// The inputs of a gathered model.
    fn session(&mut self, model: &Model, slots: &[Option<Slot>]) -> Result<Inputs, Failure> {
        let mut session = SessionInputs::new(slots, model.origin());
        let Self { plans, correlators, .. } = self;
        let correlation = model.given().iter().find_map(|input| match &input.source {
            ModelInputSource::Gathered(GatheredInput { kind: GatheredKind::Correlation(config), .. }) => {
                Some(config)
            }
            _ => None,
        });
        if let Some(config) = correlation {
            let new = || Correlator::new(config.clone());
            let correlator = correlators.get_or_insert_mut(Arc::clone(model.id()), new);
            session.correlate(config, |streams| correlator.correlate(streams))?;
        }
        let mut one = |(at, input): (usize, &ModelInput)| {
            let ModelInputSource::Gathered(gathered) = &input.source else {
                let message = format!("{} gathers nothing", model.id());
                return Err(Failure::new(FailureCode::Internal, message));
            };
            let features = |content: &Content, part: &mut [f32]| {
                let (features, samples) =
                    input.features().zip(content.samples.as_ref()).ok_or_else(|| {
                        Failure::new(FailureCode::Internal, "a frame of the session has no samples")
                    })?;
                fill(plans, model, at, features, samples, part).map_err(|error| frame_failure(&error))
            };
            session.input(input.name(), gathered, features)
        };
        let mut inputs = model.given().iter().enumerate();
        let first = inputs.next().ok_or_else(|| Failure::new(FailureCode::Internal, "no inputs"))?;
        let first = one(first)?;
        let others = inputs.map(one).collect::<Result<_, _>>()?;
        let (left_out, clocks) = session.found();
        Ok(Inputs { first, others, is_raw: false, left_out, clocks })
    }
}

/// The plan of one input of a model at one rate.
type Plans = LruCache<(Arc<ModelId>, usize, Option<u64>), Extractor>;

fn plan<'a>(
    plans: &'a mut Plans,
    key: (Arc<ModelId>, usize, Option<u64>),
    model: &Model,
    features: &FeatureConfig,
    samples: &IqSamples,
) -> Result<&'a mut Extractor, FrameError> {
    plans.try_get_or_insert_mut(key, || {
        let extractor = Extractor::new(features, samples.sample_rate)?;
        model.warn_of_empty_bands(&extractor);
        Ok::<_, FrameError>(extractor)
    })
}

/// Computes the features of one frame of a session into its part of the input.
fn fill(
    plans: &mut Plans,
    model: &Model,
    at: usize,
    features: &FeatureConfig,
    samples: &IqSamples,
    part: &mut [f32],
) -> Result<(), FrameError> {
    let rate = features.plan_rate(samples.sample_rate)?;
    let key = (Arc::clone(model.id()), at, rate.map(f64::to_bits));
    let extractor = plan(plans, key, model, features, samples)?;
    let view = Samples::new(&samples.bytes, samples.datatype, samples.channels)?;
    extractor.extract(&view, part)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use sferic_actors::tensor::{Dtype as Type, InputTensor};
    use sferic_onnx::{Options, Runtime};
    use sferic_samples::Datatype;

    use super::*;

    fn extract(model: &str, content: Content) -> Option<Inputs> {
        let runtime = match Runtime::open(None) {
            Ok(runtime) => runtime,
            Err(error) => {
                sferic_tools::skip(error);
                return None;
            }
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("1");
        let loaded = Model::load(model, "1", &folder, &runtime, &Options::default()).unwrap();
        loaded.accepts(&content).unwrap();
        let mut worker = extractors(BufferPool::new(Duration::from_secs(1), 1 << 20))();
        Some(worker.extract(&loaded, content).unwrap())
    }

    fn samples() -> Option<IqSamples> {
        let bytes = vec![64; 64].into();
        Some(IqSamples { bytes, datatype: Datatype::Ci8, channels: 1, sample_rate: None })
    }

    fn tensor(name: &str, dtype: Type, shape: &[usize]) -> InputTensor {
        let data = vec![0; dtype.size() * shape.iter().product::<usize>()].into();
        InputTensor { name: name.into(), dtype, shape: shape.into(), data }
    }

    #[test]
    fn each_input_is_computed_or_taken_from_the_frame() {
        let tensors = vec![tensor("levels", Type::Float64, &[4])];
        let content = Content { samples: samples(), tensors, ..Content::default() };
        let Some(inputs) = extract("several", content) else { return };
        let [Input::Given(levels), Input::Computed(iq), Input::Computed(power)] =
            &inputs.iter().collect::<Vec<_>>()[..]
        else {
            panic!("{inputs:?}")
        };
        assert_eq!((&*levels.name, iq.shape, power.shape), ("levels", [1, 2, 32], [1, 1, 1]));
        // 10·log10(0.5² + 0.5²).
        assert!(iq.data.iter().all(|&value| value == 0.5) && (power.data[0] + 3.0103).abs() < 1e-4);
    }

    #[test]
    fn a_raw_tensor_stands_for_what_would_be_computed() {
        let tensors = vec![tensor("x", Type::Float32, &[1, 2, 5])];
        let content = Content { tensors, is_raw: true, ..Content::default() };
        let Some(inputs) = extract("degrees", content) else { return };
        assert!(inputs.is_raw && matches!(&inputs.first, Input::Given(x) if x.shape == [1, 2, 5]));
        let tensors = vec![tensor("levels", Type::Float32, &[4]), tensor("power", Type::Float32, &[1])];
        let content = Content { samples: samples(), tensors, is_raw: true, ..Content::default() };
        let Some(inputs) = extract("several", content) else { return };
        let kinds: Vec<_> = inputs.iter().map(|input| matches!(input, Input::Given(_))).collect();
        assert_eq!(kinds, [true, false, true], "levels, iq, power");
    }
}
