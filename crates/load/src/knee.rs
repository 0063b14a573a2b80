//! The highest rate that meets its levels.

use serde::{Deserialize, Serialize};

use crate::error::{OutOfRange, checked_rate};

/// The search ends when the lowest rate that missed is within this factor of the highest that met.
const RESOLUTION: f64 = 1.05;

/// How often the first rate is halved before the search gives up.
const HALVINGS: i32 = 10;

/// One rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests a second, as they were due.
    pub rate: f64,
    /// The median of latency in milliseconds; `None` where nothing was answered.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of latency in milliseconds; `None` where nothing was answered.
    pub p99_ms: Option<f64>,
    /// Whether every level was met, in a valid run.
    pub met: bool,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The highest rate that met its levels, in requests a second; `None` where none did.
    pub rate: Option<f64>,
    /// Whether the search ended at its highest rate, so that the knee may be above it.
    pub at_limit: bool,
    /// Every rate that was tried, ascending.
    pub curve: Vec<Step>,
}

/// A search for the knee: the rate is doubled until it misses its levels, then bisected (by the geometric
/// mean) until the knee is known to 5 %.
///
/// A first rate that misses is halved, up to ten times, before it is bisected.
#[derive(Debug, Clone)]
pub struct KneeSearch {
    start: f64,
    max: f64,
    steps: Vec<Step>,
}

impl KneeSearch {
    /// Creates a search from `start` up to `max`, both in requests a second.
    ///
    /// # Errors
    /// A rate that is not finite or not above 0, or a start above the maximum.
    pub fn new(start: f64, max: f64) -> Result<Self, OutOfRange> {
        let (start, max) = (checked_rate("first rate", start)?, checked_rate("highest rate", max)?);
        if start > max {
            return Err(OutOfRange { name: "first rate", value: start, limit: "at most the highest rate" });
        }
        Ok(Self { start, max, steps: Vec::new() })
    }

    /// Returns the rate to try next, in requests a second; `None` when the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        match self.bounds() {
            (None, None) => Some(self.start),
            (Some(met), None) => (met < self.max).then(|| (met * 2.0).min(self.max)),
            (None, Some(missed)) => (missed > self.start * 0.5_f64.powi(HALVINGS)).then_some(missed / 2.0),
            (Some(met), Some(missed)) => (missed > met * RESOLUTION).then(|| (met * missed).sqrt()),
        }
    }

    /// Records what the rate that was asked for gave.
    pub fn record(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Returns what was found so far.
    pub fn knee(&self) -> Knee {
        let mut curve = self.steps.clone();
        curve.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let (rate, _) = self.bounds();
        Knee { rate, at_limit: rate.is_some_and(|rate| rate >= self.max), curve }
    }

    /// The highest rate that met and the lowest that missed. A rate that met above one that missed was luck:
    /// only rates below every miss count.
    fn bounds(&self) -> (Option<f64>, Option<f64>) {
        let rates = |met| self.steps.iter().filter(move |step| step.met == met).map(|step| step.rate);
        let missed = rates(false).reduce(f64::min);
        let met = rates(true).filter(|&rate| missed.is_none_or(|missed| rate < missed)).reduce(f64::max);
        (met, missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server of exponential service times: the mean of its sojourn is 1 / (capacity − rate), and
    /// the level is a 99th percentile of 50 ms.
    fn search(capacity: f64, start: f64, max: f64) -> Knee {
        let mut search = KneeSearch::new(start, max).unwrap();
        while let Some(rate) = search.next_rate() {
            let mean_ms = (rate < capacity).then(|| 1e3 / (capacity - rate));
            let [p50_ms, p99_ms] = [0.5_f64, 0.01].map(|rest| mean_ms.map(|mean| -rest.ln() * mean));
            search.record(Step { rate, p50_ms, p99_ms, met: p99_ms.is_some_and(|p99| p99 <= 50.0) });
        }
        search.knee()
    }

    #[test]
    fn the_knee_is_found_to_five_percent_from_below_and_from_above() {
        let knee = 1000.0 - 100_f64.ln() / 0.05;
        for start in [10.0, 300.0, 900.0, 1e4] {
            let found = search(1000.0, start, 1e6);
            let rate = found.rate.unwrap();
            assert!(rate <= knee && rate * 1.05 >= knee, "{rate} instead of {knee} from {start}");
            assert!(found.curve.is_sorted_by_key(|step| step.rate) && found.curve.len() < 20);
            assert!(!found.at_limit);
        }
    }

    #[test]
    fn the_search_ends_at_the_highest_rate_and_where_no_rate_meets() {
        let limited = search(1000.0, 100.0, 500.0);
        assert_eq!((limited.rate, limited.at_limit), (Some(500.0), true));
        let none = search(10.0, 1000.0, 1e6);
        assert_eq!((none.rate, none.curve.len()), (None, 11));
        assert!(KneeSearch::new(10.0, 5.0).is_err() && KneeSearch::new(0.0, 5.0).is_err());
    }

    #[test]
    fn a_rate_that_met_above_one_that_missed_does_not_count() {
        let mut search = KneeSearch::new(100.0, 1e4).unwrap();
        for (rate, met) in [(100.0, true), (200.0, false), (400.0, true)] {
            search.record(Step { rate, p50_ms: None, p99_ms: None, met });
        }
        assert_eq!(search.knee().rate, Some(100.0));
    }
}
