//! Where decoded frames wait and workers pull from.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::frame::{Priority, RawFrame};
use crate::job::GivesWay;
use crate::priority::rank;

/// The queue. It outlives the actor, so a restart loses no frame; the permits bound it.
#[derive(Debug, Default)]
pub struct FrameQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    levels: [VecDeque<(Instant, RawFrame)>; 4],
    /// Workers that wait for a frame.
    idle: usize,
    /// Changes whenever workers are to go home that were hired before.
    shift: u64,
    closed: bool,
}

impl FrameQueue {
    /// Lets a frame wait for a worker.
    pub fn push(&self, frame: RawFrame) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            return drop(frame);
        }
        waiting.levels[frame.job.priority() as usize].push_back((Instant::now(), frame));
        let wake = waiting.idle > 0;
        drop(waiting);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Workers of the shift that ends here go home; those hired from now on belong to the next.
    fn change_shift(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.shift += 1;
        let shift = waiting.shift;
        drop(waiting);
        self.changed.notify_all();
        shift
    }

    /// Blocks until there is a frame to work on; `None` once the shift is over or the queue closed.
    pub fn next(&self, shift: u64) -> Option<RawFrame> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed || waiting.shift != shift {
                return None;
            }
            if let Some(frame) = waiting.take_first(Instant::now()) {
                return Some(frame);
            }
            waiting.idle += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }

    /// The lowest priority that waits and since when, if it is not above `priority`: who would give way.
    pub fn gives_way(&self, priority: Priority) -> Option<(Priority, Reverse<Instant>)> {
        let waiting = self.lock();
        let lowest = waiting.lowest(priority)?;
        let (_, oldest) = waiting.levels[lowest].front()?;
        Some((oldest.job.priority(), Reverse(oldest.job.received_at)))
    }

    /// Lets the oldest frame of the lowest priority give way, if that is not above `priority`. Where others wait for the same
    /// computation, it goes on for them.
    pub fn shed(&self, priority: Priority) -> Option<GivesWay<RawFrame>> {
        let mut waiting = self.lock();
        let lowest = waiting.lowest(priority)?;
        let (since, mut frame) = waiting.levels[lowest].pop_front()?;
        let (first, goes_on) = frame.job.give_way(Instant::now());
        if goes_on {
            waiting.put_back(since, frame);
            return Some(GivesWay { first, whole: None });
        }
        Some(GivesWay { first, whole: Some(frame) })
    }

    /// The priority of something that may wait here has changed.
    pub fn reorder(&self) {
        let mut waiting = self.lock();
        for level in 0..waiting.levels.len() {
            while let Some(at) = waiting.levels[level].iter().position(|(_, frame)| frame.job.priority() as usize != level)
                && let Some((since, frame)) = waiting.levels[level].remove(at)
            {
                waiting.put_back(since, frame);
            }
        }
    }

    /// Frames that wait.
    pub fn depth(&self) -> usize {
        self.lock().levels.iter().map(VecDeque::len).sum()
    }

    /// Sends the workers home; what still waits is dropped, and so answered.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let rest = std::mem::take(&mut waiting.levels);
        drop(waiting);
        drop(rest);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Puts a frame among those of its priority, where it would be had it always been of that.
    fn put_back(&mut self, since: Instant, frame: RawFrame) {
        let level = &mut self.levels[frame.job.priority() as usize];
        let at = level.partition_point(|(other, _)| *other <= since);
        level.insert(at, (since, frame));
    }

    fn take_first(&mut self, now: Instant) -> Option<RawFrame> {
        let heads = self.levels.iter().enumerate().filter_map(|(level, queue)| queue.front().map(|(since, _)| rank(level, *since, now)));
        let (_, _, first) = heads.min()?;
        self.levels[first].pop_front().map(|(_, frame)| frame)
    }

    fn lowest(&self, priority: Priority) -> Option<usize> {
        (priority as usize..self.levels.len()).rev().find(|&level| !self.levels[level].is_empty())
    }
}

/// The time for which workers are hired. Dropped, it is over.
#[derive(Debug)]
pub struct Shift {
    frames: Arc<FrameQueue>,
    number: u64,
}

impl Shift {
    /// A shift that begins now.
    pub fn begin(frames: &Arc<FrameQueue>) -> Self {
        Self { frames: Arc::clone(frames), number: frames.change_shift() }
    }

    /// What its workers ask for frames with.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        self.frames.change_shift();
    }
}
