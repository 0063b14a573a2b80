//! The entries, and the computations in progress that equal frames may join.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use super::core::Entries;
use super::shared::Shared;
use super::stats::CacheStats;
use crate::frame::{CacheKey, ModelId};
use crate::outcome::Answer;
use crate::reply::{Flight, Joining};

/// The entries, shared by the actor and the sessions.
#[derive(Debug)]
pub struct CacheStore {
    ttl: Duration,
    known: Mutex<Known>,
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Known {
    entries: Entries,
    /// Computations in progress that equal frames may join.
    flights: HashMap<CacheKey, Weak<Flight>>,
    hits: u64,
    misses: u64,
    coalesced: u64,
}

/// Result of a lookup.
#[derive(Debug)]
pub enum Found {
    /// The answer is cached.
    Hit(Arc<Answer>),
    /// The answer is being computed; the frame waits for it.
    Joined {
        /// Whether the frame raised the priority of the computation.
        is_raised: bool,
    },
    /// The answer is not known. Equal frames may join the computation of this one.
    Nothing,
}

impl Known {
    /// Ends joining of this flight. Another one may have replaced it already.
    fn close(&mut self, key: &CacheKey, flight: &Arc<Flight>) {
        if let Entry::Occupied(entry) = self.flights.entry(*key)
            && std::ptr::eq(entry.get().as_ptr(), Arc::as_ptr(flight))
        {
            entry.remove();
        }
    }
}

impl CacheStore {
    /// An empty store without a second level.
    pub fn new(config: &Config) -> Arc<Self> {
        Self::with_shared(None, config)
    }

    /// An empty store in front of a second level.
    pub fn with_shared(shared: Option<Arc<Shared>>, config: &Config) -> Arc<Self> {
        let known = Known {
            entries: Entries::new(config),
            flights: HashMap::new(),
            hits: 0,
            misses: 0,
            coalesced: 0,
        };
        Arc::new(Self { ttl: config.ttl, known: Mutex::new(known), shared })
    }

    /// The answer cached under `key`.
    pub fn get(&self, key: &CacheKey, now: Instant) -> Option<Arc<Answer>> {
        let mut known = self.lock();
        let answer = known.entries.get(key, now);
        *if answer.is_some() { &mut known.hits } else { &mut known.misses } += 1;
        answer
    }

    /// Caches an answer.
    pub fn insert(&self, key: CacheKey, model: &Arc<ModelId>, answer: Arc<Answer>, now: Instant) {
        self.lock().entries.insert(key, model, answer, self.ttl, now);
    }

    /// Removes the answers of models that are meant from the first level; returns how many.
    pub fn clear(&self, is_meant: impl Fn(&ModelId) -> bool) -> usize {
        self.lock().entries.clear(is_meant)
    }

    /// Looks up the answer under `key`, or joins `flight` to a computation of it.
    pub fn find(&self, key: CacheKey, flight: &Arc<Flight>, now: Instant) -> Found {
        let mut known = self.lock();
        if let Some(answer) = known.entries.get(&key, now) {
            known.hits += 1;
            return Found::Hit(answer);
        }
        if let Some(under_way) = known.flights.get(&key).and_then(Weak::upgrade) {
            let joining = under_way.join(flight, now);
            if joining != Joining::Over {
                known.coalesced += 1;
                return Found::Joined { is_raised: joining == Joining::Raised };
            }
        }
        known.flights.insert(key, Arc::downgrade(flight));
        known.misses += 1;
        Found::Nothing
    }

    /// Caches the answer of a computation; no frame can join it any more.
    pub fn finish(
        &self,
        key: CacheKey,
        flight: &Arc<Flight>,
        model: &Arc<ModelId>,
        answer: &Arc<Answer>,
        now: Instant,
    ) {
        if let Some(shared) = &self.shared {
            shared.put(key, Arc::clone(answer));
        }
        let mut known = self.lock();
        known.entries.insert(key, model, Arc::clone(answer), self.ttl, now);
        known.close(&key, flight);
    }

    /// Caches an answer of the second level.
    pub fn finish_from_shared(
        &self,
        key: CacheKey,
        flight: &Arc<Flight>,
        model: &Arc<ModelId>,
        answer: &Arc<Answer>,
        age: Duration,
        now: Instant,
    ) {
        let mut known = self.lock();
        (known.misses, known.hits) = (known.misses - 1, known.hits + 1);
        known.entries.insert(key, model, Arc::clone(answer), self.ttl.saturating_sub(age), now);
        known.close(&key, flight);
    }

    /// Ends a computation without an answer.
    pub fn abandon(&self, key: &CacheKey, flight: &Arc<Flight>) {
        self.lock().close(key, flight);
    }

    /// The second level, where there is one.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// The statistics.
    pub fn stats(&self) -> CacheStats {
        let known = self.lock();
        let (entries, bytes) = known.entries.size();
        let Known { hits, misses, coalesced, .. } = *known;
        let saved = (hits + coalesced) as f64;
        let hit_rate = if saved > 0.0 { saved / (saved + misses as f64) } else { 0.0 };
        let shared = self.shared.as_ref().map(|shared| shared.stats());
        CacheStats {
            hits,
            misses,
            coalesced,
            hit_rate,
            entries,
            bytes,
            evicted: known.entries.evicted(),
            shared,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
