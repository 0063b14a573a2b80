//! A circuit as the data path shares it: an atomic read for a model that is well, a lock held for nanoseconds otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Config;
use super::core::{Call, Circuit, CircuitCounts, Epoch, Force, Reason, State};
use super::window::Tally;
use crate::frame::ModelId;
use crate::outcome::{Failure, FailureCode};

/// One model version's circuit.
#[derive(Debug)]
pub struct SharedCircuit {
    model: Arc<ModelId>,
    slow_call: Duration,
    guarded: Mutex<Guarded>,
    /// A [`Snapshot`]; written under the lock.
    snapshot: AtomicU64,
    /// The last era that the world was told of.
    announced: AtomicU64,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Guarded {
    circuit: Circuit,
    /// What refused frames are told, and in which era: made once for them all.
    refusal: (Epoch, String),
}

/// What can be seen of a circuit without its lock: the era, whether it is closed, and in the lowest bit whether it is quiet.
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
    pub counts: CircuitCounts,
}

impl SharedCircuit {
    pub(super) fn new(model: Arc<ModelId>, config: Config, changed: watch::Sender<()>) -> Self {
        let slow_call = config.slow_call;
        let circuit = Circuit::new(config, Instant::now());
        let (snapshot, announced) = (AtomicU64::new(Snapshot::at(&circuit).0), AtomicU64::new(circuit.epoch().0));
        let guarded = Mutex::new(Guarded { circuit, refusal: Default::default() });
        Self { model, slow_call, guarded, snapshot, announced, changed }
    }

    /// Whose circuit it is.
    pub fn model(&self) -> &Arc<ModelId> {
        &self.model
    }

    /// Leave for one frame, or the failure it gets.
    pub fn admit(self: &Arc<Self>) -> Result<CircuitPermit, Failure> {
        let snapshot = self.snapshot();
        let admitted = if snapshot.is_closed() {
            snapshot.epoch()
        } else {
            self.with(|guarded, now| guarded.circuit.admit(now).map_err(|state| self.refuse(guarded, state, now)))?
        };
        Ok(CircuitPermit { circuit: Arc::clone(self), admitted: Some(admitted) })
    }

    /// Where it stands, and since which change.
    pub fn state(&self) -> (State, Epoch) {
        self.with(|Guarded { circuit, .. }, now| (circuit.state(now), circuit.epoch()))
    }

    /// Why it is not closed.
    pub fn reason(&self) -> Option<Reason> {
        self.with(|guarded, _| guarded.circuit.reason())
    }

    /// Whether the world has not been told of this era; from now on it has.
    pub(super) fn mark_announced(&self, epoch: Epoch) -> bool {
        self.announced.swap(epoch.0, Ordering::AcqRel) != epoch.0
    }

    /// Does what somebody says.
    pub fn force(&self, how: Force) {
        self.with(|guarded, now| guarded.circuit.force(how, now));
    }

    /// A reading.
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

    /// Works on the state machine and wakes whoever watches where its state changed.
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

    fn refuse(&self, guarded: &mut Guarded, state: State, now: Instant) -> Failure {
        let Guarded { circuit, refusal: (epoch, text) } = guarded;
        if *epoch != circuit.epoch() {
            *epoch = circuit.epoch();
            let reason = circuit.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            *text = match state {
                State::HalfOpen => format!("the circuit of {} is half-open, and its probes are under way", self.model),
                State::Closed | State::Open { .. } => format!("the circuit of {} is open{reason}", self.model),
            };
        }
        Failure { retry_after: retry_after(state, now), ..Failure::new(FailureCode::ModelUnavailable, text.clone()) }
    }
}

fn retry_after(state: State, now: Instant) -> Option<Duration> {
    match state {
        State::Open { until } => until.map(|until| until.saturating_duration_since(now)),
        State::Closed | State::HalfOpen => None,
    }
}

/// A frame's leave to be run. Dropped without a word, it gives a probe's place back.
#[derive(Debug)]
pub struct CircuitPermit {
    circuit: Arc<SharedCircuit>,
    admitted: Option<Epoch>,
}

impl CircuitPermit {
    /// The frame got its prediction, after a run of this length. The first word of a frame counts.
    pub fn succeeded(&mut self, run: Duration) {
        self.end(Call::Succeeded { slow: run >= self.circuit.slow_call });
    }

    /// The frame's deadline had passed when its run of this length ended.
    pub fn timed_out(&mut self, run: Duration) {
        self.end(if run >= self.circuit.slow_call { Call::TimedOut } else { Call::Abandoned });
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
        if self.admitted.is_none_or(|admitted| self.circuit.snapshot().epoch() == admitted) {
            return Ok(());
        }
        self.circuit.with(|guarded, now| match guarded.circuit.state(now) {
            State::Closed => Ok(()),
            state => Err(self.circuit.refuse(guarded, state, now)),
        })
    }

    fn end(&mut self, call: Call) {
        let Some(admitted) = self.admitted.take() else { return };
        let snapshot = self.circuit.snapshot();
        let tells_nothing = match call {
            Call::Succeeded { slow: false } => snapshot.is_quiet() || snapshot.epoch() != admitted,
            Call::Abandoned => snapshot.is_closed() || snapshot.epoch() != admitted,
            Call::Succeeded { slow: true } | Call::Failed | Call::TimedOut => false,
        };
        if !tells_nothing {
            let jitter = || crate::supervision::jitter() * 2.0 - 1.0;
            self.circuit.with(|guarded, now| guarded.circuit.ended(admitted, call, now, jitter));
        }
    }
}

impl Drop for CircuitPermit {
    fn drop(&mut self) {
        self.abandoned();
    }
}
