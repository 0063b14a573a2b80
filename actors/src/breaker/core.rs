//! The circuit's state machine: plain, synchronous, told the time.

use std::time::Duration;

use tokio::time::Instant;

use super::Config;

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Frames pass.
    Closed,
    /// Frames are refused until then.
    Open {
        /// When probes are let through.
        until: Instant,
    },
    /// A few frames pass, to see whether the model is well again.
    HalfOpen,
}

/// One model version's circuit.
#[derive(Debug)]
pub struct Circuit {
    config: Config,
    state: State,
    failures_in_a_row: u32,
    successes_in_a_row: u32,
    probes_out: u32,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(config: Config) -> Self {
        Self { config, state: State::Closed, failures_in_a_row: 0, successes_in_a_row: 0, probes_out: 0 }
    }

    /// Where it stands; an open circuit whose time is up is half-open from then on.
    pub fn state(&mut self, now: Instant) -> State {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen;
            self.successes_in_a_row = 0;
            self.probes_out = 0;
        }
        self.state
    }

    /// Whether a frame may pass; if not, after how long it may try again where that is known.
    pub fn admit(&mut self, now: Instant) -> Result<Admitted, Option<Duration>> {
        match self.state(now) {
            State::Closed => Ok(Admitted::Freely),
            State::Open { until } => Err(Some(until - now)),
            State::HalfOpen if self.probes_out < self.config.success_threshold => {
                self.probes_out += 1;
                Ok(Admitted::AsProbe)
            }
            State::HalfOpen => Err(None),
        }
    }

    /// A frame got its prediction.
    pub fn succeeded(&mut self, admitted: Admitted, now: Instant) {
        match self.state(now) {
            State::Closed => self.failures_in_a_row = 0,
            State::HalfOpen if admitted == Admitted::AsProbe => {
                self.probes_out = self.probes_out.saturating_sub(1);
                self.successes_in_a_row += 1;
                if self.successes_in_a_row >= self.config.success_threshold {
                    *self = Self::new(self.config.clone());
                }
            }
            // Begun before the circuit opened: says nothing of now.
            State::HalfOpen | State::Open { .. } => {}
        }
    }

    /// The model failed on a frame. `jitter` in [-1, 1] spreads the reopening of many daemons.
    pub fn failed(&mut self, admitted: Admitted, now: Instant, jitter: f64) {
        match self.state(now) {
            State::Closed => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row >= self.config.failure_threshold {
                    self.open(now, jitter);
                }
            }
            State::HalfOpen if admitted == Admitted::AsProbe => self.open(now, jitter),
            State::HalfOpen | State::Open { .. } => {}
        }
    }

    /// A frame that passed ended without a word about the model.
    pub fn abandoned(&mut self, admitted: Admitted, now: Instant) {
        if admitted == Admitted::AsProbe && self.state(now) == State::HalfOpen {
            self.probes_out = self.probes_out.saturating_sub(1);
        }
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        let open_for = self.config.open_for.mul_f64(1.0 + 0.2 * jitter.clamp(-1.0, 1.0));
        self.state = State::Open { until: now + open_for };
        self.failures_in_a_row = 0;
    }
}

/// On what terms a frame passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The circuit was closed.
    Freely,
    /// The circuit was half-open.
    AsProbe,
}
