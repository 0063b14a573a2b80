//! The circuits of all models.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::config::Config;
use super::core::CircuitState;
use super::shared::{CircuitStats, SharedCircuit};
use crate::frame::ModelId;

/// The circuits of all models. The data path keeps references to the circuits of its models and does not look
/// them up here.
#[derive(Debug)]
pub struct Circuits {
    config: Config,
    /// In order of creation.
    circuits: Mutex<Vec<Arc<SharedCircuit>>>,
    changed: watch::Sender<()>,
}

impl Circuits {
    /// Creates circuits with this configuration.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { config, circuits: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// The circuit of a model, created on first use.
    pub fn of(&self, model: &Arc<ModelId>) -> Arc<SharedCircuit> {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(circuit) = circuits.iter().find(|circuit| circuit.model() == model) {
            return Arc::clone(circuit);
        }
        let circuit =
            Arc::new(SharedCircuit::new(Arc::clone(model), self.config.clone(), self.changed.clone()));
        circuits.push(Arc::clone(&circuit));
        circuit
    }

    /// Forgets the circuits of models that are not in use any more.
    pub fn retain(&self, is_used: impl Fn(&ModelId) -> bool) {
        self.circuits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|circuit| is_used(circuit.model()));
    }

    /// Every circuit.
    pub fn all(&self) -> Vec<Arc<SharedCircuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The statistics of every circuit.
    pub fn stats(&self) -> Vec<CircuitStats> {
        self.all().iter().map(|circuit| circuit.stats()).collect()
    }

    /// Whether there are circuits and all are open.
    pub fn are_all_open(&self) -> bool {
        let circuits = self.all();
        !circuits.is_empty()
            && circuits.iter().all(|circuit| matches!(circuit.state().0, CircuitState::Open { .. }))
    }

    /// Notifies at each state change of a circuit.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
