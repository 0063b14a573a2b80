//! The feature workers.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use sferic_actors::frame::{IqSamples, ModelId, Tensor};
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::ports::{FeatureWorker, FeatureWorkers, LoadedModel};
use sferic_features::{Extractor, FrameError};
use sferic_models::frame_failure;
use sferic_onnx::Model;
use sferic_samples::{BufferPool, Dtype, Samples};

/// Maximum number of plans per worker. Sample rates come from senders, so the plans must be bounded.
const PLANS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// One worker, with its own plans by model and rate; tensors come from the shared pool.
struct ModelExtractor {
    buffers: BufferPool,
    plans: LruCache<(Arc<ModelId>, Option<u64>), Extractor>,
}

/// Creates workers with one tensor pool.
pub fn extractors(buffers: BufferPool) -> FeatureWorkers {
    Arc::new(move || Box::new(ModelExtractor { buffers: buffers.clone(), plans: LruCache::new(PLANS) }))
}

impl FeatureWorker for ModelExtractor {
    fn extract(&mut self, model: &dyn LoadedModel, samples: &IqSamples) -> Result<Tensor, Failure> {
        let Some(loaded) = Model::behind(model) else {
            let message = format!("{} is no model of ONNX Runtime", model.id());
            return Err(Failure::new(FailureCode::Internal, message));
        };
        self.tensor(loaded, samples).map_err(|error| frame_failure(&error))
    }
}

impl ModelExtractor {
    fn tensor(&mut self, model: &Model, samples: &IqSamples) -> Result<Tensor, FrameError> {
        let rate = model.features().plan_rate(samples.sample_rate)?;
        let key = (Arc::clone(model.id()), rate.map(f64::to_bits));
        let extractor = self.plans.try_get_or_insert_mut(key, || {
            let extractor = Extractor::new(model.features(), samples.sample_rate)?;
            model.warn_of_empty_bands(&extractor);
            Ok::<_, FrameError>(extractor)
        })?;
        let view = Samples::new(&samples.bytes, samples.datatype, samples.channels)?;
        let shape = extractor.shape(view.len())?;
        let mut data = self.buffers.take(Dtype::Float32, &shape);
        extractor.extract(&view, &mut data)?;
        Ok(Tensor { shape, data })
    }
}
