//! Asks whether an equal frame has been answered before, so that a hit costs no FFT and no inference.
//!
//! Invariant: the entries outlive the actor, and only predictions are remembered.

mod config;
mod core;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

pub use config::Config;
use core::Entries;
use ractor::{Actor, ActorProcessingErr, ActorRef};
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
    entries: Mutex<Entries>,
}

impl CacheStore {
    /// An empty store.
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::new(Entries::new(config)) })
    }

    /// What is remembered under `key`.
    pub fn get(&self, key: &CacheKey, now: Instant) -> Option<Arc<Answer>> {
        self.lock().get(key, now)
    }

    /// Remembers an answer.
    pub fn insert(&self, key: CacheKey, answer: Arc<Answer>, now: Instant) {
        self.lock().insert(key, answer, now);
    }

    /// Entries and the bytes they take.
    pub fn size(&self) -> (usize, usize) {
        self.lock().size()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
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
