//! A model that takes any frame.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use sferic_onnx::Model;
use sferic_actors::frame::{IqSamples, ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{LoadedModel, RunCanceller, RunError, Runner};

/// The model, whatever the frame.
#[derive(Debug)]
pub struct AcceptsAll(pub Arc<Model>);

impl LoadedModel for AcceptsAll {
    fn id(&self) -> &Arc<ModelId> {
        self.0.id()
    }

    fn accepts(&self, _: &IqSamples) -> Result<(), Failure> {
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
        batch: &[&Tensor],
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let model: &dyn Any = model;
        let within = model.downcast_ref().map(|AcceptsAll(model)| model);
        self.0.run(&**within.ok_or_else(|| RunError("another model".into()))?, batch)
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        self.0.canceller()
    }
}
