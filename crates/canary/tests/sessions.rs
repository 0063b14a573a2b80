//! Trials on simulated sessions of many frames.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Distribution};
use sferic_canary::{Arm, Limits, Trial, Worse};

/// What is simulated. The first of each pair is the active version's, the second the canary's.
struct Traffic {
    sessions: u64,
    frames: u32,
    /// The canary's share before and after half of the sessions.
    shares: (f64, f64),
    /// Share of the frames that are computed; the others are answered from the cache.
    computed: (f64, f64),
    /// Share of these that fail.
    failures: (Rate, Rate),
    limits: Limits,
}

/// How often the frames of a session fail.
#[derive(Clone, Copy)]
enum Rate {
    /// In every session as often.
    Same(f64),
    /// In most sessions hardly ever, and in every tenth every second frame.
    Mixed,
}

const EQUAL: Traffic = Traffic {
    sessions: 120,
    frames: 300,
    shares: (0.1, 0.1),
    computed: (1.0, 1.0),
    failures: (Rate::Same(0.01), Rate::Same(0.01)),
    limits: Limits { failures: 2.0, latency: 2.0, score: 1.05, false_alarms: 0.05 },
};

/// Sessions that send frames at the same time.
const IN_FLIGHT: usize = 20;

struct Session {
    key: u64,
    arm: Arm,
    failures: f64,
    /// Frames that it has yet to send.
    left: u32,
}

impl Rate {
    fn of_session(self, rng: &mut SmallRng) -> f64 {
        match self {
            Self::Same(rate) => rate,
            Self::Mixed if rng.random_bool(0.1) => 0.5,
            Self::Mixed => Beta::new(0.2, 10.0).map_or(0.0, |beta| beta.sample(rng)),
        }
    }
}

impl Traffic {
    /// In which session the canary is called worse.
    fn run(&self, seed: u64) -> Option<u64> {
        let (mut rng, mut trial) = (SmallRng::seed_from_u64(seed), Trial::new(self.limits));
        let (mut in_flight, mut key) = (Vec::new(), 0);
        loop {
            let share = if key < self.sessions / 2 { self.shares.0 } else { self.shares.1 };
            while in_flight.len() < IN_FLIGHT && key < self.sessions {
                let is_canary = rng.random_bool(share);
                let (arm, rate) = match is_canary {
                    true => (Arm::Canary, self.failures.1),
                    false => (Arm::Active, self.failures.0),
                };
                in_flight.push(Session { key, arm, failures: rate.of_session(&mut rng), left: self.frames });
                key += 1;
            }
            if in_flight.is_empty() {
                return None;
            }
            let at = rng.random_range(0..in_flight.len());
            let session = &mut in_flight[at];
            session.left -= 1;
            let is_computed = match session.arm {
                Arm::Active => self.computed.0,
                Arm::Canary => self.computed.1,
            };
            if rng.random_bool(is_computed) {
                let latency = (!rng.random_bool(session.failures)).then_some(Duration::from_millis(5));
                if let Some(worse) = trial.frame(session.arm, session.key, share, latency) {
                    assert_eq!(worse, Worse::Failures);
                    return Some(session.key + 1);
                }
            }
            if session.left == 0 {
                in_flight.swap_remove(at);
            }
        }
    }

    fn called_worse(&self, runs: u64) -> usize {
        (0..runs).filter(|&seed| self.run(seed).is_some()).count()
    }
}

/// Without the margin of 2, which would hide false alarms of equal versions.
const STRICT: Limits = Limits { failures: 1.0, ..EQUAL.limits };

#[test]
fn sessions_that_fail_differently_condemn_neither() {
    let traffic = Traffic { failures: (Rate::Mixed, Rate::Mixed), limits: STRICT, ..EQUAL };
    let called = traffic.called_worse(400);
    assert!(called <= 20, "{called} of 400");
}

#[test]
fn a_canary_that_loses_ten_times_the_frames_is_found() {
    let traffic = Traffic { failures: (Rate::Same(0.01), Rate::Same(0.1)), sessions: 2000, ..EQUAL };
    let mut found: Vec<u64> = (0..100).map(|seed| traffic.run(seed).unwrap_or(u64::MAX)).collect();
    found.sort_unstable();
    println!("after {} sessions, 95 of 100 after {}", found[50], found[94]);
    assert!(found[50] <= 400 && found[94] <= 800, "after {} and {} sessions", found[50], found[94]);
}

#[test]
fn a_cache_that_answers_more_for_one_version_condemns_neither() {
    let computed = (0.4, 0.9);
    let long = Traffic { computed, ..EQUAL };
    let often = Traffic { failures: (Rate::Same(0.1), Rate::Same(0.1)), sessions: 100, ..EQUAL };
    let often = Traffic { computed, limits: STRICT, ..often };
    let mixed = Traffic { computed, failures: (Rate::Mixed, Rate::Mixed), ..EQUAL };
    let short = Traffic { frames: 1, sessions: 5000, failures: often.failures, ..EQUAL };
    let short = Traffic { computed, limits: STRICT, ..short };
    for (traffic, name) in [(long, "long"), (often, "often"), (mixed, "mixed"), (short, "short")] {
        let called = traffic.called_worse(400);
        println!("{name}: {called} of 400");
        assert!(called <= 20, "{name}: {called} of 400");
    }
}

#[test]
fn a_share_that_grows_condemns_neither() {
    let failures = (Rate::Same(0.05), Rate::Same(0.05));
    let traffic = Traffic { frames: 15, sessions: 3000, shares: (0.01, 0.2), failures, ..EQUAL };
    let called = traffic.called_worse(100);
    assert!(called <= 5, "{called} of 100");
}
