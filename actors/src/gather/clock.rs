//! How far a receiver's clock is from those of the others, by emitters whose place is known: plain and
//! synchronous.

use std::f64::consts::SQRT_2;

/// After so many observations a clock is corrected, and what does not fit is a jump and no wrong start.
const SETTLED: u32 = 5;

/// An observation does not fit when it is this many standard deviations from what was expected, and by more
/// than [`JUMP`].
const DEVIATIONS: f64 = 10.0;

/// What is less is never a jump; a clock that is known to this is corrected; seconds.
const JUMP: f64 = 1e-6;

/// Observations that the residual is the mean of; older ones fade.
const MEMORY: u32 = 100;

/// What clocks drift by before anything is known, seconds a second (standard deviation).
const DRIFT: f64 = 1e-6;

/// No clock drifts by more: the worst crystals, seconds a second.
const CRYSTAL: f64 = 100e-6;

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
    /// Mean of the squares of what observations were off over what was expected of that; older ones fade.
    excess: f64,
    /// Standard deviation of the last observation, seconds.
    sigma_s: f64,
    /// The last observation, where it did not fit.
    doubt: Option<Doubt>,
}

/// An observation that did not fit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Doubt {
    /// Seconds that it was off.
    off_s: f64,
    at_ns: i64,
    /// Drift by this observation and the doubted one before it, less the drift that was known, seconds a
    /// second.
    faster: f64,
}

/// Where a clock is expected to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedClock {
    /// Seconds that it is late.
    pub late_s: f64,
    /// Standard deviation of that, seconds.
    pub deviation_s: f64,
}

/// Of offset and drift.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Covariance {
    offset: f64,
    both: f64,
    drift: f64,
}

impl Clock {
    /// Seconds that it is late at an instant; `None` as long as that is not known to a microsecond, or half
    /// of the standard deviation of what is observed.
    pub fn late_at(&self, ns: i64) -> Option<f64> {
        let ExpectedClock { late_s, deviation_s } = self.expected_at(ns)?;
        let is_known = self.is_settled() && self.doubt.is_none();
        (is_known && deviation_s <= JUMP.max(self.sigma_s / 2.0)).then_some(late_s)
    }

    /// Where it is expected at an instant, however well that is known; `None` before it was observed.
    pub fn expected_at(&self, ns: i64) -> Option<ExpectedClock> {
        let (late_s, covariance) = self.expected(ns);
        let deviation_s = (self.excess() * covariance.offset).sqrt();
        (self.observations > 0).then_some(ExpectedClock { late_s, deviation_s })
    }

    /// Takes an observation with its standard deviation; returns whether it does not fit those before. It is
    /// a jump once a second one agrees with that, or a third lies on a line with two: a clock that drifts
    /// otherwise. The clock goes on from there.
    pub fn observe(&mut self, at_ns: i64, offset_s: f64, sigma_s: f64) -> bool {
        let variance = sigma_s.powi(2);
        let here = Self::begun(at_ns, offset_s, sigma_s);
        if self.observations == 0 {
            *self = here;
            return false;
        }
        let (expected, covariance) = self.expected(at_ns);
        let (off, all) = (offset_s - expected, covariance.offset + variance);
        let gate = |variance: f64| (DEVIATIONS * (self.excess() * variance).sqrt()).max(JUMP);
        if off.abs() > gate(all) {
            if !self.is_settled() {
                let last = Doubt { off_s: 0.0, at_ns: self.at_ns, faster: 0.0 };
                let drift = self.drift + last.faster_by(off, at_ns, sigma_s).unwrap_or_default();
                *self = Self { drift, ..here };
                return false;
            }
            match self.doubt {
                Some(doubt) if doubt.agrees(off, at_ns, gate(2.0 * variance)) => {
                    let faster = doubt.faster_by(off, at_ns, sigma_s).unwrap_or(doubt.faster);
                    let (drift, residual_s) = (self.drift + faster, self.residual_s);
                    *self = Self { drift, residual_s, jumps: self.jumps + 1, ..here };
                }
                doubt => {
                    let faster = doubt.and_then(|doubt| doubt.faster_by(off, at_ns, sigma_s));
                    self.doubt = Some(Doubt { off_s: off, at_ns, faster: faster.unwrap_or_default() });
                }
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
        (self.doubt, self.sigma_s) = (None, sigma_s);
        self.observations = self.observations.saturating_add(1);
        let n = f64::from(self.observations.min(MEMORY));
        self.residual_s = (self.residual_s.powi(2) + (off.powi(2) - self.residual_s.powi(2)) / n).sqrt();
        self.excess += (off.powi(2) / all - self.excess) / n;
        false
    }

    /// One that was observed once.
    fn begun(at_ns: i64, offset_s: f64, sigma_s: f64) -> Self {
        let covariance = Covariance { offset: sigma_s.powi(2), both: 0.0, drift: DRIFT.powi(2) };
        Self { offset_s, at_ns, observations: 1, covariance, sigma_s, ..Self::default() }
    }

    /// Observations that differ by more than is expected of them make everything less certain.
    fn excess(&self) -> f64 {
        self.excess.max(1.0)
    }

    /// One that has jumped was known before.
    fn is_settled(&self) -> bool {
        self.observations >= SETTLED || self.jumps > 0
    }

    /// The offset at an instant, and how well offset and drift are known then.
    fn expected(&self, ns: i64) -> (f64, Covariance) {
        let after = seconds(self.at_ns, ns);
        let Covariance { offset, both, drift } = self.covariance;
        let wander = DRIFT_WANDER.powi(2) * after;
        let covariance = Covariance {
            offset: offset
                + after * (2.0 * both + after * drift + WANDER.powi(2))
                + wander * after.powi(2) / 3.0,
            both: both + after * drift + wander * after / 2.0,
            drift: drift + wander,
        };
        // Before it was observed it was elsewhere, but nobody knows where.
        (self.offset_s + if ns > self.at_ns { self.drift * after } else { 0.0 }, covariance)
    }
}

impl Doubt {
    /// Whether another observation that does not fit says the same, to so many seconds.
    fn agrees(&self, off_s: f64, at_ns: i64, within: f64) -> bool {
        let after = seconds(self.at_ns, at_ns);
        // Its drift may be another one, too.
        (off_s - self.off_s - self.faster * after).abs() <= within + DEVIATIONS * DRIFT * after
    }

    /// By how much faster the clock drifts by both; `None` where they are too close to say, or where no
    /// crystal drifts like that.
    fn faster_by(&self, off_s: f64, at_ns: i64, sigma_s: f64) -> Option<f64> {
        let after = seconds(self.at_ns, at_ns);
        let faster = (off_s - self.off_s) / after;
        (SQRT_2 * sigma_s <= DRIFT * after && faster.abs() <= CRYSTAL).then_some(faster)
    }
}

fn seconds(one_ns: i64, other_ns: i64) -> f64 {
    one_ns.abs_diff(other_ns) as f64 * 1e-9
}

/// How late clocks are against the others. Each comes with what it was heard late by, and where it is
/// expected; seconds. What they have in common is the median of those that are expected somewhere, or of
/// all. Nothing for fewer than three, or where only two are expected and they contradict each other.
pub fn against_others<T>(heard: Vec<(T, f64, Option<ExpectedClock>)>) -> Vec<(T, f64)> {
    if heard.len() < 3 {
        return Vec::new();
    }
    let off = |late: f64, expected: &Option<ExpectedClock>| late - expected.map_or(0.0, |of| of.late_s);
    let expected: Vec<(f64, f64)> =
        heard.iter().filter_map(|(_, late, of)| Some((off(*late, of), of.as_ref()?.deviation_s))).collect();
    if let [(one, sigma), (other, other_sigma)] = expected[..]
        && (one - other).abs() > (DEVIATIONS * sigma.hypot(other_sigma)).max(JUMP)
    {
        return Vec::new();
    }
    let common = median(match expected.is_empty() {
        true => heard.iter().map(|(_, late, _)| *late).collect(),
        false => expected.into_iter().map(|(off, _)| off).collect(),
    });
    let common = common.unwrap_or_default();
    heard.into_iter().map(|(of, late, _)| (of, late - common)).collect()
}

/// The median; `None` of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let high = values.get(values.len() / 2)?;
    Some((values[(values.len() - 1) / 2] + high) / 2.0)
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

    /// Sessions of some of several clocks; returns the clocks, and how often one did not fit.
    fn sessions(
        offsets: &[f64],
        apart: i64,
        count: usize,
        there: impl Fn(usize) -> Vec<usize>,
    ) -> (Vec<Clock>, usize) {
        let (mut clocks, mut odd) = (vec![Clock::default(); offsets.len()], 0);
        for n in 0..count {
            let at = BEGUN + n as i64 * apart;
            let heard = there(n)
                .into_iter()
                .map(|of| {
                    let late = 1e-3 + offsets[of] + 20e-9 * error(n * (of + 1));
                    (of, late, clocks[of].expected_at(at))
                })
                .collect();
            for (of, late) in against_others(heard) {
                odd += usize::from(clocks[of].observe(at, late, 100e-9));
            }
        }
        (clocks, odd)
    }

    #[test]
    fn who_is_there_changes_nothing_for_the_others() {
        let offsets = [0.0, 4e-6, 8e-6, -4e-6, 30e-6];
        let alternating = |n: usize| vec![0, 1, 2 + n % 3];
        let turning = |n: usize| vec![n % 5, (n + 1) % 5, (n + 3) % 5];
        for apart in [100 * MS, 1000 * MS, 10_000 * MS] {
            for (clocks, odd) in
                [sessions(&offsets, apart, 300, alternating), sessions(&offsets, apart, 300, turning)]
            {
                assert_eq!(odd, 0);
                for (clock, offset) in clocks.iter().zip(offsets) {
                    let wrong = clock.offset_s - clocks[0].offset_s - offset;
                    assert!(wrong.abs() < 0.2e-6, "{apart}: {clocks:?}");
                }
            }
        }
    }

    #[test]
    fn of_two_that_contradict_each_other_nobody_knows_who_is_wrong() {
        let at = |late_s: f64| Some(ExpectedClock { late_s, deviation_s: 50e-9 });
        assert_eq!(against_others(vec![("a", 20e-6, at(0.0)), ("b", 0.0, at(0.0)), ("new", 5e-6, None)]), []);
        let new = against_others(vec![("a", 3e-6, at(1e-6)), ("b", 2e-6, at(0.0)), ("new", 7e-6, None)]);
        assert_eq!(new.iter().map(|(_, late)| (late * 1e9).round()).collect::<Vec<_>>(), [1e3, 0.0, 5e3]);
        assert_eq!(against_others(vec![((), 0.0, None); 2]), []);
    }

    #[test]
    fn a_step_before_it_is_known_and_another_drift_are_learned() {
        let mut clock = Clock::default();
        clock.observe(BEGUN, 0.0, 100e-9);
        clock.observe(BEGUN + MS, 40e-9, 100e-9);
        for second in 2..60 {
            clock.observe(BEGUN + second * 1000 * MS, -4e-6 + 40e-9 * error(second as usize), 100e-9);
        }
        assert!((clock.offset_s + 4e-6).abs() < 0.1e-6, "{clock:?}");
        for (ppm, apart) in [0.5, 2.0, 9.0, -15.0, 40.0, 90.0].into_iter().zip([1, 1, 1, 1, 10, 2]) {
            // Settled before, and a clock of its own from the start.
            for (mut drifting, from) in [(clock, -4e-6), (Clock::default(), 0.0)] {
                let mut odd = 0;
                for n in 0..140 {
                    let second = 60 + apart * n;
                    let late = from + ppm * 1e-6 * (second - 60) as f64 + 40e-9 * error(n as usize);
                    odd += usize::from(drifting.observe(BEGUN + second * 1000 * MS, late, 100e-9));
                }
                let is_learned = (drifting.drift - ppm * 1e-6).abs() < 0.1e-6;
                assert!(odd <= 4 && is_learned, "{ppm}: {odd} {drifting:?}");
                assert!(drifting.late_at(BEGUN + (60 + apart * 140) * 1000 * MS).is_some(), "{ppm}");
            }
        }
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
        for second in 1..10 {
            assert!(!observe(second, 1e-6).0);
        }
        let near = |late: Option<f64>, expected: f64| (late.unwrap() - expected).abs() < 0.2e-6;
        let (odd, late, jumps) = observe(10, 90e-6);
        assert!(odd && late.is_none() && jumps == 0, "a stray, or not: {late:?}");
        let (odd, late, _) = observe(11, 1e-6);
        assert!(!odd && near(late, 1e-6));
        assert!(observe(12, 9e-6).0);
        let (odd, late, jumps) = observe(13, 9e-6);
        assert!(odd && late.is_none() && jumps == 1, "it is elsewhere now, and its drift may be: {late:?}");
        let (odd, late, _) = observe(14, 9e-6);
        assert!(!odd && near(late, 9e-6), "{late:?}");
    }
}
