//! A circuit as the data path shares it: an atomic read for a model that is well, a lock held for nanoseconds otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Config;
use super::core::{Call, Circuit, Counts, Era, Force, Reason, State};
use super::window::Tally;
use crate::frame::ModelId;
use crate::outcome::{Failure, FailureCode};

/// One model version's circuit.
#[derive(Debug)]
pub struct SharedCircuit {
    model: Arc<ModelId>,
    slow_call: Duration,
    circuit: Mutex<Circuit>,
    /// The circuit's era, and in the lowest bit whether it is quiet; written under the lock.
    glance: AtomicU64,
    /// The last era that the world was told of.
    announced: AtomicU64,
    changed: watch::Sender<()>,
}

/// Where a circuit stands, why, and what it has done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CircuitStats {
    /// The model's name.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Why it is not closed.
    pub reason: Option<String>,
    /// Until probes are let through, where that is known.
    pub retry_after_ms: Option<u64>,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// Calls in the window, where shares are watched.
    pub window: Option<Tally>,
    /// Since it was made or reset.
    #[serde(flatten)]
    pub counts: Counts,
}

impl SharedCircuit {
    pub(super) fn new(model: Arc<ModelId>, config: Config, changed: watch::Sender<()>) -> Self {
        let slow_call = config.slow_call;
        let circuit = Circuit::new(config, Instant::now());
        let (glance, announced) = (AtomicU64::new(glance(&circuit)), AtomicU64::new(circuit.era().0));
        Self { model, slow_call, circuit: Mutex::new(circuit), glance, announced, changed }
    }

    /// Whose circuit it is.
    pub fn model(&self) -> &Arc<ModelId> {
        &self.model
    }

    /// Leave for one frame, or the failure it gets.
    pub fn admit(self: &Arc<Self>) -> Result<Pass, Failure> {
        let glance = self.glance.load(Ordering::Acquire);
        let admitted = if is_quiet(glance) {
            Era(glance >> 1)
        } else {
            self.with(|circuit, now| circuit.admit(now).map_err(|state| self.refusal(state, circuit.reason(), now)))?
        };
        Ok(Pass { circuit: Arc::clone(self), admitted: Some(admitted) })
    }

    /// Where it stands, and since which change.
    pub fn state(&self) -> (State, Era) {
        self.with(|circuit, now| (circuit.state(now), circuit.era()))
    }

    /// Why it is not closed.
    pub fn reason(&self) -> Option<Reason> {
        self.with(|circuit, _| circuit.reason())
    }

    /// Whether the world has not been told of this era; from now on it has.
    pub(super) fn is_news(&self, era: Era) -> bool {
        self.announced.swap(era.0, Ordering::AcqRel) != era.0
    }

    /// Does what somebody says.
    pub fn force(&self, how: Force) {
        self.with(|circuit, now| circuit.force(how, now));
    }

    /// A reading.
    pub fn stats(&self) -> CircuitStats {
        self.with(|circuit, now| {
            let state = circuit.state(now);
            CircuitStats {
                model: self.model.name.clone(),
                version: self.model.version.clone(),
                state: state.name(),
                reason: circuit.reason().map(|reason| reason.to_string()),
                retry_after_ms: retry_after(state, now).map(|wait| wait.as_millis() as u64),
                failures_in_a_row: circuit.failures_in_a_row(),
                window: circuit.tally(now),
                counts: circuit.counts(),
            }
        })
    }

    /// Works on the state machine and wakes whoever watches where its state changed.
    fn with<R>(&self, work: impl FnOnce(&mut Circuit, Instant) -> R) -> R {
        let now = Instant::now();
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = circuit.era();
        let result = work(&mut circuit, now);
        let has_changed = circuit.era() != before;
        self.glance.store(glance(&circuit), Ordering::Release);
        drop(circuit);
        if has_changed {
            self.changed.send_replace(());
        }
        result
    }

    fn refusal(&self, state: State, reason: Option<Reason>, now: Instant) -> Failure {
        let model = &self.model;
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let message = match state {
            State::HalfOpen => format!("the circuit of {model} is half-open, and its probes are under way"),
            State::Closed | State::Open { .. } => format!("the circuit of {model} is open{reason}"),
        };
        Failure { code: FailureCode::ModelUnavailable, message, retry_after: retry_after(state, now) }
    }
}

fn glance(circuit: &Circuit) -> u64 {
    circuit.era().0 << 1 | u64::from(circuit.is_quiet())
}

fn is_quiet(glance: u64) -> bool {
    glance & 1 == 1
}

fn retry_after(state: State, now: Instant) -> Option<Duration> {
    match state {
        State::Open { until } => until.map(|until| until.saturating_duration_since(now)),
        State::Closed | State::HalfOpen => None,
    }
}

/// A frame's leave to be run. Dropped without a word, it gives a probe's place back.
#[derive(Debug)]
pub struct Pass {
    circuit: Arc<SharedCircuit>,
    admitted: Option<Era>,
}

impl Pass {
    /// The frame got its prediction, after a run of this length. The first word of a frame counts.
    pub fn succeeded(&mut self, run: Duration) {
        self.end(Call::Succeeded { slow: run >= self.circuit.slow_call });
    }

    /// The frame's deadline had passed when its run of this length ended.
    pub fn overran(&mut self, run: Duration) {
        self.end(if run >= self.circuit.slow_call { Call::Overran } else { Call::Abandoned });
    }

    /// The model failed on the frame.
    pub fn failed(&mut self) {
        self.end(Call::Failed);
    }

    /// The frame ended without a word about the model.
    pub fn abandoned(&mut self) {
        self.end(Call::Abandoned);
    }

    /// Whether it still holds: what waited while the circuit opened is not to be begun any more.
    ///
    /// # Errors
    /// The failure the frame gets.
    pub fn check(&self) -> Result<(), Failure> {
        if self.admitted.is_none_or(|admitted| self.circuit.glance.load(Ordering::Acquire) >> 1 == admitted.0) {
            return Ok(());
        }
        self.circuit.with(|circuit, now| match circuit.state(now) {
            State::Closed => Ok(()),
            state => Err(self.circuit.refusal(state, circuit.reason(), now)),
        })
    }

    fn end(&mut self, call: Call) {
        let Some(admitted) = self.admitted.take() else { return };
        let glance = self.circuit.glance.load(Ordering::Acquire);
        let tells_nothing = matches!(call, Call::Succeeded { slow: false } | Call::Abandoned);
        if tells_nothing && (is_quiet(glance) || glance >> 1 != admitted.0) {
            return;
        }
        let jitter = if call == Call::Abandoned { 0.0 } else { crate::supervision::jitter() * 2.0 - 1.0 };
        self.circuit.with(|circuit, now| circuit.ended(admitted, call, now, jitter));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.abandoned();
    }
}
