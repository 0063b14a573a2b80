//! One question about the frames of sessions, which are not independent of each other.

use crate::evidence::Coin;

/// Ranges of frame numbers: a session's frames from number 65,536 on say nothing.
const STRATA: usize = 16;

/// Sessions that the configured share counts for, beside those that were counted.
const PRIOR: f64 = 50.0;

/// The two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The version that was active before.
    Active,
    /// The new one.
    Canary,
}

/// Evidence that events come more often from the canary, of sessions with any number of frames.
///
/// The frames of a session are numbered, and the numbers are divided into ranges of powers of two: 1, 2 to
/// 3, 4 to 7 and so on. A session counts once in each range that it completes, with an event or without.
/// Incomplete ranges do not count, because sessions may be longer with one version than with the other: the
/// cache may answer more frames for one of them.
///
/// The evidence is the largest of the ranges' evidence, each times a weight; the weights sum to 1, so that
/// by the union bound it may be looked at after every frame, as each of them may, though ranges share
/// sessions. That the share is measured is not in the proof: `tests/sessions.rs` simulates it.
#[derive(Debug, Clone)]
pub struct Strata {
    strata: [Stratum; STRATA],
    evidence: f64,
}

/// One range of frame numbers.
#[derive(Debug, Clone, Default)]
struct Stratum {
    coin: Coin,
    /// The configured share of the canary under which the sessions below were counted.
    share: f64,
    /// Sessions with the canary that have completed the range.
    canary: f64,
    /// Sessions with the active version that have.
    active: f64,
}

/// How far a session is in one question.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    frames: u32,
    /// Its version at the beginning of the range that it is in.
    is_canary: bool,
    /// There was an event in this range.
    has_event: bool,
    /// It was given the other version within this range.
    is_mixed: bool,
}

impl Default for Strata {
    fn default() -> Self {
        Self { strata: Default::default(), evidence: 1.0 }
    }
}

impl Strata {
    /// The next frame of a session, and whether it is an event; `share` and `factor` as for [`Coin::toss`].
    pub fn frame(&mut self, session: &mut Progress, arm: Arm, is_event: bool, share: f64, factor: f64) {
        let is_canary = arm == Arm::Canary;
        let number = session.frames.saturating_add(1);
        *session = match number.is_power_of_two() {
            true => Progress { frames: number, is_canary, has_event: is_event, is_mixed: false },
            false => Progress {
                frames: number,
                has_event: session.has_event || is_event,
                is_mixed: session.is_mixed || session.is_canary != is_canary,
                ..*session
            },
        };
        let is_last = number.wrapping_add(1).is_power_of_two();
        if let Some(stratum) = self.strata.get_mut(number.ilog2() as usize)
            && is_last
            && !session.is_mixed
        {
            stratum.complete(is_canary, session.has_event, share, factor);
            if session.has_event {
                self.evidence = self.largest();
            }
        }
    }

    /// The evidence, as [`Coin::evidence`].
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    fn largest(&self) -> f64 {
        // The weights of all ranges sum to 1, to infinity.
        let weight = |k: usize| 1.0 / ((k + 1) * (k + 2)) as f64;
        let weighted = |(k, stratum): (usize, &Stratum)| weight(k) * stratum.coin.evidence();
        // Less says as little.
        self.strata.iter().enumerate().map(weighted).fold(1.0, f64::max)
    }
}

impl Stratum {
    /// A session has completed the range.
    fn complete(&mut self, is_canary: bool, has_event: bool, share: f64, factor: f64) {
        if self.share != share {
            // Sessions that were split in other proportions say nothing of the following ones.
            (self.share, self.canary, self.active) = (share, 0.0, 0.0);
        }
        *(if is_canary { &mut self.canary } else { &mut self.active }) += 1.0;
        if has_event {
            self.coin.toss(is_canary, self.measured_share(), factor);
        }
    }

    /// The canary's share of the sessions that complete the range, this one included: the configured share
    /// with the weight of [`PRIOR`] sessions, or the counted share where that is larger. If only canary
    /// sessions complete the range, the share is 1 and events say nothing.
    fn measured_share(&self) -> f64 {
        let counted = self.canary + self.active;
        let blended = (PRIOR * self.share + self.canary) / (PRIOR + counted);
        blended.max(self.canary / counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of `frames` frames, every one of which is an event or none is.
    fn session(strata: &mut Strata, arm: Arm, frames: u32, is_event: bool) {
        let mut session = Progress::default();
        (0..frames).for_each(|_| strata.frame(&mut session, arm, is_event, 0.1, 2.0));
    }

    /// Ninety sessions of the active version without an event.
    fn strata(frames: u32) -> Strata {
        let mut strata = Strata::default();
        (0..90).for_each(|_| session(&mut strata, Arm::Active, frames, false));
        strata
    }

    #[test]
    fn a_session_counts_once_in_each_range_that_it_completes() {
        let after = |frames| {
            let mut strata = strata(1000);
            session(&mut strata, Arm::Canary, frames, true);
            strata.strata.map(|stratum| stratum.coin.evidence())
        };
        assert!(after(1)[0] > 1.0);
        for (less, more) in [(1, 2), (3, 6), (255, 510)] {
            assert_eq!(after(less), after(more));
            let range = more.ilog2() as usize;
            assert!(after(more)[range] < after(more + 1)[range]);
        }
    }

    #[test]
    fn where_only_the_canary_has_long_sessions_there_is_nothing_to_compare() {
        let mut strata = strata(2);
        for _ in 0..1000 {
            session(&mut strata, Arm::Active, 2, false);
            let mut canary = Progress::default();
            for is_event in [false, true, true] {
                strata.frame(&mut canary, Arm::Canary, is_event, 0.1, 2.0);
            }
        }
        assert!((strata.evidence() - 1.0).abs() < 1e-12, "{}", strata.evidence());
    }

    #[test]
    fn a_range_in_which_a_session_changes_its_version_does_not_count() {
        let run = |arms: [Arm; 3]| {
            let (mut strata, mut session) = (strata(3), Progress::default());
            let is_event = [false, true, true];
            (arms.iter().zip(is_event)).for_each(|(&arm, is)| strata.frame(&mut session, arm, is, 0.1, 2.0));
            strata.strata[1].coin.evidence()
        };
        assert_eq!(run([Arm::Active, Arm::Active, Arm::Canary]), 1.0);
        assert!(run([Arm::Active, Arm::Canary, Arm::Canary]) > 1.0);
    }
}
