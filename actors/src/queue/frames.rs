//! The queue of decoded frames that workers pull from.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::rank::rank;
use crate::frame::Priority;
use crate::job::{RawFrame, Shed};

/// The queue. It outlives the actor, so a restart loses no frame; the permits bound it.
#[derive(Debug, Default)]
pub struct FrameQueue {
    state: Mutex<FrameQueueState>,
    changed: Condvar,
    /// Frames that were shed.
    shed: AtomicU64,
}

#[derive(Debug, Default)]
struct FrameQueueState {
    levels: [VecDeque<(Instant, RawFrame)>; 4],
    /// Workers that wait for a frame.
    idle: usize,
    /// Number of the current worker generation; workers of an older one exit.
    generation: u64,
    closed: bool,
}

impl FrameQueue {
    /// Queues a frame.
    pub fn push(&self, frame: RawFrame) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return drop(frame);
        }
        state.levels[frame.job.priority() as usize].push_back((Instant::now(), frame));
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Begins a new generation: workers of the current one exit.
    fn next_generation(&self) -> u64 {
        let mut state = self.lock();
        state.generation += 1;
        let generation = state.generation;
        drop(state);
        self.changed.notify_all();
        generation
    }

    /// Blocks until there is a frame to work on; `None` once the generation has ended or the queue is closed.
    pub fn next(&self, generation: u64) -> Option<RawFrame> {
        let mut state = self.lock();
        loop {
            if state.closed || state.generation != generation {
                return None;
            }
            if let Some(frame) = state.take_first(Instant::now()) {
                return Some(frame);
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Priority and arrival of the frame that would be shed for one of this priority.
    pub fn shed_candidate(&self, priority: Priority) -> Option<(Priority, Reverse<Instant>)> {
        let state = self.lock();
        let (lowest, at) = state.lowest_and_oldest(priority)?;
        let (_, oldest) = &state.levels[lowest][at];
        Some((oldest.job.priority(), Reverse(oldest.job.received_at)))
    }

    /// Sheds the oldest frame of the lowest priority, if that is not above `priority`. Where other frames
    /// wait for the same computation, it goes on for them.
    pub fn shed(&self, priority: Priority) -> Option<Shed<RawFrame>> {
        let mut state = self.lock();
        let (lowest, at) = state.lowest_and_oldest(priority)?;
        let (since, mut frame) = state.levels[lowest].remove(at)?;
        self.shed.fetch_add(1, Relaxed);
        let (responder, goes_on) = frame.job.shed_first(Instant::now());
        if goes_on {
            state.put_back(since, frame);
            return Some(Shed { responder, work: None });
        }
        Some(Shed { responder, work: Some(frame) })
    }

    /// Re-sorts after the priority of a queued frame has changed.
    pub fn reorder(&self) {
        let mut state = self.lock();
        for level in 0..state.levels.len() {
            while let Some(at) =
                state.levels[level].iter().position(|(_, frame)| frame.job.priority() as usize != level)
                && let Some((since, frame)) = state.levels[level].remove(at)
            {
                state.put_back(since, frame);
            }
        }
    }

    /// Number of frames that were shed.
    pub fn shed_count(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// Number of queued frames.
    pub fn depth(&self) -> usize {
        self.lock().levels.iter().map(VecDeque::len).sum()
    }

    /// Closes the queue, which ends the workers. Queued frames are dropped, and so answered.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let rest = std::mem::take(&mut state.levels);
        drop(state);
        drop(rest);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, FrameQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrameQueueState {
    /// Inserts a frame among those of its current priority, by the time since when it waits.
    fn put_back(&mut self, since: Instant, frame: RawFrame) {
        let level = &mut self.levels[frame.job.priority() as usize];
        let at = level.partition_point(|(other, _)| *other <= since);
        level.insert(at, (since, frame));
    }

    fn take_first(&mut self, now: Instant) -> Option<RawFrame> {
        let heads = self
            .levels
            .iter()
            .enumerate()
            .filter_map(|(level, queue)| queue.front().map(|(since, _)| rank(level, *since, now)));
        let (_, _, first) = heads.min()?;
        self.levels[first].pop_front().map(|(_, frame)| frame)
    }

    /// Place of the oldest frame of the lowest priority not above this one that can be shed.
    fn lowest_and_oldest(&self, priority: Priority) -> Option<(usize, usize)> {
        (priority as usize..self.levels.len()).rev().find_map(|level| {
            let at = self.levels[level].iter().position(|(_, frame)| !frame.job.is_session())?;
            Some((level, at))
        })
    }
}

/// A generation of workers. It ends when this is dropped.
#[derive(Debug)]
pub struct WorkerGeneration {
    frames: Arc<FrameQueue>,
    number: u64,
}

impl WorkerGeneration {
    /// Begins a new generation.
    pub fn begin(frames: &Arc<FrameQueue>) -> Self {
        Self { frames: Arc::clone(frames), number: frames.next_generation() }
    }

    /// Its number, with which its workers ask for frames.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for WorkerGeneration {
    fn drop(&mut self) {
        self.frames.next_generation();
    }
}
