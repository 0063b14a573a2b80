//! Evidence that grows frame by frame and may be looked at at any time.

/// How many times the rate of the one may be that of the other, in the alternatives that are bet on.
const RATIOS: [f64; 6] = [1.25, 1.5, 2.0, 4.0, 16.0, 64.0];

/// The logarithm of the most evidence that is stated; more counts as this.
const MOST_LOG: f64 = 700.0;

/// Stakes, from what is best against a small difference to what is best against a large one.
const STAKES: [f64; 5] = [0.05, 0.1, 0.2, 0.4, 0.8];

/// Evidence that events come more often from the canary than its share of the traffic explains.
///
/// Of two versions with equal rates, an event is the canary's with probability `share`: each event is a toss
/// of a coin whose bias is known. The evidence is the mean of likelihood ratios against fixed alternatives
/// (a mixture of test martingales; Robbins 1970, Ramdas et al. 2023, "Game-theoretic statistics and safe
/// anytime-valid inference", section 4).
#[derive(Debug, Clone, Default)]
pub struct Coin {
    log_wealth: [f64; RATIOS.len()],
}

impl Coin {
    /// An event: whose it was, the canary's `share` of the traffic of both (0 to 1), and how many times more
    /// often (`factor`) the canary's may come before it is worse.
    pub fn toss(&mut self, is_canary: bool, share: f64, factor: f64) {
        let probability = |ratio: f64| share * ratio / (share * ratio + 1.0 - share);
        let null = probability(factor);
        if !(0.0..1.0).contains(&null) || null == 0.0 {
            return;
        }
        for (log_wealth, ratio) in self.log_wealth.iter_mut().zip(RATIOS) {
            let alternative = probability(factor * ratio);
            *log_wealth += match is_canary {
                true => (alternative / null).ln(),
                false => ((1.0 - alternative) / (1.0 - null)).ln(),
            };
        }
    }

    /// The evidence: 1 says nothing, 20 is as rare as one in twenty where the canary is not worse.
    pub fn evidence(&self) -> f64 {
        mean_exp(&self.log_wealth)
    }
}

/// Evidence that differences in [-1, 1] have a mean above 0.
///
/// Bets a fixed part of what it has on each (Waudby-Smith and Ramdas 2024, "Estimating means of bounded
/// random variables by betting", equation 23 with constant stakes, mixed).
#[derive(Debug, Clone, Default)]
pub struct Bets {
    log_wealth: [f64; STAKES.len()],
}

impl Bets {
    /// One difference, above 0 where the canary was worse.
    pub fn bet(&mut self, difference: f64) {
        let difference = if difference.is_finite() { difference.clamp(-1.0, 1.0) } else { 0.0 };
        for (log_wealth, stake) in self.log_wealth.iter_mut().zip(STAKES) {
            *log_wealth += (stake * difference).ln_1p();
        }
    }

    /// The evidence, as [`Coin::evidence`].
    pub fn evidence(&self) -> f64 {
        mean_exp(&self.log_wealth)
    }
}

fn mean_exp(logs: &[f64]) -> f64 {
    // A number also where there is more evidence than a number holds.
    logs.iter().map(|log| log.min(MOST_LOG).exp()).sum::<f64>() / logs.len() as f64
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// How many of 2000 runs ever show evidence of 20.
    fn alarms(mut run: impl FnMut(&mut SmallRng) -> bool) -> usize {
        (0..2000).filter(|&seed| run(&mut SmallRng::seed_from_u64(seed))).count()
    }

    #[test]
    fn a_coin_that_is_as_its_share_says_rarely_alarms_however_often_it_is_looked_at() {
        for (share, factor) in [(0.01, 1.0), (0.1, 2.0), (0.5, 1.0)] {
            let null = share * factor / (share * factor + 1.0 - share);
            let alarms = alarms(|rng| {
                let mut coin = Coin::default();
                (0..1000).any(|_| {
                    coin.toss(rng.random_bool(null), share, factor);
                    coin.evidence() >= 20.0
                })
            });
            assert!(alarms <= 100, "{alarms} of 2000 at {share}");
        }
    }

    #[test]
    fn a_canary_that_always_fails_is_found_at_once() {
        let mut coin = Coin::default();
        let tosses = (1..).find(|_| {
            coin.toss(true, 0.1, 2.0);
            coin.evidence() >= 60.0
        });
        assert!(tosses <= Some(5), "{tosses:?}");
    }

    #[test]
    fn equal_means_rarely_alarm_and_a_shift_does() {
        let run = |shift: f64| {
            move |rng: &mut SmallRng| {
                let mut bets = Bets::default();
                (0..2000).any(|_| {
                    bets.bet(rng.random_range(-1.0..1.0) + shift);
                    bets.evidence() >= 20.0
                })
            }
        };
        let (null, shifted) = (alarms(run(0.0)), alarms(run(0.1)));
        assert!(null <= 100 && shifted > 1950, "{null} and {shifted} of 2000");
    }
}
