use std::time::Duration;

/// The longest [`Config::open_for`]; a longer one is taken as this.
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
    /// From how long on a run is slow.
    pub slow_call: Duration,
    /// How far back the shares look, in steps of a tenth.
    pub window: Duration,
    /// Calls in the window without which no share is judged.
    pub min_calls: u32,
    /// How long it stays open, give or take 20 %; each time its probes fail, twice as long, up to eight times.
    pub open_for: Duration,
    /// Probes that must succeed to close it, and how many are let through at once.
    pub success_threshold: u32,
}

impl Config {
    /// Whether it looks at shares, and so has to count every call.
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
