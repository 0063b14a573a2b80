//! How far a receiver's clock is from those of the others, by emitters whose place is known: plain and
//! synchronous.

/// Observations after which a jump can be told from a bad start.
const SETTLED: u32 = 5;

/// A clock has jumped when it is this many residuals from where it should be, and by more than [`JUMP`].
const RESIDUALS: f64 = 10.0;

/// Seconds.
const JUMP: f64 = 1e-6;

/// Observations that count; older ones fade.
const MEMORY: u32 = 100;

/// Offset and drift of a clock: a straight line through its observations, the least squares of all of them
/// at first, fading afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clock {
    /// Seconds that it is late against the median of the receivers, when it was last observed.
    pub offset_s: f64,
    /// Seconds a second.
    pub drift: f64,
    /// When it was last observed, nanoseconds since 1970.
    pub at_ns: i64,
    /// Root mean square of what observations differed from the line by, seconds.
    pub residual_s: f64,
    /// Observations since it began or jumped.
    pub observations: u32,
    /// How often it has jumped; it began anew each time.
    pub jumps: u32,
}

impl Clock {
    /// Seconds that it is late at an instant; 0 as long as it was not observed.
    pub fn at(&self, ns: i64) -> f64 {
        self.offset_s + self.drift * seconds(self.at_ns, ns)
    }

    /// Takes an observation; returns whether the clock has jumped.
    pub fn observe(&mut self, at_ns: i64, offset_s: f64) -> bool {
        let since = seconds(self.at_ns, at_ns);
        let off = offset_s - self.at(at_ns);
        if self.observations >= SETTLED && off.abs() > (RESIDUALS * self.residual_s).max(JUMP) {
            *self = Self { offset_s, at_ns, observations: 1, jumps: self.jumps + 1, ..Self::default() };
            return true;
        }
        self.observations = self.observations.saturating_add(1);
        let n = f64::from(self.observations.min(MEMORY));
        // Gains of the least squares of a line through n values (expanding memory, then fading).
        let (gain, slope) = (2.0 * (2.0 * n - 1.0) / (n * (n + 1.0)), 6.0 / (n * (n + 1.0)));
        self.offset_s = self.at(at_ns) + gain * off;
        if self.observations > 1 && since > 0.0 {
            self.drift += slope * off / since;
        }
        self.at_ns = at_ns;
        if self.observations > 2 {
            self.residual_s = (self.residual_s.powi(2) + (off.powi(2) - self.residual_s.powi(2)) / n).sqrt();
        }
        false
    }
}

fn seconds(from_ns: i64, to_ns: i64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const BEGUN: i64 = 1_700_000_000 * SECOND;

    #[test]
    fn offset_and_drift_are_found_and_followed() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(BEGUN), 0.0);
        // 3 µs late, 0.2 ppm fast, with errors of some 50 ns.
        let late = |second: i64| 3e-6 + 0.2e-6 * second as f64;
        for second in 0..200 {
            let error = 50e-9 * (2.3 * second as f64).sin();
            assert!(!clock.observe(BEGUN + second * SECOND, late(second) + error));
        }
        assert!((clock.drift - 0.2e-6).abs() < 2e-9, "{clock:?}");
        let ahead = clock.at(BEGUN + 230 * SECOND);
        assert!((ahead - late(230)).abs() < 60e-9, "{ahead}");
        assert!((20e-9..80e-9).contains(&clock.residual_s), "{clock:?}");
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut clock = Clock::default();
        for second in 0..10 {
            assert!(!clock.observe(BEGUN + second * SECOND, 1e-6));
        }
        assert!(clock.observe(BEGUN + 10 * SECOND, 9e-6));
        assert_eq!((clock.offset_s, clock.observations, clock.jumps), (9e-6, 1, 1));
        assert!(!clock.observe(BEGUN + 11 * SECOND, 9e-6), "it is where it is now");
    }
}
