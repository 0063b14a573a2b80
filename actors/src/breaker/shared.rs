//! A circuit shared by the data path: an atomic read for a healthy model, otherwise a lock held for
//! nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::Config;
use super::core::{Call, Circuit, CircuitCounts, CircuitState, Epoch, Force, Reason};
use super::window::Tally;
use crate::frame::ModelId;
use crate::jitter::jitter;
use crate::outcome::{Failure, FailureCode};

/// One model version's circuit.
#[derive(Debug)]
pub struct SharedCircuit {
    model: Arc<ModelId>,
    slow_call: Duration,
    guarded: Mutex<Guarded>,
    /// A [`Snapshot`]; written under the lock.
    snapshot: AtomicU64,
    /// The last epoch that was logged.
    announced: AtomicU64,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Guarded {
    circuit: Circuit,
    /// Message of refused frames, made once per epoch.
    refusal: (Epoch, String),
}

/// What is read of a circuit without its lock: the epoch, whether it is closed, and in the lowest bit whether
/// it is quiet.
#[derive(Debug, Clone, Copy)]
struct Snapshot(u64);

impl Snapshot {
    fn at(circuit: &Circuit) -> Self {
        Self(circuit.epoch().0 << 2 | u64::from(circuit.is_closed()) << 1 | u64::from(circuit.is_quiet()))
    }

    fn epoch(self) -> Epoch {
        Epoch(self.0 >> 2)
    }

    fn is_closed(self) -> bool {
        self.0 & 2 != 0
    }

    fn is_quiet(self) -> bool {
        self.0 & 1 != 0
    }
}

/// State, reason and counts of a circuit.
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
    /// Time until it becomes half-open, where that is known.
    pub retry_after_ms: Option<u64>,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// Calls in the window, where shares are watched.
    pub window: Option<Tally>,
    /// Counts since it was created or reset.
    #[serde(flatten)]
    pub counts: CircuitCounts,
}

impl SharedCircuit {
    pub(super) fn new(model: Arc<ModelId>, config: Config, changed: watch::Sender<()>) -> Self {
        let slow_call = config.slow_call;
        let circuit = Circuit::new(config, Instant::now());
        let (snapshot, announced) =
            (AtomicU64::new(Snapshot::at(&circuit).0), AtomicU64::new(circuit.epoch().0));
        let guarded = Mutex::new(Guarded { circuit, refusal: Default::default() });
        Self { model, slow_call, guarded, snapshot, announced, changed }
    }

    /// The model of this circuit.
    pub fn model(&self) -> &Arc<ModelId> {
        &self.model
    }

    /// Returns a permit for one frame, or the failure it gets.
    pub fn admit(self: &Arc<Self>) -> Result<CircuitPermit, Failure> {
        let snapshot = self.snapshot();
        let admitted = if snapshot.is_closed() {
            snapshot.epoch()
        } else {
            self.with(|guarded, now| {
                guarded.circuit.admit(now).map_err(|state| self.refuse(guarded, state, now))
            })?
        };
        Ok(CircuitPermit { circuit: Arc::clone(self), admitted: Some(admitted) })
    }

    /// The current state and epoch.
    pub fn state(&self) -> (CircuitState, Epoch) {
        self.with(|Guarded { circuit, .. }, now| (circuit.state(now), circuit.epoch()))
    }

    /// Why it is not closed.
    pub fn reason(&self) -> Option<Reason> {
        self.with(|guarded, _| guarded.circuit.reason())
    }

    /// Marks this epoch as logged; `false` where it was before.
    pub fn mark_announced(&self, epoch: Epoch) -> bool {
        self.announced.swap(epoch.0, Ordering::AcqRel) != epoch.0
    }

    /// Changes the state by hand.
    pub fn force(&self, how: Force) {
        self.with(|guarded, now| guarded.circuit.force(how, now));
    }

    /// Its statistics.
    pub fn stats(&self) -> CircuitStats {
        self.with(|Guarded { circuit, .. }, now| {
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

    /// Runs `work` on the state machine and notifies watchers if its state changed.
    fn with<R>(&self, work: impl FnOnce(&mut Guarded, Instant) -> R) -> R {
        let now = Instant::now();
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = guarded.circuit.epoch();
        let result = work(&mut guarded, now);
        let has_changed = guarded.circuit.epoch() != before;
        self.snapshot.store(Snapshot::at(&guarded.circuit).0, Ordering::Release);
        drop(guarded);
        if has_changed {
            self.changed.send_replace(());
        }
        result
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot(self.snapshot.load(Ordering::Acquire))
    }

    fn refuse(&self, guarded: &mut Guarded, state: CircuitState, now: Instant) -> Failure {
        let Guarded { circuit, refusal: (epoch, text) } = guarded;
        if *epoch != circuit.epoch() {
            *epoch = circuit.epoch();
            let reason = circuit.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            *text = match state {
                CircuitState::HalfOpen => {
                    format!("the circuit of {} is half-open, and its probes are running", self.model)
                }
                CircuitState::Closed | CircuitState::Open { .. } => {
                    format!("the circuit of {} is open{reason}", self.model)
                }
            };
        }
        Failure {
            retry_after: retry_after(state, now),
            ..Failure::new(FailureCode::ModelUnavailable, text.clone())
        }
    }
}

fn retry_after(state: CircuitState, now: Instant) -> Option<Duration> {
    match state {
        CircuitState::Open { until } => until.map(|until| until.saturating_duration_since(now)),
        CircuitState::Closed | CircuitState::HalfOpen => None,
    }
}

/// Permit of one frame to be run. The result is reported through it once; if it is dropped before, the place
/// of a probe is released.
#[derive(Debug)]
pub struct CircuitPermit {
    circuit: Arc<SharedCircuit>,
    admitted: Option<Epoch>,
}

impl CircuitPermit {
    /// Reports a prediction after a run of this length. Only the first report counts.
    pub fn succeeded(&mut self, run: Duration) {
        self.end(Call::Succeeded { slow: run >= self.circuit.slow_call });
    }

    /// Reports a run of this length that ended after the deadline of the frame.
    pub fn timed_out(&mut self, run: Duration) {
        self.end(if run >= self.circuit.slow_call { Call::TimedOut } else { Call::Abandoned });
    }

    /// Reports that the model failed on the frame.
    pub fn failed(&mut self) {
        self.end(Call::Failed);
    }

    /// Reports that the frame ended without telling anything about the model.
    pub fn abandoned(&mut self) {
        self.end(Call::Abandoned);
    }

    /// Checks that the circuit has not opened since: work that waited meanwhile is not begun.
    ///
    /// # Errors
    /// The failure the frame gets.
    pub fn check(&self) -> Result<(), Failure> {
        if self.admitted.is_none_or(|admitted| self.circuit.snapshot().epoch() == admitted) {
            return Ok(());
        }
        self.circuit.with(|guarded, now| match guarded.circuit.state(now) {
            CircuitState::Closed => Ok(()),
            state => Err(self.circuit.refuse(guarded, state, now)),
        })
    }

    fn end(&mut self, call: Call) {
        let Some(admitted) = self.admitted.take() else { return };
        let snapshot = self.circuit.snapshot();
        let is_ignored = match call {
            Call::Succeeded { slow: false } => snapshot.is_quiet() || snapshot.epoch() != admitted,
            Call::Abandoned => snapshot.is_closed() || snapshot.epoch() != admitted,
            Call::Succeeded { slow: true } | Call::Failed | Call::TimedOut => false,
        };
        if !is_ignored {
            let centred = || jitter() * 2.0 - 1.0;
            self.circuit.with(|guarded, now| guarded.circuit.ended(admitted, call, now, centred));
        }
    }
}

impl Drop for CircuitPermit {
    fn drop(&mut self) {
        self.abandoned();
    }
}
