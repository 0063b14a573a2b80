//! How far a receiver's clock is from those of the others, by emitters whose place is known: plain and
//! synchronous.

/// Observations after which a clock is corrected, and a jump can be told from a bad start.
const SETTLED: u32 = 5;

/// An observation does not fit when it is this many standard deviations from what was expected, and by more
/// than [`JUMP`].
const DEVIATIONS: f64 = 10.0;

/// Seconds.
const JUMP: f64 = 1e-6;

/// Observations that the residual is the mean of; older ones fade.
const MEMORY: u32 = 100;

/// What clocks drift by before anything is known, seconds a second (standard deviation).
const DRIFT: f64 = 1e-6;

/// How the offset wanders, seconds after a second (random walk).
const WANDER: f64 = 10e-9;

/// How the drift wanders, seconds a second after a second (random walk).
const DRIFT_WANDER: f64 = 1e-9;

/// Offset and drift of a clock: a Kalman filter of these two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clock {
    /// Seconds that it is late against the other receivers, when it was last observed.
    pub offset_s: f64,
    /// Seconds a second.
    pub drift: f64,
    /// When it was last observed, nanoseconds since 1970.
    pub at_ns: i64,
    /// Root mean square of what observations differed from what was expected, seconds.
    pub residual_s: f64,
    /// Observations since it began or jumped.
    pub observations: u32,
    /// How often it has jumped.
    pub jumps: u32,
    covariance: Covariance,
    /// What the last observation was off, where it did not fit.
    doubt: Option<f64>,
}

/// Of offset and drift.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Covariance {
    offset: f64,
    both: f64,
    drift: f64,
}

impl Clock {
    /// Seconds that it is late at an instant; `None` as long as that is not known to a microsecond.
    pub fn late_at(&self, ns: i64) -> Option<f64> {
        let (late, covariance) = self.expected(ns);
        (self.is_settled() && covariance.offset.sqrt() <= JUMP).then_some(late)
    }

    /// Takes an observation with its standard deviation; returns whether it does not fit those before. A
    /// second one that agrees with that is a jump, and the clock goes on from there.
    pub fn observe(&mut self, at_ns: i64, offset_s: f64, sigma_s: f64) -> bool {
        let variance = sigma_s.max(self.residual_s).powi(2);
        let begun = Covariance { offset: variance, both: 0.0, drift: DRIFT.powi(2) };
        if self.observations == 0 {
            *self = Self { offset_s, at_ns, observations: 1, covariance: begun, ..*self };
            return false;
        }
        let (expected, covariance) = self.expected(at_ns);
        let (off, all) = (offset_s - expected, covariance.offset + variance);
        if off.abs() > (DEVIATIONS * all.sqrt()).max(JUMP) {
            let agrees = |doubt: f64| (off - doubt).abs() <= (DEVIATIONS * (2.0 * variance).sqrt()).max(JUMP);
            if !self.is_settled() {
                *self = Self { offset_s, at_ns, observations: 1, covariance: begun, ..Self::default() };
            } else if self.doubt.is_some_and(agrees) {
                let covariance = Covariance { drift: covariance.drift, ..begun };
                let (observations, jumps) = (1, self.jumps + 1);
                *self = Self { offset_s, at_ns, observations, jumps, covariance, doubt: None, ..*self };
            } else {
                self.doubt = Some(off);
            }
            return true;
        }
        let (gain, slope) = (covariance.offset / all, covariance.both / all);
        self.offset_s = expected + gain * off;
        self.drift += slope * off;
        self.covariance = Covariance {
            offset: (1.0 - gain) * covariance.offset,
            both: (1.0 - gain) * covariance.both,
            drift: covariance.drift - slope * covariance.both,
        };
        self.at_ns = self.at_ns.max(at_ns);
        self.doubt = None;
        self.observations = self.observations.saturating_add(1);
        let n = f64::from(self.observations.min(MEMORY));
        self.residual_s = (self.residual_s.powi(2) + (off.powi(2) - self.residual_s.powi(2)) / n).sqrt();
        false
    }

    /// One that has jumped was known before.
    fn is_settled(&self) -> bool {
        self.observations >= SETTLED || self.jumps > 0
    }

    /// The offset at an instant, and how well offset and drift are known then.
    fn expected(&self, ns: i64) -> (f64, Covariance) {
        let after = (ns.saturating_sub(self.at_ns).max(0)) as f64 * 1e-9;
        let Covariance { offset, both, drift } = self.covariance;
        let wander = DRIFT_WANDER.powi(2) * after;
        let covariance = Covariance {
            offset: offset
                + after * (2.0 * both + after * drift + WANDER.powi(2))
                + wander * after.powi(2) / 3.0,
            both: both + after * drift + wander * after / 2.0,
            drift: drift + wander,
        };
        (self.offset_s + self.drift * after, covariance)
    }
}

/// How late clocks are against the median of those that are known, or of all. Each with what is left of its
/// lateness after what is known of it was taken off, and that; seconds. Nothing for fewer than three.
pub fn against_median<T>(left: Vec<(T, f64, Option<f64>)>) -> Vec<(T, f64)> {
    if left.len() < 3 {
        return Vec::new();
    }
    let are_known = left.iter().filter(|(_, _, known)| known.is_some()).count() >= 2;
    let counts = left.iter().filter(|(_, _, known)| known.is_some() || !are_known);
    let mut sorted: Vec<f64> = counts.map(|(_, left, _)| *left).collect();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    left.into_iter().map(|(of, left, known)| (of, left - median + known.unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const BEGUN: i64 = 1_700_000_000_000 * MS;
    const SIGMA: f64 = 50e-9;

    /// Errors between plus and minus 1.
    fn error(n: usize) -> f64 {
        (2.3 * n as f64).sin()
    }

    #[test]
    fn offset_and_drift_are_found_and_followed() {
        let mut clock = Clock::default();
        // 3 µs late, 0.2 ppm fast.
        let late = |ms: i64| 3e-6 + 0.2e-9 * ms as f64;
        for n in 0..200 {
            let ms = 1000 * n as i64;
            assert_eq!(clock.late_at(BEGUN + ms * MS).is_some(), n >= 5, "{n}");
            assert!(!clock.observe(BEGUN + ms * MS, late(ms) + SIGMA * error(n), SIGMA), "{n}");
        }
        assert!((clock.drift - 0.2e-6).abs() < 10e-9, "{clock:?}");
        let ahead = clock.late_at(BEGUN + 210_000 * MS).unwrap();
        assert!((ahead - late(210_000)).abs() < 150e-9, "{ahead}");
        assert!((20e-9..80e-9).contains(&clock.residual_s), "{clock:?}");
        assert_eq!(clock.late_at(BEGUN + 86_400_000 * MS), None, "a day later nobody knows");
    }

    #[test]
    fn observations_in_bursts_make_no_drift_and_no_jump() {
        for (burst, apart, pause) in [(10, 1, 10_000), (2, 1, 1000), (1000, 1, 60_000), (1, 1, 1)] {
            let (mut clock, mut at) = (Clock::default(), BEGUN);
            for n in 0..2000 {
                at += MS * if n % burst == 0 { pause } else { apart };
                let known = clock.late_at(at);
                assert!(known.is_none_or(|late| late.abs() < 1e-6), "{burst} {n}: {known:?}");
                assert!(!clock.observe(at, 40e-9 * error(n), SIGMA), "{burst} {n}: {clock:?}");
            }
        }
    }

    /// Three clocks at 0, 4 and 8 µs, of which one jumps, or one is away.
    #[test]
    fn who_is_there_changes_nothing_for_the_others() {
        let known = [Some(-4e-6), Some(0.0), Some(4e-6), Some(20e-6)];
        let seen = |jumps: [f64; 4], there: &[usize]| {
            let left = there.iter().map(|&n| (n, 1e-3 + jumps[n], known[n])).collect();
            against_median(left).into_iter().map(|(n, late)| late - known[n].unwrap()).collect::<Vec<_>>()
        };
        for there in [&[0, 1, 2][..], &[0, 1, 3], &[1, 2, 3], &[0, 1, 2, 3]] {
            assert!(seen([0.0; 4], there).iter().all(|off| off.abs() < 1e-12));
        }
        let after = seen([0.0, 46e-6, 0.0, 0.0], &[0, 1, 2]);
        assert!(after[0].abs() < 1e-12 && (after[1] - 46e-6).abs() < 1e-12 && after[2].abs() < 1e-12);
        let new = against_median(vec![("a", 0.0, Some(1e-6)), ("b", 0.0, Some(0.0)), ("new", 5e-6, None)]);
        assert_eq!(new, [("a", 1e-6), ("b", 0.0), ("new", 5e-6)]);
        assert_eq!(against_median(vec![((), 0.0, None); 2]), []);
    }

    #[test]
    fn a_jump_is_followed_once_it_is_confirmed_and_a_stray_never() {
        let mut clock = Clock::default();
        let mut observe = |second: i64, late: f64| {
            let odd = clock.observe(BEGUN + second * 1000 * MS, late, SIGMA);
            (odd, clock.late_at(BEGUN + (second + 1) * 1000 * MS), clock.jumps)
        };
        // A bad start is forgotten.
        assert!(!observe(0, 600e-6).0);
        assert!(observe(1, 1e-6).0);
        for second in 2..10 {
            assert!(!observe(second, 1e-6).0);
        }
        let near = |late: Option<f64>, expected: f64| (late.unwrap() - expected).abs() < 0.2e-6;
        let (odd, late, jumps) = observe(10, 90e-6);
        assert!(odd && near(late, 1e-6) && jumps == 0, "a stray");
        assert!(!observe(11, 1e-6).0);
        assert!(observe(12, 9e-6).0);
        let (odd, late, jumps) = observe(13, 9e-6);
        assert!(odd && near(late, 9e-6) && jumps == 1, "it is elsewhere now: {late:?}");
        assert!(!observe(14, 9e-6).0);
    }
}
