//! One circuit per model version, so that a model that keeps failing is left alone for a while.
//!
//! Invariant: a circuit hears of a frame's outcome before that outcome is published. So the state machines stand outside the
//! actor, shared by the data path, and the actor tells the world what changed and wakes circuits whose time is up.

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

/// The circuits of all models. The data path keeps those of the models it knows and does not ask here.
#[derive(Debug)]
pub struct Circuits {
    config: Config,
    /// In the order in which they were asked for first.
    circuits: Mutex<Vec<Arc<SharedCircuit>>>,
    changed: watch::Sender<()>,
}

impl Circuits {
    /// Circuits that open and close by `config`.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { config, circuits: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// The circuit of a model, made where there is none yet.
    pub fn of(&self, model: &Arc<ModelId>) -> Arc<SharedCircuit> {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(circuit) = circuits.iter().find(|circuit| circuit.model() == model) {
            return Arc::clone(circuit);
        }
        let circuit = Arc::new(SharedCircuit::new(Arc::clone(model), self.config.clone(), self.changed.clone()));
        circuits.push(Arc::clone(&circuit));
        circuit
    }

    /// Every circuit.
    pub fn all(&self) -> Vec<Arc<SharedCircuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reading of every circuit.
    pub fn stats(&self) -> Vec<CircuitStats> {
        self.all().iter().map(|circuit| circuit.stats()).collect()
    }

    /// Whether there is nothing here that runs.
    pub fn are_all_open(&self) -> bool {
        let circuits = self.all();
        !circuits.is_empty() && circuits.iter().all(|circuit| matches!(circuit.state().0, State::Open { .. }))
    }

    /// Wakes at each change of a circuit.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Says what the circuits do.
#[derive(Debug)]
pub struct Breaker;

/// What the breaker remembers.
#[derive(Debug)]
pub struct BreakerState {
    circuits: Arc<Circuits>,
    /// Sleeps until the first open circuit's time is up.
    alarm: Option<Task>,
    _watcher: Task,
}

/// What the breaker is told.
#[derive(Debug)]
pub enum BreakerMsg {
    /// Some circuit has changed its state, or its time is up.
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

    async fn pre_start(&self, myself: BreakerRef, circuits: Arc<Circuits>) -> Result<BreakerState, ActorProcessingErr> {
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

    async fn handle(&self, myself: BreakerRef, message: BreakerMsg, state: &mut BreakerState) -> Result<(), ActorProcessingErr> {
        match message {
            BreakerMsg::Changed => state.announce(&myself),
        }
        Ok(())
    }
}
