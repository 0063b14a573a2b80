//! Statistics of the cache.

use serde::Serialize;

use super::shared::SharedStats;

/// Counts since the cache was created, and its current state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CacheStats {
    /// Frames answered from the cache or the shared level.
    pub hits: u64,
    /// Frames that had to be computed.
    pub misses: u64,
    /// Frames that waited for an equal one that was being computed.
    pub coalesced: u64,
    /// Share of the lookups that needed no run of their own; 0 where there were none.
    pub hit_rate: f64,
    /// Cached answers.
    pub entries: usize,
    /// Their memory, bytes.
    pub bytes: usize,
    /// Evicted answers.
    pub evicted: Evicted,
    /// The second level; `None` where there is none.
    pub shared: Option<SharedStats>,
}

/// The bound that an eviction is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `max_entries`.
    Entries,
    /// `max_bytes`.
    Bytes,
}

/// Evicted answers by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// `cache.max_entries`.
    pub size: u64,
    /// `cache.ttl`.
    pub age: u64,
    /// `cache.max_bytes`.
    pub bytes: u64,
    /// Less often asked for than the entries it would have replaced.
    pub not_admitted: u64,
}

impl Evicted {
    /// Counts an eviction due to this bound, or to age.
    pub(super) fn count(&mut self, bound: Option<Bound>) {
        *match bound {
            Some(Bound::Entries) => &mut self.size,
            Some(Bound::Bytes) => &mut self.bytes,
            None => &mut self.age,
        } += 1;
    }
}
