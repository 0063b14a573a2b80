//! Whether a canary is worse than the version that is active, judged after every frame.

use std::time::Duration;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::evidence::Bets;
use crate::latencies::Latencies;
use crate::strata::{Arm, Progress, Strata};

/// Frames of the active version before anything counts as slow.
const BEFORE_SLOW: u64 = 200;

/// Sessions that are remembered, the latest: one that comes again later counts as another.
const SESSIONS: usize = 1 << 17;

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
/// The frames of a session are not independent: all are at one version, and one bad session would condemn
/// the version that it happens to have. A session counts once for its score, and for failures and latency
/// once in each range of frame numbers that it completes: 1, 2 to 3, 4 to 7 and so on.
#[derive(Debug, Clone)]
pub struct Trial {
    limits: Limits,
    failures: Strata,
    slow: Strata,
    scores: Bets,
    latencies: Latencies,
    /// The latest score without a partner yet.
    waiting: Option<(Arm, f64)>,
    sessions: LruCache<u64, Session>,
}

/// What is remembered of a session.
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    failures: Progress,
    slow: Progress,
    is_scored: bool,
}

impl Trial {
    /// One that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            failures: Strata::default(),
            slow: Strata::default(),
            scores: Bets::default(),
            latencies: Latencies::default(),
            waiting: None,
            // Without the memory of all of them from the beginning.
            sessions: LruCache::unbounded(),
        }
    }

    /// A frame of either has ended: of which session, source or frame by its hash, and after which time, or
    /// with a failure. `share` is the canary's configured part of the traffic of both, 0 to 1. Answers from
    /// the cache are left out by the caller.
    pub fn frame(&mut self, arm: Arm, key: u64, share: f64, latency: Option<Duration>) -> Option<Worse> {
        // By frames before this one, so that it does not set its own bar.
        let slow = self.slow_from();
        let session = session(&mut self.sessions, key);
        let has_failed = latency.is_none();
        self.failures.frame(&mut session.failures, arm, has_failed, share, self.limits.failures);
        // Numbers only frames that can be slow: not failures, nor frames before the bar is known.
        if let (Some(latency), Some(slow)) = (latency, slow) {
            // A version with few frames shares no runs with the other's many, and waits for its own.
            self.slow.frame(&mut session.slow, arm, latency > slow, share, self.limits.latency);
        }
        if let (Some(latency), Arm::Active) = (latency, arm) {
            self.latencies.add(latency);
        }
        self.worse()
    }

    /// The latency above which a frame is slow; `None` before enough is known of the active version's.
    fn slow_from(&self) -> Option<Duration> {
        let p99 = self.latencies.quantile(0.99)?;
        (self.latencies.count() >= BEFORE_SLOW).then(|| p99.mul_f64(self.limits.latency))
    }

    /// The score of an answer whose truth is known. It is compared with the latest one of the other version:
    /// what grows harder for both grows harder for neither alone.
    pub fn scored(&mut self, arm: Arm, key: u64, score: f64) -> Option<Worse> {
        let session = session(&mut self.sessions, key);
        if !score.is_finite() || session.is_scored {
            return None;
        }
        session.is_scored = true;
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

/// The state of a session.
fn session(sessions: &mut LruCache<u64, Session>, key: u64) -> &mut Session {
    if sessions.len() >= SESSIONS && !sessions.contains(&key) {
        sessions.pop_lru();
    }
    sessions.get_or_insert_mut(key, Session::default)
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

    /// A trial of which a hundred sessions of the active version have sent 1000 good frames each.
    fn begun() -> Trial {
        let mut trial = Trial::new(Limits::default());
        for frame in 0..100_000 {
            trial.frame(Arm::Active, 1000 + frame % 100, 0.1, Some(Duration::from_millis(5)));
        }
        trial
    }

    #[test]
    fn a_session_counts_once() {
        let mut trial = begun();
        for _ in 0..1000 {
            assert_eq!(trial.frame(Arm::Canary, 7, 0.1, None), None);
        }
        let worse = (0..10).find_map(|key| trial.frame(Arm::Canary, key, 0.1, None));
        assert_eq!(worse, Some(Worse::Failures));
    }

    #[test]
    fn a_canary_that_loses_frames_is_not_slow_for_that() {
        let mut trial = begun();
        for key in 0..1000 {
            trial.frame(Arm::Canary, key, 0.1, None);
            trial.frame(Arm::Canary, key, 0.1, Some(Duration::from_millis(5)));
        }
        let Evidence { failures, latency, needed, .. } = trial.evidence();
        assert!(failures > needed && latency <= 1.0, "{failures} and {latency}");
    }

    #[test]
    fn the_latest_sessions_are_remembered() {
        let mut trial = begun();
        (0..SESSIONS as u64 + 10)
            .for_each(|key| assert_eq!(trial.scored(Arm::Active, 10_000 + key, 0.0), None));
        assert_eq!(trial.sessions.len(), SESSIONS);
        let worse = (0..20).find_map(|key| trial.frame(Arm::Canary, key, 0.1, None));
        assert_eq!(worse, Some(Worse::Failures), "new ones count");
    }
}
