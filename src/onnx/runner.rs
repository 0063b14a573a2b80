//! The models behind the actors' port.

use std::sync::Arc;

use sferic_actors::frame::{ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{Brake, RunError, Runner, Runners};

use super::catalog::Catalog;
use super::session::RunBrake;

/// Runs the catalog's models on one thread. The sessions are shared by all runners; only the gathered input is its own.
#[derive(Debug)]
pub struct OnnxRunner {
    catalog: Arc<Catalog>,
    scratch: Vec<f32>,
    brake: Arc<RunBrake>,
}

impl OnnxRunner {
    /// A runner over `catalog`.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        let brake = RunBrake::new().unwrap_or_else(|error| {
            tracing::warn!(%error, "the runs of a session cannot be ended early");
            RunBrake::default()
        });
        Self { catalog, scratch: Vec::new(), brake: Arc::new(brake) }
    }
}

impl Runner for OnnxRunner {
    fn run(&mut self, model: &ModelId, batch: &[&Tensor]) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let loaded = self.catalog.get(model).ok_or_else(|| RunError(format!("{model} is not loaded")))?;
        loaded.run(batch, &mut self.scratch, &self.brake)
    }

    fn brake(&self) -> Arc<dyn Brake> {
        Arc::<RunBrake>::clone(&self.brake)
    }
}

/// Makes one [`OnnxRunner`] a session thread.
pub fn runners(catalog: Arc<Catalog>) -> Runners {
    Arc::new(move || Box::new(OnnxRunner::new(Arc::clone(&catalog))))
}
