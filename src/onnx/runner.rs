//! The models behind the actors' port.

use std::sync::Arc;

use sferic_actors::frame::{ModelId, Tensor};
use sferic_actors::outcome::{Answer, Failure};
use sferic_actors::ports::{RunError, Runner, Runners};

use super::catalog::Catalog;

/// Runs the catalog's models on one thread. The sessions are shared by all runners; only the gathered input is its own.
#[derive(Debug)]
pub struct OnnxRunner {
    catalog: Arc<Catalog>,
    scratch: Vec<f32>,
}

impl OnnxRunner {
    /// A runner over `catalog`.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog, scratch: Vec::new() }
    }
}

impl Runner for OnnxRunner {
    fn run(&mut self, model: &ModelId, batch: &[&Tensor]) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        let loaded = self.catalog.get(model).ok_or_else(|| RunError(format!("{model} is not loaded")))?;
        loaded.run(batch, &mut self.scratch)
    }
}

/// Makes one [`OnnxRunner`] a session thread.
pub fn runners(catalog: Arc<Catalog>) -> Runners {
    Arc::new(move || Box::new(OnnxRunner::new(Arc::clone(&catalog))))
}
