//! Runs models for the session threads.

use std::sync::Arc;

use sferic_actors::frame::{ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{RunCanceller, RunError, Runner, Runners};

use super::catalog::Catalog;
use super::session::RunTerminator;
use super::subnormals;

/// Runs the models of the catalog on one thread. Runners share the sessions; only the input buffer of a batch
/// is its own.
#[derive(Debug)]
pub struct OnnxRunner {
    catalog: Arc<Catalog>,
    scratch: Vec<f32>,
    canceller: Arc<RunTerminator>,
}

impl OnnxRunner {
    /// A runner over `catalog`, for the thread that calls this.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        let canceller = RunTerminator::new().unwrap_or_else(|error| {
            tracing::warn!(%error, "the runs of a session cannot be cancelled");
            RunTerminator::default()
        });
        subnormals::flush_on_this_thread();
        Self { catalog, scratch: Vec::new(), canceller: Arc::new(canceller) }
    }
}

impl Runner for OnnxRunner {
    fn run(&mut self, model: &ModelId, batch: &[&Tensor]) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let loaded = self.catalog.get(model).ok_or_else(|| RunError(format!("{model} is not loaded")))?;
        loaded.run(batch, &mut self.scratch, &self.canceller)
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        Arc::<RunTerminator>::clone(&self.canceller)
    }
}

/// Creates one [`OnnxRunner`] per session thread.
pub fn runners(catalog: Arc<Catalog>) -> Runners {
    Arc::new(move || Box::new(OnnxRunner::new(Arc::clone(&catalog))))
}
