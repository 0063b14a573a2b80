//! Randomness for spreading things in time.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// A random number in [0, 1), for spreading things in time.
pub fn jitter() -> f64 {
    fraction(RandomState::new().build_hasher().finish())
}

/// A number in [0, 1) that is the same for all that belong together.
pub fn jitter_of(group: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    group.hash(&mut hasher);
    fraction(hasher.finish())
}

fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_has_one_number_and_all_of_them_spread() {
        assert_eq!(jitter_of("s-1"), jitter_of("s-1"));
        let mean = (0..1000).map(|n| jitter_of(&n.to_string())).sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }
}
