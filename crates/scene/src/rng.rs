//! Random numbers: one portable generator, with a separate stream for each frame.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// The generator behind every draw. Xoshiro256++ gives the same sequence on every platform and in every
/// release of `rand`, which `StdRng` does not promise.
pub type SimRng = Xoshiro256PlusPlus;

/// Returns the stream of frame `index` of a simulation seeded with `seed`. Frames are independent of each
/// other, so the order and the threads in which they are made do not change them.
pub fn stream(seed: u64, index: u64) -> SimRng {
    // The odd constant is 2⁶⁴ divided by the golden ratio: neighbouring indices land far apart (Weyl
    // sequence), and `seed_from_u64` hashes on from there.
    SimRng::seed_from_u64(seed.rotate_left(32) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Draws a number between `low` and `high`, uniformly in its logarithm. Both must be positive.
pub fn log_uniform(rng: &mut SimRng, low: f32, high: f32) -> f32 {
    rng.random_range(low.ln()..=high.ln()).exp()
}

/// Draws one of `choices`, all equally likely. `choices` must not be empty.
pub fn pick<T: Copy>(rng: &mut SimRng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, index| stream(seed, index).random::<u64>();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 1));
        assert_ne!(draw(1, 2), draw(1, 3));
        // A fixed value: a change of generator would silently change every data set.
        assert_eq!(draw(0, 0), 5_987_356_902_031_041_503);
    }

    #[test]
    fn log_uniform_has_its_median_at_the_geometric_mean() {
        let mut rng = stream(3, 0);
        let below = (0..4000).filter(|_| log_uniform(&mut rng, 1.0, 100.0) < 10.0).count();
        assert!((1850..2150).contains(&below), "{below} of 4000 below the geometric mean");
    }
}
