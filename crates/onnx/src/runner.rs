//! Runs models for the session threads.

use std::sync::Arc;

use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{LoadedModel, RunCanceller, RunError, Runner, Runners};
use sferic_actors::tensor::Inputs;

use super::model::Model;
use super::session::RunTerminator;
use super::subnormals;

/// Runs models on one thread. Runners share the sessions; only the input buffers of a batch are its own.
#[derive(Debug)]
pub struct OnnxRunner {
    scratch: Vec<Vec<f32>>,
    canceller: Arc<RunTerminator>,
}

impl OnnxRunner {
    /// A runner for the thread that calls this, on which subnormal numbers count as zero from now on.
    pub fn new() -> Self {
        let canceller = RunTerminator::new().unwrap_or_else(|error| {
            tracing::warn!(%error, "the runs of a session cannot be cancelled");
            RunTerminator::default()
        });
        subnormals::flush_on_this_thread();
        Self { scratch: Vec::new(), canceller: Arc::new(canceller) }
    }
}

impl Default for OnnxRunner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner for OnnxRunner {
    fn run(
        &mut self,
        model: &dyn LoadedModel,
        batch: &[&Inputs],
    ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let loaded = Model::behind(model)
            .ok_or_else(|| RunError(format!("{} is no model of ONNX Runtime", model.id())))?;
        loaded.run(batch, &mut self.scratch, &self.canceller)
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        Arc::<RunTerminator>::clone(&self.canceller)
    }
}

/// Creates one [`OnnxRunner`] per session thread.
pub fn runners() -> Runners {
    Arc::new(|| Box::new(OnnxRunner::new()))
}
