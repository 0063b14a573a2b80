use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time to live of an answer.
    pub ttl: Duration,
    /// Maximum number of answers.
    pub max_entries: usize,
    /// Maximum memory of the answers, including tables and allocation overhead, bytes.
    pub max_bytes: usize,
    /// Which answers are kept.
    pub admission: AdmissionPolicy,
    /// Timeout of a lookup in the second level, where there is one.
    pub shared_timeout: Duration,
}

/// Which answers are kept when the cache is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionPolicy {
    /// Answers asked for more often: a frame seen once evicts none that repeats.
    #[default]
    TinyLfu,
    /// Recent answers: every answer is kept and evicts the least recently used one.
    Lru,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_entries: 10_000,
            max_bytes: 64 << 20,
            admission: AdmissionPolicy::default(),
            shared_timeout: Duration::from_millis(20),
        }
    }
}
