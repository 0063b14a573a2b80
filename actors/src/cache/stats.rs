//! What the cache counts.

use serde::Serialize;

use super::core::Bound;
use super::shared::SharedStats;

/// Counts since the cache was made, and what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CacheStats {
    /// Frames answered from memory or from the shared level.
    pub hits: u64,
    /// Frames that had to be computed.
    pub misses: u64,
    /// Frames that waited for an equal one that was being computed.
    pub coalesced: u64,
    /// Share of all of these that needed no run of their own; 0 where there were none.
    pub hit_rate: f64,
    /// Answers held.
    pub entries: usize,
    /// Memory they take, bytes.
    pub bytes: usize,
    /// Answers that had to go.
    pub evicted: Evicted,
    /// The second level; `None` where there is none.
    pub shared: Option<SharedStats>,
}

/// Answers that had to go, by what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// `cache.max_entries`.
    pub size: u64,
    /// `cache.ttl`.
    pub age: u64,
    /// `cache.max_bytes`.
    pub bytes: u64,
    /// Answers asked for more often.
    pub not_admitted: u64,
}

impl Evicted {
    /// One more had to go for this bound, or for its age.
    pub(super) fn count(&mut self, bound: Option<Bound>) {
        *match bound {
            Some(Bound::Entries) => &mut self.size,
            Some(Bound::Bytes) => &mut self.bytes,
            None => &mut self.age,
        } += 1;
    }
}
