//! Whether a canary is worse than the version that is active, judged after every frame.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{Bets, Coin};
use crate::latencies::Latencies;

/// Frames of the active version before anything counts as slow.
const BEFORE_SLOW: u64 = 200;

/// Sessions that are remembered; beyond, further ones say nothing.
const MAX_SESSIONS: usize = 1 << 20;

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The version that was active before.
    Active,
    /// The new one.
    Canary,
}

/// How much worse a canary may be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// How many times as many failures it may have.
    pub failures: f64,
    /// How many times as often as the active version's its latency may be so many times that one's 99th
    /// percentile.
    pub latency: f64,
    /// How many times less probable it may find the truth.
    pub score: f64,
    /// The probability that one is called worse that is not, however often it is looked at.
    pub false_alarms: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { failures: 2.0, latency: 2.0, score: 1.05, false_alarms: 0.05 }
    }
}

/// What it is worse in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// It fails more often.
    Failures,
    /// It is slow more often.
    Latency,
    /// It finds the truth less probable.
    Score,
}

/// Evidence that the canary is worse: 1 says nothing, `needed` calls it worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evidence {
    /// In failures.
    pub failures: f64,
    /// In latency.
    pub latency: f64,
    /// In its score.
    pub score: f64,
    /// What calls it worse.
    pub needed: f64,
}

/// A canary beside the active version.
///
/// A session counts once for each question, whatever it sends: with all of its frames at one version they are
/// not independent, and one bad session would condemn the version that it happens to have.
#[derive(Debug, Clone)]
pub struct Trial {
    limits: Limits,
    failures: Coin,
    slow: Coin,
    scores: Bets,
    latencies: Latencies,
    /// The latest score without a partner yet.
    waiting: Option<(Arm, f64)>,
    failed: HashSet<u64>,
    were_slow: HashSet<u64>,
    scored: HashSet<u64>,
}

impl Trial {
    /// One that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            failures: Coin::default(),
            slow: Coin::default(),
            scores: Bets::default(),
            latencies: Latencies::default(),
            waiting: None,
            failed: HashSet::new(),
            were_slow: HashSet::new(),
            scored: HashSet::new(),
        }
    }

    /// A frame of either has ended: of which session, source or frame by its hash, and after which time, or
    /// with a failure. `share` is the canary's part of the traffic of both, 0 to 1.
    pub fn frame(&mut self, arm: Arm, key: u64, share: f64, latency: Option<Duration>) -> Option<Worse> {
        let is_canary = arm == Arm::Canary;
        let Some(latency) = latency else {
            if is_new(&mut self.failed, key) {
                self.failures.toss(is_canary, share, self.limits.failures);
            }
            return self.worse();
        };
        // By frames before this one, so that it does not set its own bar.
        if self.latencies.count() >= BEFORE_SLOW
            && let Some(p99) = self.latencies.quantile(0.99)
            && latency > p99.mul_f64(self.limits.latency)
            && is_new(&mut self.were_slow, key)
        {
            // A version with few frames shares no runs with the many of the other, and waits for its own.
            self.slow.toss(is_canary, share, self.limits.latency);
        }
        if !is_canary {
            self.latencies.add(latency);
        }
        self.worse()
    }

    /// The score of an answer whose truth is known. It is compared with the latest one of the other version:
    /// what grows harder for both grows harder for neither alone.
    pub fn scored(&mut self, arm: Arm, key: u64, score: f64) -> Option<Worse> {
        if !score.is_finite() || !is_new(&mut self.scored, key) {
            return None;
        }
        let other = match self.waiting.take() {
            Some((waiting, other)) if waiting != arm => other,
            _ => {
                self.waiting = Some((arm, score));
                return None;
            }
        };
        let (canary, active) = if arm == Arm::Canary { (score, other) } else { (other, score) };
        self.compare(canary, active);
        self.worse()
    }

    /// Antisymmetric, so that it has the mean 0 where both are alike, whatever their distribution; it is the
    /// difference of the probabilities over their sum.
    fn compare(&mut self, canary: f64, active: f64) {
        self.scores.bet(((canary - active - self.limits.score.ln()) / 2.0).tanh());
    }

    /// What the canary is worse in, where there is enough evidence of anything.
    pub fn worse(&self) -> Option<Worse> {
        let Evidence { failures, latency, score, needed } = self.evidence();
        [(failures, Worse::Failures), (latency, Worse::Latency), (score, Worse::Score)]
            .into_iter()
            .find_map(|(evidence, worse)| (evidence >= needed).then_some(worse))
    }

    /// What there is.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            failures: self.failures.evidence(),
            latency: self.slow.evidence(),
            score: self.scores.evidence(),
            // Three questions share the probability of a false alarm.
            needed: 3.0 / self.limits.false_alarms,
        }
    }
}

fn is_new(keys: &mut HashSet<u64>, key: u64) -> bool {
    keys.len() < MAX_SESSIONS && keys.insert(key)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use rand_distr::{Distribution, Exp1, LogNormal};

    use super::*;

    /// A version: how often it fails, its median latency, and the factor on its errors, which its sigmas
    /// state or, where it is overconfident, do not.
    #[derive(Clone, Copy)]
    struct Version {
        failures: f64,
        median_ms: f64,
        error: f64,
        sigma: f64,
    }

    const GOOD: Version = Version { failures: 0.01, median_ms: 5.0, error: 1.0, sigma: 1.0 };

    /// The canary has a tenth of the frames; every frame has its truth. After how many frames it is worse.
    fn run(seed: u64, frames: u64, canary: Version) -> Option<(u64, Worse)> {
        let (mut rng, mut trial) = (SmallRng::seed_from_u64(seed), Trial::new(Limits::default()));
        (0..frames).find_map(|key| {
            let is_canary = rng.random_bool(0.1);
            let (arm, version) = if is_canary { (Arm::Canary, canary) } else { (Arm::Active, GOOD) };
            let latency = (!rng.random_bool(version.failures)).then(|| {
                let ms: f64 = LogNormal::new(version.median_ms.ln(), 0.5).unwrap().sample(&mut rng);
                Duration::from_secs_f64(ms / 1e3)
            });
            let ended = trial.frame(arm, key, 0.1, latency);
            // The squared error of a position is exponential; so is the score about its least value.
            let square: f64 = Exp1.sample(&mut rng);
            let score = square * (version.error / version.sigma).powi(2) + 2.0 * version.sigma.ln();
            let scored = latency.and_then(|_| trial.scored(arm, key, score));
            ended.or(scored).map(|worse| (key + 1, worse))
        })
    }

    #[test]
    fn of_a_thousand_equal_canaries_at_most_fifty_are_called_worse() {
        let called = (0..1000).filter(|&seed| run(seed, 5000, GOOD).is_some()).count();
        assert!(called <= 50, "{called} of 1000");
    }

    /// The median number of frames until it is found, of a hundred runs, and what it was found by.
    fn found_after(canary: Version, by: Worse) -> u64 {
        let mut found: Vec<u64> = (0..100)
            .map(|seed| {
                let found = run(seed, 200_000, canary);
                let (frames, worse) = found.unwrap_or((u64::MAX, by));
                assert_eq!(worse, by);
                frames
            })
            .collect();
        found.sort_unstable();
        assert!(found[95] < u64::MAX, "95 of 100 are found");
        found[50]
    }

    #[test]
    fn a_canary_that_is_worse_is_found_by_what_it_is_worse_in() {
        let honest = Version { error: 1.2, sigma: 1.2, ..GOOD };
        let overconfident = Version { error: 1.2, ..GOOD };
        let huge = Version { sigma: 3.0, ..GOOD };
        for (canary, by, within) in [
            (Version { failures: 1.0, ..GOOD }, Worse::Failures, 100),
            (Version { failures: 0.1, ..GOOD }, Worse::Failures, 3000),
            (Version { median_ms: 20.0, ..GOOD }, Worse::Latency, 600),
            (honest, Worse::Score, 20_000),
            (overconfident, Worse::Score, 20_000),
            (huge, Worse::Score, 1000),
        ] {
            let found = found_after(canary, by);
            assert!(found <= within, "{by:?} is found after {found} frames");
            println!("{by:?} after {found}");
        }
    }

    #[test]
    fn what_grows_harder_for_both_condemns_neither() {
        let called = (0..200).filter(|&seed| {
            let (mut rng, mut trial) = (SmallRng::seed_from_u64(seed), Trial::new(Limits::default()));
            (0..40_000u32).any(|key| {
                let arm = if rng.random_bool(0.1) { Arm::Canary } else { Arm::Active };
                let square: f64 = Exp1.sample(&mut rng);
                trial.scored(arm, key.into(), square + f64::from(key) / 10_000.0).is_some()
            })
        });
        let called = called.count();
        assert!(called <= 10, "{called} of 200");
    }

    #[test]
    fn a_session_counts_once() {
        let mut trial = Trial::new(Limits::default());
        for _ in 0..1000 {
            assert_eq!(trial.frame(Arm::Canary, 7, 0.1, None), None);
        }
        let worse = (0..10).find_map(|key| trial.frame(Arm::Canary, key, 0.1, None));
        assert_eq!(worse, Some(Worse::Failures));
    }
}
