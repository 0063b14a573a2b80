//! Asks whether an equal frame has been answered before, so that a hit costs no FFT and no inference.
//!
//! Invariant: the entries outlive the actor, and only predictions are remembered.

mod config;
mod core;
mod shared;
mod size;
mod sketch;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use config::{AdmissionPolicy, Config};
use core::Entries;
use ractor::{Actor, ActorProcessingErr, ActorRef};
pub use shared::{Lookup, Shared, SharedStats};
pub use stats::{CacheStats, Evicted};
use tokio::time::Instant;

pub use crate::frame::CacheKey;
use crate::frame::RawFrame;
use crate::model_pool::WorkQueue;
use crate::outcome::Answer;
use crate::preprocess::FrameQueue;

/// Address of the cache.
pub type CacheRef = ActorRef<CacheMsg>;

/// The entries, shared by the actor that asks and the sessions that answer.
#[derive(Debug)]
pub struct CacheStore {
    ttl: Duration,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    entries: Entries,
    hits: u64,
    misses: u64,
}

impl CacheStore {
    /// An empty store.
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { ttl: config.ttl, known: Mutex::new(Known { entries: Entries::new(config), hits: 0, misses: 0 }) })
    }

    /// What is remembered under `key`.
    pub fn get(&self, key: &CacheKey, now: Instant) -> Option<Arc<Answer>> {
        let mut known = self.lock();
        let answer = known.entries.get(key, now);
        *if answer.is_some() { &mut known.hits } else { &mut known.misses } += 1;
        answer
    }

    /// Remembers an answer.
    pub fn insert(&self, key: CacheKey, answer: Arc<Answer>, now: Instant) {
        self.lock().entries.insert(key, answer, self.ttl, now);
    }

    /// What the cache counts.
    pub fn stats(&self) -> CacheStats {
        let known = self.lock();
        let (entries, bytes) = known.entries.size();
        let (hits, misses, coalesced) = (known.hits, known.misses, 0);
        let saved = (hits + coalesced) as f64;
        let hit_rate = if saved > 0.0 { saved / (saved + misses as f64) } else { 0.0 };
        CacheStats { hits, misses, coalesced, hit_rate, entries, bytes, evicted: known.entries.evicted() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what it knows and passes on what it does not.
#[derive(Debug)]
pub struct Cache;

/// What the cache works with.
#[derive(Debug)]
pub struct CacheArguments {
    /// The entries.
    pub store: Arc<CacheStore>,
    /// Where a miss is to wait for a session; no features are computed of what could not make its deadline there.
    pub queue: Arc<WorkQueue>,
    /// Where a miss goes.
    pub frames: Arc<FrameQueue>,
}

/// What the cache is told.
#[derive(Debug)]
pub enum CacheMsg {
    /// Answer this frame, or pass it on.
    Lookup(Box<RawFrame>),
}

impl CacheArguments {
    fn look_up(&self, mut frame: RawFrame) {
        let now = Instant::now();
        if frame.job.is_settled(now) {
            return;
        }
        if let Some(key) = frame.cache_key {
            let answer = self.store.get(&key, now);
            if let Some(answer) = answer {
                frame.job.note(|trail| trail.looked_up = Some(Instant::now()));
                return frame.job.answer_from_cache(answer);
            }
            frame.job.remember = Some((Arc::clone(&self.store), key));
        }
        if let Err(failure) = frame.job.check().and_then(|()| self.queue.foresee(&frame.job)) {
            return frame.job.fail(failure);
        }
        frame.job.note(|trail| trail.looked_up = Some(Instant::now()));
        self.frames.push(frame);
    }
}

impl Actor for Cache {
    type Msg = CacheMsg;
    type State = CacheArguments;
    type Arguments = CacheArguments;

    async fn pre_start(&self, _: CacheRef, arguments: CacheArguments) -> Result<CacheArguments, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(&self, _: CacheRef, message: CacheMsg, state: &mut CacheArguments) -> Result<(), ActorProcessingErr> {
        match message {
            CacheMsg::Lookup(frame) => state.look_up(*frame),
        }
        Ok(())
    }
}
