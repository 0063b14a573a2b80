//! How large ellipses have to be, measured on predictions whose truth is known.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// Resamples of an interval.
const RESAMPLES: usize = 1000;

/// The interval holds with this probability.
const INTERVAL: f64 = 0.95;

/// Parts of the places; the radii of all but one are tried on that one.
const PARTS: u64 = 5;

/// A prediction beside its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The place of the truth: neighbours have the same.
    pub place: (i64, i64),
    /// From the prediction to the truth, metres.
    pub error_m: f64,
    /// The same in sigmas, squared (Mahalanobis).
    pub squared: f64,
    /// `-ln p(truth)` of the normal density that the sigmas state; less is better.
    pub score: f64,
}

/// What a level was measured to be, with intervals of 95 % over places.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// The probability.
    pub level: f64,
    /// Share of the truths that ellipses of a normal distribution hold.
    pub held: f64,
    /// Its interval.
    pub held_interval: [f64; 2],
    /// The squared radius that holds this share.
    pub radius_squared: f64,
    /// Its interval.
    pub radius_squared_interval: [f64; 2],
    /// Share of the truths that measured radii hold at places that they were not measured on.
    pub held_elsewhere: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Predictions.
    pub n: usize,
    /// Places that they are of.
    pub places: usize,
    /// Errors, metres.
    pub median_error_m: f64,
    /// Their mean.
    pub mean_error_m: f64,
    /// Mean logarithmic score of the sigmas.
    pub score: f64,
    /// By level, rising.
    pub levels: Vec<Level>,
}

impl Report {
    /// Measures these levels, which rise within 0 and 1; `None` without predictions.
    pub fn of(measured: &[Measured], levels: &[f64]) -> Option<Self> {
        let mut places: Vec<_> = measured.iter().map(|each| each.place).collect();
        places.sort_unstable();
        places.dedup();
        let by_place: Vec<Vec<f64>> = places
            .iter()
            .map(|place| {
                measured.iter().filter(|each| each.place == *place).map(|each| each.squared).collect()
            })
            .collect();
        let mut errors: Vec<f64> = measured.iter().map(|each| each.error_m).collect();
        errors.sort_by(f64::total_cmp);
        let mean = |of: fn(&Measured) -> f64| measured.iter().map(of).sum::<f64>() / measured.len() as f64;
        let all: Vec<f64> = measured.iter().map(|each| each.squared).collect();
        let resamples = resamples(&by_place);
        let level = |&level: &f64| {
            let normal = -2.0 * (1.0 - level).ln();
            let held = |values: &[f64]| share_within(values, normal);
            let radius = |values: &[f64]| quantile(values, level).unwrap_or(f64::NAN);
            Level {
                level,
                held: held(&all),
                held_interval: interval(resamples.iter().map(|values| held(values))),
                radius_squared: radius(&all),
                radius_squared_interval: interval(resamples.iter().map(|values| radius(values))),
                held_elsewhere: held_elsewhere(&places, &by_place, level),
            }
        };
        Some(Self {
            n: measured.len(),
            places: places.len(),
            median_error_m: *errors.get(errors.len().checked_sub(1)? / 2)?,
            mean_error_m: mean(|each| each.error_m),
            score: mean(|each| each.score),
            levels: levels.iter().map(level).collect(),
        })
    }
}

/// Whole places drawn with replacement, as many as there are: neighbours are not independent. Sorted.
fn resamples(by_place: &[Vec<f64>]) -> Vec<Vec<f64>> {
    // The same numbers give the same intervals.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0);
    let mut draw = || {
        let mut values: Vec<f64> = (0..by_place.len())
            .flat_map(|_| by_place[rng.random_range(0..by_place.len())].iter().copied())
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    (0..RESAMPLES).map(|_| draw()).collect()
}

/// Radii of all other places, tried on each fifth of them in turn.
fn held_elsewhere(places: &[(i64, i64)], by_place: &[Vec<f64>], level: f64) -> f64 {
    let part = |place: &(i64, i64)| {
        // Neighbouring places are in different parts; which one has no meaning.
        let mixed = (place.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (place.1 as u64).rotate_left(32);
        (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) % PARTS
    };
    let (mut held, mut count) = (0.0, 0);
    for tried in 0..PARTS {
        let of = |is_tried: bool| -> Vec<f64> {
            let chosen = places.iter().zip(by_place).filter(|(place, _)| (part(place) == tried) == is_tried);
            chosen.flat_map(|(_, values)| values.iter().copied()).collect()
        };
        let (here, elsewhere) = (of(true), of(false));
        if let Some(radius) = quantile(&elsewhere, level) {
            held += share_within(&here, radius) * here.len() as f64;
            count += here.len();
        }
    }
    held / f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn share_within(values: &[f64], radius: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().filter(|value| **value <= radius).count() as f64 / values.len() as f64
}

/// The value that this share of further truths is expected to be within: of n values that of rank
/// ⌈share · (n + 1)⌉, the highest where there are too few (as split-conformal prediction has it).
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * (sorted.len() + 1) as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

fn interval(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    [at((1.0 - INTERVAL) / 2.0), at(1.0 - (1.0 - INTERVAL) / 2.0)]
}

#[cfg(test)]
mod tests {
    use rand::distr::Distribution;
    use rand_distr::StandardNormal;

    use super::*;

    const LEVELS: [f64; 4] = [0.5, 0.68, 0.9, 0.95];

    /// Predictions whose sigmas are too small by this factor, several at each place that share a part of
    /// their error.
    fn measured(factor: f64, places: i64, at_each: usize, shared: f64) -> Vec<Measured> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut all = Vec::new();
        for place in 0..places {
            let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
            let common = [normal(), normal()];
            for _ in 0..at_each {
                let own = (1.0 - shared * shared).sqrt();
                let off = common.map(|common| factor * (shared * common + own * normal()));
                let squared = off[0] * off[0] + off[1] * off[1];
                let score = squared / 2.0;
                all.push(Measured { place: (place, 3 * place), error_m: squared.sqrt(), squared, score });
            }
        }
        all
    }

    #[test]
    fn sigmas_that_are_right_and_that_are_half_as_large_as_they_should_be() {
        for (factor, held) in [(1.0, 0.68), (2.0, 1.0 - 0.32f64.powf(0.25))] {
            let report = Report::of(&measured(factor, 4000, 1, 0.0), &LEVELS).unwrap();
            assert_eq!((report.n, report.places, report.levels.len()), (4000, 4000, 4));
            for level in &report.levels {
                let normal = -2.0 * (1.0 - level.level).ln() * factor * factor;
                assert!((level.radius_squared / normal - 1.0).abs() < 0.1, "{level:?}");
                let [low, high] = level.radius_squared_interval;
                assert!(low < level.radius_squared && level.radius_squared < high, "{level:?}");
                // At other places they hold what they promise.
                assert!((level.held_elsewhere - level.level).abs() < 0.02, "{level:?}");
            }
            let level = &report.levels[1];
            assert!((level.held - held).abs() < 0.02, "{level:?}");
            assert!(level.held_interval[0] < held && held < level.held_interval[1], "{level:?}");
        }
    }

    #[test]
    fn neighbours_are_worth_less_than_as_many_places() {
        let width = |report: &Report| {
            let [low, high] = report.levels[1].held_interval;
            high - low
        };
        let alone = Report::of(&measured(1.0, 1000, 1, 0.0), &LEVELS).unwrap();
        let together = Report::of(&measured(1.0, 50, 20, 0.95), &LEVELS).unwrap();
        assert_eq!((alone.n, together.n, together.places), (1000, 1000, 50));
        assert!(width(&together) > 2.5 * width(&alone), "{} {}", width(&together), width(&alone));
    }

    #[test]
    fn without_predictions_there_is_nothing_and_of_one_all_there_is() {
        assert_eq!(Report::of(&[], &LEVELS), None);
        let one = Report::of(&measured(1.0, 1, 1, 0.0), &LEVELS).unwrap();
        assert_eq!((one.n, one.places), (1, 1));
        assert!(one.levels.iter().all(|level| level.radius_squared == one.levels[0].radius_squared));
    }
}
