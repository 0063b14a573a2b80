//! Where prepared frames wait and sessions pull from.
//!
//! A session that has finished takes its next batch itself, under the lock, without asking an actor first: no session idles while
//! frames wait. The queue outlives the pool actor, so a restarted pool neither loses frames nor takes a busy session for idle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Config;
use super::core::{Next, Schedulable, Scheduler};
use crate::frame::{ModelId, PreparedFrame, Priority};
use std::sync::Arc;

impl Schedulable for PreparedFrame {
    fn batch_key(&self) -> (&Arc<ModelId>, [usize; 3]) {
        (&self.job.model, self.tensor.shape)
    }

    fn max_batch(&self) -> usize {
        self.job.max_batch
    }

    fn priority(&self) -> Priority {
        self.job.priority
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.job.is_settled(now)
    }
}

/// The queue.
#[derive(Debug)]
pub struct WorkQueue {
    waiting: Mutex<Waiting>,
    pushed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    scheduler: Scheduler<PreparedFrame>,
    closed: bool,
}

impl WorkQueue {
    /// Nothing waits.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::new(Waiting { scheduler: Scheduler::new(config), closed: false }),
            pushed: Condvar::new(),
            dropped: AtomicU64::new(0),
        })
    }

    /// Lets a frame wait, or gives it back where the queue is full.
    pub fn push(&self, frame: PreparedFrame) -> Result<(), Box<PreparedFrame>> {
        self.lock().scheduler.push(frame, Instant::now()).map_err(Box::new)?;
        self.pushed.notify_one();
        Ok(())
    }

    /// Blocks until there is something to run; `None` once the queue is closed.
    pub fn next_batch(&self) -> Option<Vec<PreparedFrame>> {
        let mut dropped = Vec::new();
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            let now = Instant::now();
            let next = waiting.scheduler.next(now, &mut dropped);
            if !dropped.is_empty() {
                // Their answers are not given under the lock.
                drop(waiting);
                self.dropped.fetch_add(dropped.len() as u64, Ordering::Relaxed);
                dropped.clear();
                if let Next::Run(batch) = next
                    && !batch.is_empty()
                {
                    return Some(batch);
                }
                waiting = self.lock();
                continue;
            }
            waiting = match next {
                Next::Run(batch) => return Some(batch),
                Next::WaitUntil(then) => self.pushed.wait_timeout(waiting, then - now).unwrap_or_else(PoisonError::into_inner).0,
                Next::Idle => self.pushed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes out what has waited too long, and says when to look again.
    pub fn take_overdue(&self) -> (Vec<PreparedFrame>, Option<Instant>) {
        let mut waiting = self.lock();
        (waiting.scheduler.take_overdue(Instant::now()), waiting.scheduler.next_overdue())
    }

    /// Frames that wait.
    pub fn depth(&self) -> usize {
        self.lock().scheduler.len()
    }

    /// Frames that were dropped before they were run, because nobody waited for them any more.
    pub fn dropped_before_run(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends the sessions home; what still waits is dropped, and so answered.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let rest = waiting.scheduler.drain();
        drop(waiting);
        drop(rest);
        self.pushed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
