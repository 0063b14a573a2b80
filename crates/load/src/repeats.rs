//! Which frame each request sends.

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::index::sample;
use rand_distr::Zipf;

use crate::error::OutOfRange;

/// Chooses the distinct frame that each of `count` requests sends, numbered from 0 in order of first use.
///
/// Exactly `round(share × count)` requests repeat a frame that was sent before; as the first request cannot,
/// it is one less at a share of 1. Which requests repeat is drawn without preference. The frame that is
/// repeated is drawn by Zipf's law among those already sent, the first being the most popular: frame `i` in
/// proportion to `(i + 1)^-exponent`, so that 0 is uniform. The same seed gives the same choice.
///
/// # Errors
/// A share outside 0 to 1, or an exponent that is negative or not finite.
pub fn repeats(count: u32, share: f64, exponent: f64, seed: u64) -> Result<Vec<u32>, OutOfRange> {
    if !(0.0..=1.0).contains(&share) {
        return Err(OutOfRange { name: "share of repeats", value: share, limit: "0 to 1" });
    }
    if !exponent.is_finite() {
        return Err(bad_exponent(exponent));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let wanted = ((share * f64::from(count)).round() as u32).min(count - 1);
    let mut is_repeat = vec![false; count as usize];
    for index in sample(&mut rng, count as usize - 1, wanted as usize) {
        is_repeat[index + 1] = true;
    }
    let mut distinct = 0;
    is_repeat
        .into_iter()
        .map(|repeat| {
            if !repeat {
                distinct += 1;
                return Ok(distinct - 1);
            }
            let popularity = Zipf::new(f64::from(distinct), exponent);
            let popularity = popularity.map_err(|_| bad_exponent(exponent))?;
            Ok(popularity.sample(&mut rng) as u32 - 1)
        })
        .collect()
}

fn bad_exponent(value: f64) -> OutOfRange {
    OutOfRange { name: "Zipf exponent", value, limit: "a finite number, at least 0" }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn exactly_the_share_repeats_a_frame_sent_before() {
        for (count, share) in [(1, 0.9), (2, 0.5), (10, 0.25), (1000, 0.333), (1000, 1.0), (777, 0.0)] {
            for seed in 0..20 {
                let frames = repeats(count, share, 1.1, seed).unwrap();
                let mut sent = HashSet::new();
                let repeated = frames.iter().filter(|&&frame| !sent.insert(frame)).count() as u32;
                let expected = ((share * f64::from(count)).round() as u32).min(count - 1);
                assert_eq!(repeated, expected, "{count} {share}");
                assert_eq!(frames.iter().max().unwrap() + 1, count - expected, "numbered without holes");
            }
        }
        assert!(repeats(0, 0.5, 0.0, 1).unwrap().is_empty());
    }

    /// The share of repeats of the frame that is repeated most.
    fn of_the_most_popular(exponent: f64) -> f64 {
        let frames = repeats(20_000, 0.9, exponent, 3).unwrap();
        let distinct = *frames.iter().max().unwrap() as usize + 1;
        let mut times = vec![0_u32; distinct];
        frames.iter().for_each(|&frame| times[frame as usize] += 1);
        f64::from(*times.iter().max().unwrap()) / 20_000.0
    }

    #[test]
    fn popularity_follows_the_exponent() {
        let (uniform, popular) = (of_the_most_popular(0.0), of_the_most_popular(1.0));
        assert!(uniform < 0.01 && popular > 0.1, "{uniform} and {popular}");
    }

    #[test]
    fn the_seed_decides_and_bad_settings_are_refused() {
        let of = |seed| repeats(500, 0.4, 0.8, seed).unwrap();
        assert!(of(1) == of(1) && of(1) != of(2));
        for (share, exponent) in
            [(-0.1, 1.0), (1.1, 1.0), (f64::NAN, 1.0), (0.5, -1.0), (0.5, f64::NAN), (0.0, f64::INFINITY)]
        {
            assert!(repeats(100, share, exponent, 1).is_err(), "{share} {exponent}");
        }
    }
}
