//! The cache's entries: least recently used, bounded by number, bytes and age.

use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::{CacheKey, Config};
use crate::outcome::Answer;

#[derive(Debug)]
struct Entry {
    answer: Arc<Answer>,
    expires_at: Instant,
    size: usize,
}

/// What an entry takes beside its answer: the key, the list's links, the table's slot.
const OVERHEAD: usize = 160;

/// The entries.
#[derive(Debug)]
pub struct Entries {
    lru: LruCache<CacheKey, Entry>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
    ttl: Duration,
}

impl Entries {
    /// No entries yet.
    pub fn new(config: &Config) -> Self {
        Self { lru: LruCache::unbounded(), bytes: 0, max_entries: config.max_entries, max_bytes: config.max_bytes, ttl: config.ttl }
    }

    /// What is remembered under `key`, if it is not too old.
    pub fn get(&mut self, key: &CacheKey, now: Instant) -> Option<Arc<Answer>> {
        let entry = self.lru.get(key)?;
        if entry.expires_at > now {
            return Some(Arc::clone(&entry.answer));
        }
        self.forget(key);
        None
    }

    /// Remembers an answer, at the cost of those not asked for longest.
    pub fn insert(&mut self, key: CacheKey, answer: Arc<Answer>, now: Instant) {
        let size = answer.size() + OVERHEAD;
        if size > self.max_bytes {
            return;
        }
        self.forget(&key);
        while self.lru.len() + 1 > self.max_entries || self.bytes + size > self.max_bytes {
            let Some((_, oldest)) = self.lru.pop_lru() else { return };
            self.bytes -= oldest.size;
        }
        self.bytes += size;
        self.lru.put(key, Entry { answer, expires_at: now + self.ttl, size });
    }

    /// Entries and the bytes they take.
    pub fn size(&self) -> (usize, usize) {
        (self.lru.len(), self.bytes)
    }

    fn forget(&mut self, key: &CacheKey) {
        if let Some(entry) = self.lru.pop(key) {
            self.bytes -= entry.size;
        }
    }
}
