//! The keys of `kind = "correlation"`.

use serde::{Deserialize, Serialize};

/// How the samples of two receivers are correlated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorrelationConfig {
    /// The band that is looked at, Hz from the centre: lowest and highest.
    pub band_hz: [f64; 2],
    /// The largest lag, seconds.
    pub max_lag_s: f64,
    /// Lags from `-max_lag_s` to `max_lag_s`; odd.
    pub lags: usize,
    /// Windows that the common time is divided into.
    pub windows: usize,
    /// Weighting of the bins.
    pub weighting: Weighting,
}

/// Weighting of the bins of a cross-spectrum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// As they are.
    #[default]
    None,
    /// All alike: only the phases count.
    Phat,
}

/// No more lags than this.
const MAX_LAGS: usize = 1 << 16;

/// No more windows than this.
const MAX_WINDOWS: usize = 1 << 12;

impl Default for CorrelationConfig {
    fn default() -> Self {
        Self { band_hz: [-1.0, 1.0], max_lag_s: 1.0, lags: 3, windows: 1, weighting: Weighting::None }
    }
}

impl CorrelationConfig {
    /// Seconds from one lag to the next.
    pub fn lag_step(&self) -> f64 {
        2.0 * self.max_lag_s / (self.lags - 1) as f64
    }

    /// Checks its values.
    ///
    /// # Errors
    /// In words, with the value and the limit.
    pub fn validate(&self) -> Result<(), String> {
        let Self { band_hz: [low, high], max_lag_s, lags, windows, .. } = *self;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(format!("band_hz is [{low}, {high}], must be two rising frequencies"));
        }
        if !(max_lag_s > 0.0 && max_lag_s <= 1.0) {
            return Err(format!("max_lag_s is {max_lag_s}, must be above 0 and at most 1"));
        }
        if !(3..=MAX_LAGS).contains(&lags) || lags.is_multiple_of(2) {
            return Err(format!("lags is {lags}, must be odd, 3 to {MAX_LAGS}"));
        }
        if !(1..=MAX_WINDOWS).contains(&windows) {
            return Err(format!("windows is {windows}, must be 1 to {MAX_WINDOWS}"));
        }
        Ok(())
    }

    /// The first bin of the band in a transform of this size, negative below the centre, and how many bins it
    /// has.
    pub(super) fn bins(&self, size: usize, rate_hz: f64) -> (i64, usize) {
        let half = size as i64 / 2;
        let bin = |hz: f64| hz * size as f64 / rate_hz;
        let first = (bin(self.band_hz[0]).ceil() as i64).clamp(-half, half - 1);
        let last = (bin(self.band_hz[1]).floor() as i64).clamp(-half, half - 1);
        (first, usize::try_from(last - first + 1).unwrap_or_default())
    }
}
