//! Logs the state changes of the circuits and wakes those whose open time has passed.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::breaker::{CircuitState, Circuits};
use crate::task::Task;

/// Address of the breaker.
pub type BreakerRef = ActorRef<BreakerMsg>;

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
            if let CircuitState::Open { until: Some(until) } = state {
                due = Some(due.map_or(until, |due| due.min(until)));
            }
            if !circuit.mark_announced(epoch) {
                continue;
            }
            let (model, reason) = (circuit.model(), circuit.reason().map(tracing::field::display));
            match state {
                CircuitState::Open { until } => {
                    let open_for_s = until.map(|until| (until - now).as_secs_f64());
                    tracing::warn!(%model, reason, open_for_s, "circuit opened");
                }
                CircuitState::HalfOpen => tracing::info!(%model, "circuit half-open, probing"),
                CircuitState::Closed => tracing::info!(%model, "circuit closed"),
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
