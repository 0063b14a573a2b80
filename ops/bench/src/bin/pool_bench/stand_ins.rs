//! What stands behind the pipeline's ports: a model that takes every frame, and frames and tensors that are
//! there already.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sferic_actors::frame::{Content, Envelope, FrameInfo, IqSamples, ModelId, Priority};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{
    Decoded, Decoder, FeatureWorker, LoadedModel, Rejected, RunCanceller, RunError, Runner,
};
use sferic_actors::tensor::{Inputs, Tensor};
use sferic_onnx::Model;
use sferic_samples::{BufferPool, Datatype, Dtype};

/// The model, whatever the frame.
#[derive(Debug)]
pub struct AcceptsAll(pub Arc<Model>);

impl LoadedModel for AcceptsAll {
    fn id(&self) -> &Arc<ModelId> {
        self.0.id()
    }

    fn accepts(&self, _: &Content) -> Result<(), Failure> {
        Ok(())
    }

    fn max_batch(&self) -> usize {
        self.0.max_batch()
    }

    fn expected_run(&self) -> Duration {
        self.0.frame_cost()
    }

    fn digests(&self) -> [&[u8; 32]; 2] {
        self.0.digests()
    }

    fn rebind(&self, answer: Answer) -> Option<Answer> {
        self.0.rebind(answer)
    }
}

/// Runs the model within.
pub struct Unwrapping(pub Box<dyn Runner>);

impl Runner for Unwrapping {
    fn run(
        &mut self,
        model: &dyn LoadedModel,
        batch: &[&Inputs],
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let model: &dyn Any = model;
        let within = model.downcast_ref().map(|AcceptsAll(model)| model);
        self.0.run(&**within.ok_or_else(|| RunError("another model".into()))?, batch)
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        self.0.canceller()
    }
}

/// A frame of these bytes.
pub fn samples(bytes: Bytes) -> IqSamples {
    IqSamples { bytes, datatype: Datatype::Ci8, channels: 1, sample_rate: None }
}

/// Every frame is the same good one.
#[derive(Clone)]
pub struct Fixed {
    pub budget: Duration,
}

impl Decoder for Fixed {
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected> {
        Ok(Decoded {
            info: self.identify(payload, envelope),
            content: samples(payload.clone()).into(),
            model: None,
            budget: self.budget,
            priority: Priority::Normal,
            session_size: None,
            is_cacheable: false,
        })
    }

    fn identify(&self, _: &Bytes, _: &Envelope) -> FrameInfo {
        FrameInfo::default()
    }
}

/// A tensor that is there already.
#[derive(Clone)]
pub struct Prepared {
    pub buffers: BufferPool,
    pub shape: [usize; 3],
}

impl Prepared {
    pub fn tensor(&self) -> Tensor {
        Tensor { shape: self.shape, data: self.buffers.take(Dtype::Float32, &self.shape) }
    }
}

impl FeatureWorker for Prepared {
    fn extract(&mut self, _: &dyn LoadedModel, _: Content) -> Result<Inputs, Failure> {
        Ok(self.tensor().into())
    }
}
