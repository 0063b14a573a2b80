//! The highest rate that meets its levels.

use serde::{Deserialize, Serialize};

use crate::error::{OutOfRange, checked_rate};

/// The search ends when the lowest rate that missed is within this factor of the highest that met.
const RESOLUTION: f64 = 1.05;

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
    /// Whether the run was not valid because the generator could not send at this rate.
    #[serde(default)]
    pub generator_limited: bool,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The highest rate that met its levels, in requests a second; `None` where none did.
    pub rate: Option<f64>,
    /// Whether the search ended at its highest rate, so that the knee may be above it.
    pub at_limit: bool,
    /// Whether the generator could not send at the next higher rate that was tried, so that the daemon's knee
    /// may be above it.
    #[serde(default)]
    pub generator_limited: bool,
    /// Every rate that was tried, ascending.
    pub curve: Vec<Step>,
}

/// A search for the knee: the rate is doubled until it misses its levels, then bisected (by the geometric
/// mean) until the knee is known to 5 %.
///
/// A first rate that misses is halved, down to the lowest rate, before it is bisected. A rate that the
/// generator could not send is tried a second time, and then counts as one that misses.
#[derive(Debug, Clone)]
pub struct KneeSearch {
    start: f64,
    min: f64,
    max: f64,
    steps: Vec<Step>,
}

impl KneeSearch {
    /// Creates a search from `start` down to `min` and up to `max`, all in requests a second. Nothing below a
    /// start that is below the minimum is tried.
    ///
    /// # Errors
    /// A rate that is not finite or not above 0, or a start above the maximum.
    pub fn new(start: f64, min: f64, max: f64) -> Result<Self, OutOfRange> {
        let (start, max) = (checked_rate("first rate", start)?, checked_rate("highest rate", max)?);
        let min = checked_rate("lowest rate", min)?;
        if start > max {
            return Err(OutOfRange { name: "first rate", value: start, limit: "at most the highest rate" });
        }
        Ok(Self { start, min, max, steps: Vec::new() })
    }

    /// Returns the rate to try next, in requests a second; `None` when the search is over.
    pub fn next_rate(&self) -> Option<f64> {
        if let Some(last) = self.steps.last().filter(|step| step.generator_limited)
            && self.steps.iter().filter(|step| step.rate == last.rate).count() == 1
        {
            return Some(last.rate);
        }
        match self.bounds() {
            (None, None) => Some(self.start),
            (Some(met), None) => (met < self.max).then(|| (met * 2.0).min(self.max)),
            (None, Some(missed)) => (missed > self.min).then(|| (missed / 2.0).max(self.min)),
            (Some(met), Some(missed)) => (missed > met * RESOLUTION).then(|| (met * missed).sqrt()),
        }
    }

    /// Records what the rate that was asked for gave.
    pub fn record(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Returns what was found so far.
    pub fn knee(&self) -> Knee {
        let mut curve: Vec<_> = self.last_of_each_rate().copied().collect();
        curve.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let (rate, missed) = self.bounds();
        let is_bound = |step: &&Step| missed == Some(step.rate);
        Knee {
            rate,
            at_limit: rate.is_some_and(|rate| rate >= self.max),
            generator_limited: curve.iter().find(is_bound).is_some_and(|step| step.generator_limited),
            curve,
        }
    }

    /// What counts of the rates that were tried: the last time of each.
    fn last_of_each_rate(&self) -> impl Iterator<Item = &Step> {
        let steps = self.steps.iter().enumerate();
        steps
            .filter(|(n, step)| !self.steps[n + 1..].iter().any(|later| later.rate == step.rate))
            .map(|(_, step)| step)
    }

    /// The highest rate that met and the lowest that missed. A rate that met above one that missed was luck:
    /// only rates below every miss count.
    fn bounds(&self) -> (Option<f64>, Option<f64>) {
        let rates = |met| self.last_of_each_rate().filter(move |step| step.met == met).map(|step| step.rate);
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
        let mut search = KneeSearch::new(start, 1.0, max).unwrap();
        while let Some(rate) = search.next_rate() {
            let mean_ms = (rate < capacity).then(|| 1e3 / (capacity - rate));
            let [p50_ms, p99_ms] = [0.5_f64, 0.01].map(|rest| mean_ms.map(|mean| -rest.ln() * mean));
            let met = p99_ms.is_some_and(|p99| p99 <= 50.0);
            search.record(Step { rate, p50_ms, p99_ms, met, generator_limited: false });
        }
        search.knee()
    }

    /// Searches a server that meets every rate with a generator that can send up to 300 a second.
    fn limited(start: f64) -> Knee {
        let mut search = KneeSearch::new(start, 1.0, 1e6).unwrap();
        while let Some(rate) = search.next_rate() {
            let late = rate > 300.0;
            search.record(Step { rate, p50_ms: None, p99_ms: None, met: !late, generator_limited: late });
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
        assert_eq!((none.rate, none.curve.len(), none.curve[0].rate), (None, 11, 1.0));
        assert!(KneeSearch::new(10.0, 1.0, 5.0).is_err() && KneeSearch::new(0.0, 1.0, 5.0).is_err());
    }

    #[test]
    fn a_rate_that_met_above_one_that_missed_does_not_count() {
        let mut search = KneeSearch::new(100.0, 1.0, 1e4).unwrap();
        for (rate, met) in [(100.0, true), (200.0, false), (400.0, true)] {
            search.record(Step { rate, p50_ms: None, p99_ms: None, met, generator_limited: false });
        }
        assert_eq!(search.knee().rate, Some(100.0));
    }

    #[test]
    fn where_the_generator_ends_first_the_knee_is_at_least_what_it_sent() {
        for start in [10.0, 200.0, 1000.0] {
            let found = limited(start);
            let rate = found.rate.unwrap();
            assert!(found.generator_limited && rate <= 300.0 && rate * 1.05 >= 300.0, "{found:?}");
            assert!(found.curve.is_sorted_by(|a, b| a.rate < b.rate), "each rate once: {found:?}");
        }
        let mut none = KneeSearch::new(400.0, 400.0, 1e6).unwrap();
        while let Some(rate) = none.next_rate() {
            none.record(Step { rate, p50_ms: None, p99_ms: None, met: false, generator_limited: true });
        }
        let none = none.knee();
        assert!(none.rate.is_none() && none.generator_limited && none.curve.len() == 1, "{none:?}");
    }

    #[test]
    fn a_rate_that_was_sent_late_once_is_tried_again() {
        let mut search = KneeSearch::new(100.0, 1.0, 1e4).unwrap();
        let step =
            |rate, met, generator_limited| Step { rate, p50_ms: None, p99_ms: None, met, generator_limited };
        search.record(step(100.0, false, true));
        assert_eq!(search.next_rate(), Some(100.0));
        search.record(step(100.0, true, false));
        assert_eq!(search.next_rate(), Some(200.0));
        search.record(step(200.0, false, false));
        let knee = search.knee();
        assert_eq!((knee.rate, knee.generator_limited, knee.curve.len()), (Some(100.0), false, 2));
    }
}
