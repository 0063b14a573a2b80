//! Selects the model version for a frame.

use std::sync::Arc;

use sferic_actors::breaker::{CircuitPermit, Circuits, SharedCircuit};
use sferic_actors::outcome::Failure;

use crate::onnx::{Catalog, Model};

/// The catalog with the circuit of each of its models.
#[derive(Debug)]
pub struct Routes {
    catalog: Arc<Catalog>,
    /// In the order of the catalog.
    circuits: Vec<Arc<SharedCircuit>>,
}

impl Routes {
    /// Creates the circuits.
    pub fn new(catalog: Arc<Catalog>, circuits: &Circuits) -> Self {
        let circuits = catalog.models().iter().map(|model| circuits.of(model.id())).collect();
        Self { catalog, circuits }
    }

    /// Selects the requested model, with a permit of its circuit. A frame that names the model without a
    /// version is served by the next older healthy version that accepts it.
    ///
    /// # Errors
    /// There is no such model, or it does not take the frame.
    pub fn choose(
        &self,
        asked: &str,
        fits: impl Fn(&Model) -> Result<(), Failure>,
    ) -> Result<(&Arc<Model>, Result<CircuitPermit, Failure>), Failure> {
        let index = self.catalog.index_of(asked)?;
        let model = &self.catalog.models()[index];
        fits(model)?;
        let circuit_permit = self.circuits[index].admit();
        if circuit_permit.is_err() && !asked.contains('@') {
            let older = self.catalog.models()[..index].iter().zip(&self.circuits).rev();
            let mut of_this_name = older.take_while(|(older, _)| older.id().name == model.id().name);
            let healthy = of_this_name.find_map(|(older, circuit)| {
                fits(older).and_then(|()| circuit.admit()).ok().map(|permit| (older, Ok(permit)))
            });
            if let Some(healthy) = healthy {
                return Ok(healthy);
            }
        }
        Ok((model, circuit_permit))
    }
}
