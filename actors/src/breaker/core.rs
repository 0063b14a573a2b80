//! The state machine of a circuit: plain and synchronous, the time is an argument.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::config::{Config, LONGEST_OPEN_FOR};
use super::window::{SlidingWindow, Tally};

/// Maximum number of times that repeated openings double `open_for`.
const MAX_DOUBLINGS: u32 = 3;
/// Maximum random change of `open_for`, as a share of it.
const JITTER: f64 = 0.2;

/// State of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Frames are let through.
    Closed,
    /// Frames are refused.
    Open {
        /// When it becomes half-open; `None` where it was opened by hand.
        until: Option<Instant>,
    },
    /// A few frames are let through as probes, to find out whether the model works again.
    HalfOpen,
}

impl CircuitState {
    /// Name in metrics and at the control endpoint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Why a circuit opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// This many calls failed in a row.
    FailuresInARow(u32),
    /// Too many calls in the window failed.
    FailureShare(Tally),
    /// Too many calls in the window were slow.
    SlowShare(Tally),
    /// The model failed on a probe.
    ProbeFailed,
    /// A probe was slow, and `slow_share` is configured.
    ProbeSlow,
    /// It was opened by hand.
    ByHand,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailuresInARow(count) => write!(f, "{count} failures in a row"),
            Self::FailureShare(Tally { failed, calls, .. }) => write!(f, "{failed} of {calls} calls failed"),
            Self::SlowShare(Tally { slow, calls, .. }) => write!(f, "{slow} of {calls} calls were slow"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbeSlow => f.write_str("a probe was slow"),
            Self::ByHand => f.write_str("opened by hand"),
        }
    }
}

/// Manual control of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// Refuse every frame until closed or reset by hand.
    Open,
    /// Close now, as if its probes had succeeded.
    Close,
    /// Close now and set the counts to zero.
    Reset,
}

/// Result of a call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It ended with a prediction.
    Succeeded {
        /// Its run took `slow_call` or longer.
        slow: bool,
    },
    /// The model failed on the frame.
    Failed,
    /// Its deadline passed during a slow run.
    TimedOut,
    /// It ended without telling anything about the model.
    Abandoned,
}

/// Number of the period between two state changes. Results of calls from an earlier epoch do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(pub(super) u64);

/// Counts since the circuit was created or reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CircuitCounts {
    /// Times it opened.
    pub openings: u64,
    /// Frames refused.
    pub refused: u64,
    /// Frames let through as probes.
    pub probes: u64,
    /// Frames on which the model failed.
    pub failures: u64,
    /// Frames whose run was slow, with a prediction or past their deadline.
    pub slow: u64,
}

/// One model version's circuit.
#[derive(Debug)]
pub struct Circuit {
    config: Config,
    state: CircuitState,
    epoch: Epoch,
    /// Why it is not closed.
    reason: Option<Reason>,
    /// Openings since it was last closed.
    openings_in_a_row: u32,
    failures_in_a_row: u32,
    window: SlidingWindow,
    probes_out: u32,
    probes_succeeded: u32,
    counts: CircuitCounts,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            window: SlidingWindow::new(config.window, now),
            config,
            state: CircuitState::Closed,
            epoch: Epoch(0),
            reason: None,
            openings_in_a_row: 0,
            failures_in_a_row: 0,
            probes_out: 0,
            probes_succeeded: 0,
            counts: CircuitCounts::default(),
        }
    }

    /// The current state; an open circuit whose time has passed becomes half-open.
    pub fn state(&mut self, now: Instant) -> CircuitState {
        if let CircuitState::Open { until: Some(until) } = self.state
            && now >= until
        {
            self.change(CircuitState::HalfOpen);
        }
        self.state
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why it is not closed.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Failures since the last success.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// The counts.
    pub fn counts(&self) -> CircuitCounts {
        self.counts
    }

    /// The calls in the window; `None` where no share is configured.
    pub fn tally(&mut self, now: Instant) -> Option<Tally> {
        self.config.watches_shares().then(|| self.window.tally(now))
    }

    /// Whether every frame is let through.
    pub fn is_closed(&self) -> bool {
        self.state == CircuitState::Closed
    }

    /// Whether it is closed and a success would change nothing.
    pub fn is_quiet(&self) -> bool {
        self.is_closed() && self.failures_in_a_row == 0 && !self.config.watches_shares()
    }

    /// Lets a frame through, or returns the state that forbids it.
    pub fn admit(&mut self, now: Instant) -> Result<Epoch, CircuitState> {
        match self.state(now) {
            CircuitState::Closed => return Ok(self.epoch),
            CircuitState::HalfOpen if self.probes_out < self.config.success_threshold => {
                self.probes_out += 1;
                self.counts.probes += 1;
                return Ok(self.epoch);
            }
            CircuitState::Open { .. } | CircuitState::HalfOpen => {}
        }
        self.counts.refused += 1;
        Err(self.state)
    }

    /// Reports the result of a frame let through in the epoch `admitted`. `jitter`, a number in [-1, 1],
    /// spreads the reopening of many daemons.
    pub fn ended(&mut self, admitted: Epoch, call: Call, now: Instant, jitter: impl FnOnce() -> f64) {
        match call {
            Call::Failed => self.counts.failures += 1,
            Call::Succeeded { slow } => self.counts.slow += u64::from(slow),
            Call::TimedOut => self.counts.slow += 1,
            Call::Abandoned => {}
        }
        let state = self.state(now);
        if admitted != self.epoch {
            return;
        }
        match (state, call) {
            (CircuitState::Closed, call) => self.called(call, now, jitter),
            (CircuitState::HalfOpen, Call::Succeeded { slow: true } | Call::TimedOut)
                if self.config.slow_share > 0.0 =>
            {
                self.open(Reason::ProbeSlow, now, jitter);
            }
            (CircuitState::HalfOpen, Call::Succeeded { .. }) => {
                self.probes_out -= 1;
                self.probes_succeeded += 1;
                if self.probes_succeeded >= self.config.success_threshold {
                    self.close();
                }
            }
            (CircuitState::HalfOpen, Call::Failed) => self.open(Reason::ProbeFailed, now, jitter),
            (CircuitState::HalfOpen, Call::TimedOut | Call::Abandoned) => self.probes_out -= 1,
            // Nothing is let through in an open epoch.
            (CircuitState::Open { .. }, _) => {}
        }
    }

    /// Changes the state by hand.
    pub fn force(&mut self, how: Force, now: Instant) {
        let state = self.state(now);
        match how {
            Force::Open => {
                self.counts.openings += u64::from(!matches!(state, CircuitState::Open { .. }));
                self.reason = Some(Reason::ByHand);
                self.change(CircuitState::Open { until: None });
            }
            Force::Close => self.close(),
            Force::Reset => {
                self.counts = CircuitCounts::default();
                self.close();
            }
        }
    }

    fn called(&mut self, call: Call, now: Instant, jitter: impl FnOnce() -> f64) {
        match call {
            Call::Failed => self.failures_in_a_row += 1,
            Call::Succeeded { .. } => self.failures_in_a_row = 0,
            Call::TimedOut => {}
            Call::Abandoned => return,
        }
        let slow = matches!(call, Call::Succeeded { slow: true } | Call::TimedOut);
        let tally = self.config.watches_shares().then(|| self.window.add(call == Call::Failed, slow, now));
        if let Some(reason) = self.verdict(tally) {
            self.open(reason, now, jitter);
        }
    }

    /// The reason to open now, if there is one.
    fn verdict(&self, tally: Option<Tally>) -> Option<Reason> {
        if self.failures_in_a_row >= self.config.failure_threshold {
            return Some(Reason::FailuresInARow(self.failures_in_a_row));
        }
        let tally = tally.filter(|tally| tally.calls >= self.config.min_calls.max(1))?;
        let reaches =
            |share: f64, count: u32| share > 0.0 && f64::from(count) / f64::from(tally.calls) >= share;
        if reaches(self.config.failure_share, tally.failed) {
            return Some(Reason::FailureShare(tally));
        }
        reaches(self.config.slow_share, tally.slow).then_some(Reason::SlowShare(tally))
    }

    fn open(&mut self, reason: Reason, now: Instant, jitter: impl FnOnce() -> f64) {
        let doublings = self.openings_in_a_row.min(MAX_DOUBLINGS);
        let open_for = self.config.open_for.min(LONGEST_OPEN_FOR) * (1 << doublings);
        self.openings_in_a_row += 1;
        self.counts.openings += 1;
        self.reason = Some(reason);
        self.change(CircuitState::Open {
            until: Some(now + open_for.mul_f64(1.0 + JITTER * jitter().clamp(-1.0, 1.0))),
        });
    }

    fn close(&mut self) {
        self.openings_in_a_row = 0;
        self.window.clear();
        self.reason = None;
        self.change(CircuitState::Closed);
    }

    fn change(&mut self, state: CircuitState) {
        self.state = state;
        self.epoch.0 += 1;
        self.failures_in_a_row = 0;
        self.probes_out = 0;
        self.probes_succeeded = 0;
    }
}
