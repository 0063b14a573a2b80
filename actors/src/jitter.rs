//! Randomness for spreading things in time.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number in [0, 1), for spreading things in time.
pub fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}
