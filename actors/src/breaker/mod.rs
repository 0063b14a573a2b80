//! One circuit per model version, so that a model that keeps failing is left alone for a while.
//!
//! Invariant: a circuit hears of a frame's outcome before that outcome is published. So the state machines stand
//! outside the actor, behind a lock held for nanoseconds, and the actor tells the world what changed.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use config::Config;
use core::Circuit;
pub use core::{Admitted, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::ModelId;
use crate::outcome::{Failure, FailureCode};

/// Address of the breaker.
pub type BreakerRef = ActorRef<BreakerMsg>;

/// The circuits of all models, shared by the data path.
#[derive(Debug)]
pub struct Circuits {
    config: Config,
    circuits: Mutex<HashMap<Arc<ModelId>, Arc<SharedCircuit>>>,
    changed: watch::Sender<()>,
}

/// One circuit behind its lock.
#[derive(Debug)]
pub struct SharedCircuit {
    model: Arc<ModelId>,
    circuit: Mutex<Circuit>,
    changed: watch::Sender<()>,
}

/// A frame's leave to be run. Dropped without a word, it gives a probe's place back.
#[derive(Debug)]
pub struct Pass {
    circuit: Arc<SharedCircuit>,
    admitted: Option<Admitted>,
}

impl Circuits {
    /// Circuits that open and close by `config`.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { config, circuits: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// Leave for one frame of `model`, or the failure it gets.
    pub fn admit(&self, model: &Arc<ModelId>) -> Result<Pass, Failure> {
        let circuit = self.circuit(model);
        let admitted = circuit.with(|core, now| core.admit(now));
        match admitted {
            Ok(admitted) => Ok(Pass { circuit, admitted: Some(admitted) }),
            Err(retry_after) => Err(Failure {
                code: FailureCode::ModelUnavailable,
                message: format!("the circuit of {model} is open after {} failures in a row", self.config.failure_threshold),
                retry_after,
            }),
        }
    }

    /// Where every circuit stands.
    pub fn states(&self) -> Vec<(Arc<ModelId>, State)> {
        let circuits: Vec<_> = self.lock().values().cloned().collect();
        circuits.into_iter().map(|c| (Arc::clone(&c.model), c.with(|core, now| core.state(now)))).collect()
    }

    fn circuit(&self, model: &Arc<ModelId>) -> Arc<SharedCircuit> {
        let mut circuits = self.lock();
        if let Some(circuit) = circuits.get(model) {
            return Arc::clone(circuit);
        }
        let circuit = Arc::new(SharedCircuit {
            model: Arc::clone(model),
            circuit: Mutex::new(Circuit::new(self.config.clone())),
            changed: self.changed.clone(),
        });
        circuits.insert(Arc::clone(model), Arc::clone(&circuit));
        circuit
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<ModelId>, Arc<SharedCircuit>>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedCircuit {
    /// Works on the state machine and wakes whoever watches where its state changed.
    fn with<R>(&self, work: impl FnOnce(&mut Circuit, Instant) -> R) -> R {
        let now = Instant::now();
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = circuit.state(now);
        let result = work(&mut circuit, now);
        let after = circuit.state(now);
        drop(circuit);
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            self.changed.send_replace(());
        }
        result
    }
}

impl Pass {
    /// The frame got its prediction.
    pub fn succeeded(mut self) {
        if let Some(admitted) = self.admitted.take() {
            self.circuit.with(|core, now| core.succeeded(admitted, now));
        }
    }

    /// The model failed on the frame.
    pub fn failed(mut self) {
        if let Some(admitted) = self.admitted.take() {
            let jitter = crate::supervision::jitter() * 2.0 - 1.0;
            self.circuit.with(|core, now| core.failed(admitted, now, jitter));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            self.circuit.with(|core, now| core.abandoned(admitted, now));
        }
    }
}

/// Says what the circuits do.
#[derive(Debug)]
pub struct Breaker;

/// What the breaker remembers.
#[derive(Debug)]
pub struct BreakerState {
    circuits: Arc<Circuits>,
    announced: HashMap<Arc<ModelId>, State>,
    _watcher: crate::supervision::Task,
}

/// What the breaker is told.
#[derive(Debug)]
pub enum BreakerMsg {
    /// Some circuit has changed its state.
    Changed,
}

impl BreakerState {
    fn announce(&mut self) {
        for (model, state) in self.circuits.states() {
            let before = self.announced.insert(Arc::clone(&model), state).unwrap_or(State::Closed);
            if before == state {
                continue;
            }
            match state {
                State::Open { until } => {
                    let seconds = (until - Instant::now()).as_secs_f64();
                    tracing::warn!(%model, open_for_s = seconds, "circuit opened");
                }
                State::HalfOpen => tracing::info!(%model, "circuit half-open, probing"),
                State::Closed => tracing::info!(%model, "circuit closed"),
            }
        }
    }
}

impl Actor for Breaker {
    type Msg = BreakerMsg;
    type State = BreakerState;
    type Arguments = Arc<Circuits>;

    async fn pre_start(&self, myself: BreakerRef, circuits: Arc<Circuits>) -> Result<BreakerState, ActorProcessingErr> {
        let mut changed = circuits.changed.subscribe();
        changed.mark_changed();
        let watcher = crate::supervision::Task::spawn(async move {
            while changed.changed().await.is_ok() {
                if myself.send_message(BreakerMsg::Changed).is_err() {
                    return;
                }
            }
        });
        Ok(BreakerState { circuits, announced: HashMap::new(), _watcher: watcher })
    }

    async fn handle(&self, _: BreakerRef, message: BreakerMsg, state: &mut BreakerState) -> Result<(), ActorProcessingErr> {
        match message {
            BreakerMsg::Changed => state.announce(),
        }
        Ok(())
    }
}
