//! What a run must reach.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Percentiles;

/// The service levels that a run is judged by; those left out are not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Levels {
    /// The most that the 95th percentile of latency may be.
    pub p95: Option<Duration>,
    /// The most that the 99th percentile of latency may be.
    pub p99: Option<Duration>,
    /// The least share of requests sent that are answered, 0 to 1.
    pub success: Option<f64>,
    /// The least share of answers that are cache hits, 0 to 1.
    pub hit_rate: Option<f64>,
}

/// Whether one level was met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `p95_ms`, `p99_ms`, `success` or `hit_rate`.
    pub name: String,
    /// The level: milliseconds at most, or a share (0 to 1) at least.
    pub target: f64,
    /// What was measured, in the same unit; `None` where nothing was.
    pub measured: Option<f64>,
    /// Whether the level was met; one without a measurement was not.
    pub met: bool,
}

impl Levels {
    /// Judges a run by its latency, its share of requests answered and its share of answers that are hits.
    pub fn judge(
        &self,
        latency: Option<&Percentiles>,
        success: Option<f64>,
        hit_rate: Option<f64>,
    ) -> Vec<Verdict> {
        let at_most = |name, target: Option<Duration>, measured| {
            let target = target?.as_secs_f64() * 1e3;
            Some(verdict(name, target, measured, |measured| measured <= target))
        };
        let at_least = |name, target: Option<f64>, measured| {
            let target = target?;
            Some(verdict(name, target, measured, |measured| measured >= target))
        };
        let verdicts = [
            at_most("p95_ms", self.p95, latency.map(|latency| latency.p95)),
            at_most("p99_ms", self.p99, latency.map(|latency| latency.p99)),
            at_least("success", self.success, success),
            at_least("hit_rate", self.hit_rate, hit_rate),
        ];
        verdicts.into_iter().flatten().collect()
    }
}

fn verdict(name: &str, target: f64, measured: Option<f64>, is_met: impl Fn(f64) -> bool) -> Verdict {
    Verdict { name: name.to_owned(), target, measured, met: measured.is_some_and(is_met) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Percentiles =
        Percentiles { p50: 1.0, p90: 2.0, p95: 500.0, p99: 751.0, p999: 900.0, max: 1000.0, mean: 3.0 };

    #[test]
    fn each_level_is_judged_where_it_is_given() {
        let levels = Levels {
            p95: Some(Duration::from_millis(500)),
            p99: Some(Duration::from_millis(750)),
            success: Some(0.99),
            hit_rate: None,
        };
        let verdicts = levels.judge(Some(&LATENCY), Some(0.99), Some(0.0));
        let met: Vec<_> = verdicts.iter().map(|verdict| (verdict.name.as_str(), verdict.met)).collect();
        assert_eq!(met, [("p95_ms", true), ("p99_ms", false), ("success", true)]);
        assert_eq!((verdicts[1].target, verdicts[1].measured), (750.0, Some(751.0)));
        assert!(Levels::default().judge(Some(&LATENCY), None, None).is_empty());
    }

    #[test]
    fn a_hit_rate_that_is_given_is_judged_and_nothing_measured_is_not_met() {
        let levels = Levels { hit_rate: Some(0.28), ..Levels::default() };
        let met = |measured| levels.judge(None, None, measured)[0].met;
        assert_eq!((met(Some(0.28)), met(Some(0.27)), met(None)), (true, false, false));
    }
}
