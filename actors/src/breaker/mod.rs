//! One circuit breaker per model version, so that a failing model is not run for a while.
//!
//! Invariant: a circuit is updated with the result of a frame before the outcome is published. So the state
//! machines live outside the actor, shared by the data path; the actor logs changes and wakes circuits whose
//! open time has passed.

mod config;
mod core;
#[cfg(test)]
mod reference;
mod shared;
#[cfg(test)]
mod tests;
mod window;

use std::sync::{Arc, Mutex, PoisonError};

pub use config::{Config, LONGEST_OPEN_FOR};
pub use core::{CircuitCounts, Epoch, Force, Reason, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
pub use shared::{CircuitPermit, CircuitStats, SharedCircuit};
use tokio::sync::watch;
use tokio::time::Instant;
pub use window::Tally;

use crate::frame::ModelId;
use crate::supervision::Task;

/// Address of the breaker.
pub type BreakerRef = ActorRef<BreakerMsg>;

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
        !circuits.is_empty() && circuits.iter().all(|circuit| matches!(circuit.state().0, State::Open { .. }))
    }

    /// Notifies at each state change of a circuit.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Logs the state changes of the circuits.
#[derive(Debug)]
pub struct Breaker;

/// State of the actor.
#[derive(Debug)]
pub struct BreakerState {
    circuits: Arc<Circuits>,
    /// Wakes the actor when the first open circuit becomes half-open.
    alarm: Option<Task>,
    _watcher: Task,
}

/// Messages of the breaker.
#[derive(Debug)]
pub enum BreakerMsg {
    /// A circuit has changed its state, or its open time has passed.
    Changed,
}

impl BreakerState {
    fn announce(&mut self, myself: &BreakerRef) {
        let now = Instant::now();
        let mut due: Option<Instant> = None;
        for circuit in self.circuits.all() {
            let (state, epoch) = circuit.state();
            if let State::Open { until: Some(until) } = state {
                due = Some(due.map_or(until, |due| due.min(until)));
            }
            if !circuit.mark_announced(epoch) {
                continue;
            }
            let (model, reason) = (circuit.model(), circuit.reason().map(tracing::field::display));
            match state {
                State::Open { until } => {
                    let open_for_s = until.map(|until| (until - now).as_secs_f64());
                    tracing::warn!(%model, reason, open_for_s, "circuit opened");
                }
                State::HalfOpen => tracing::info!(%model, "circuit half-open, probing"),
                State::Closed => tracing::info!(%model, "circuit closed"),
            }
        }
        self.alarm = due.map(|due| {
            let myself = myself.clone();
            Task::spawn(async move {
                tokio::time::sleep_until(due).await;
                let _ = myself.send_message(BreakerMsg::Changed);
            })
        });
    }
}

impl Actor for Breaker {
    type Msg = BreakerMsg;
    type State = BreakerState;
    type Arguments = Arc<Circuits>;

    async fn pre_start(
        &self,
        myself: BreakerRef,
        circuits: Arc<Circuits>,
    ) -> Result<BreakerState, ActorProcessingErr> {
        let mut changed = circuits.watch();
        changed.mark_changed();
        let watcher = Task::spawn(async move {
            while changed.changed().await.is_ok() {
                if myself.send_message(BreakerMsg::Changed).is_err() {
                    return;
                }
            }
        });
        Ok(BreakerState { circuits, alarm: None, _watcher: watcher })
    }

    async fn handle(
        &self,
        myself: BreakerRef,
        message: BreakerMsg,
        state: &mut BreakerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BreakerMsg::Changed => state.announce(&myself),
        }
        Ok(())
    }
}
