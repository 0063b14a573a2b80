//! Answers hits and passes misses on, to be computed.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::cache::{self, CacheKey, CacheStore, Found, Lookup, Shared};
use crate::job::{RawFrame, WaitingFrame};
use crate::ports::Remembered;
use crate::queue::{FrameQueue, WorkQueue};
use crate::task::{LARGE, blocking_if};

/// Address of the cache.
pub type CacheRef = ActorRef<CacheMsg>;

/// Answers hits and passes misses on.
#[derive(Debug)]
pub struct Cache;

/// Arguments of the cache.
#[derive(Debug)]
pub struct CacheArguments {
    /// The entries.
    pub store: Arc<CacheStore>,
    /// The queue of the sessions: no features are computed of a frame that could not make its deadline there.
    pub queue: Arc<WorkQueue>,
    /// The queue that misses go to, where feature workers pull from it.
    pub frames: Arc<FrameQueue>,
    /// Whether there are feature workers; else the sessions compute the features.
    pub has_workers: bool,
}

/// Messages of the cache.
#[derive(Debug)]
pub enum CacheMsg {
    /// Look this frame up.
    Lookup(Box<RawFrame>),
    /// The second level had no answer for this frame.
    NotShared(Box<RawFrame>),
}

impl CacheArguments {
    fn look_up(&self, mut frame: RawFrame, myself: &CacheRef) {
        let now = Instant::now();
        if frame.job.is_settled(now) {
            return;
        }
        if !frame.is_cacheable {
            return self.compute(frame);
        }
        let is_large = frame.content.bytes() > LARGE;
        let key = blocking_if(is_large, || cache::key_of(&frame.content, &*frame.job.model));
        match self.store.find(key, frame.job.flight(), now) {
            Found::Hit(answer) => {
                frame.job.note(|trail| trail.looked_up = Some(Instant::now()));
                frame.job.answer_from_cache(&answer);
            }
            // The rest of the frame is dropped, which releases its bytes.
            Found::Joined { is_raised } => {
                if is_raised {
                    self.frames.reorder();
                    self.queue.reorder();
                }
            }
            Found::Nothing => {
                frame.job.remember = Some((Arc::clone(&self.store), key));
                match self
                    .store
                    .shared()
                    .and_then(|shared| Some((Arc::clone(shared), shared.try_lookup(now)?)))
                {
                    Some((shared, lookup)) => {
                        drop(tokio::spawn(ask_shared(shared, lookup, frame, key, myself.clone())))
                    }
                    None => self.compute(frame),
                }
            }
        }
    }

    fn compute(&self, frame: RawFrame) {
        // The queue of the sessions itself asks whether a frame that is pushed would make its deadline.
        let predicts = || if self.has_workers { self.queue.predict_deadline(&frame.job) } else { Ok(()) };
        if let Err(failure) = frame.job.check().and_then(|()| predicts()) {
            return frame.job.fail(failure);
        }
        let now = Instant::now();
        frame.job.note(|trail| {
            trail.looked_up = Some(now);
            trail.queued = (!self.has_workers).then_some(now);
        });
        if self.has_workers {
            self.frames.push(frame);
        } else {
            self.queue.push(WaitingFrame::Raw { frame, since: now });
        }
    }
}

/// Looks up the second level outside the actor's loop, which continues meanwhile.
async fn ask_shared(
    shared: Arc<Shared>,
    lookup: Lookup,
    mut frame: RawFrame,
    key: CacheKey,
    cache: CacheRef,
) {
    match shared.get(lookup, key, &*frame.job.model).await {
        Some(Remembered { answer, age }) => {
            let answer = Arc::new(answer);
            if let Some((store, key)) = frame.job.remember.take() {
                let (flight, model) = (frame.job.flight(), frame.job.model.id());
                store.finish_from_shared(key, flight, model, &answer, age, Instant::now());
            }
            frame.job.answer_from_cache(&answer);
        }
        // If the cache actor has ended, the frame comes back in the error, is dropped, and so answered.
        None => drop(cache.send_message(CacheMsg::NotShared(Box::new(frame)))),
    }
}

impl Actor for Cache {
    type Msg = CacheMsg;
    type State = CacheArguments;
    type Arguments = CacheArguments;

    async fn pre_start(
        &self,
        _: CacheRef,
        arguments: CacheArguments,
    ) -> Result<CacheArguments, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: CacheRef,
        message: CacheMsg,
        state: &mut CacheArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CacheMsg::Lookup(frame) => state.look_up(*frame, &myself),
            CacheMsg::NotShared(frame) if frame.job.is_settled(Instant::now()) => {}
            CacheMsg::NotShared(frame) => state.compute(*frame),
        }
        Ok(())
    }
}
