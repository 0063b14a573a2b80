use std::time::Duration;

/// Upper limit of [`Config::open_for`]; a longer one is clamped to it.
pub const LONGEST_OPEN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// When a circuit opens and closes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// Share of failed calls that opens it; 0: off.
    pub failure_share: f64,
    /// Share of slow calls that opens it; 0: off.
    pub slow_share: f64,
    /// Run time from which on a call is slow.
    pub slow_call: Duration,
    /// Length of the window of the shares, which moves in steps of a tenth.
    pub window: Duration,
    /// Minimum number of calls in the window to evaluate a share.
    pub min_calls: u32,
    /// Time it stays open, give or take 20 %; doubled each time a probe fails, up to eightfold.
    pub open_for: Duration,
    /// Probes that must succeed to close it; also the number let through at once.
    pub success_threshold: u32,
}

impl Config {
    /// Whether a share is configured, so that every call has to be counted.
    pub(super) fn watches_shares(&self) -> bool {
        self.failure_share > 0.0 || self.slow_share > 0.0
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            failure_threshold: 3,
            failure_share: 0.0,
            slow_share: 0.0,
            slow_call: Duration::from_millis(250),
            window: Duration::from_secs(30),
            min_calls: 20,
            open_for: Duration::from_secs(60),
            success_threshold: 2,
        }
    }
}
