//! The moving-block bootstrap of Künsch.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// Draws how often each of `count` seconds is in one resample.
///
/// The seconds of a run are not independent, so blocks of neighbours are drawn: `⌈count / length⌉` blocks of
/// `length = ⌈count^(1/3)⌉`, each with equal probability at each place where it fits, laid end to end and cut
/// to `count` (Künsch 1989, "The jackknife and the bootstrap for general stationary observations", Annals of
/// Statistics 17; the order of the length as there for the variance).
pub(crate) fn weights(count: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<u64> {
    let length = (count as f64).cbrt().ceil() as usize;
    let mut weights = vec![0; count];
    let mut left = count;
    while left > 0 {
        let block = length.min(left);
        let start = rng.random_range(0..=count - length);
        weights[start..start + block].iter_mut().for_each(|weight| *weight += 1);
        left -= block;
    }
    weights
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_resample_has_the_length_of_the_run_and_runs_of_neighbours() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut sums = [0_u64; 64];
        for _ in 0..2000 {
            let weights = weights(64, &mut rng);
            assert_eq!(weights.iter().sum::<u64>(), 64);
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        }
        // 16 blocks, and 4 of the 61 places of each have a given second, those at the ends aside: 2098.
        assert!(sums[8..56].iter().all(|&sum| (1900..2300).contains(&sum)), "{sums:?}");
    }

    #[test]
    fn the_interval_of_a_mean_of_dependent_seconds_covers_it() {
        // An autoregressive series: resampling single seconds would give intervals half as wide as needed.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let covered = (0..200).filter(|_| {
            let mut value = 0.0;
            let series: Vec<f64> = (0..120)
                .map(|_| {
                    value = 0.5 * value + rng.random_range(-1.0..1.0);
                    value
                })
                .collect();
            let mean = |weights: Vec<u64>| {
                series.iter().zip(weights).map(|(value, weight)| value * weight as f64).sum::<f64>() / 120.0
            };
            let mut means: Vec<f64> = (0..400).map(|_| mean(weights(120, &mut rng))).collect();
            means.sort_by(f64::total_cmp);
            means[10] <= 0.0 && means[389] >= 0.0
        });
        let covered = covered.count();
        assert!(covered >= 168, "{covered} of 200");
    }
}
