//! The batch scheduler: plain, synchronous, told the time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use super::lane::{Lane, Queued};
use crate::frame::{ModelId, Priority};
use crate::priority::rank;

/// A wait counts for this much more than was measured: runs that take a little longer than the mean must not make a whole queue late, of
/// which each frame would then be begun and ended by its deadline in the middle.
pub const HEADROOM: f64 = 1.1;

/// What the scheduler needs to know of a waiting item.
pub trait Schedulable {
    /// Items of one run have the same.
    fn batch_key(&self) -> (&Arc<ModelId>, [usize; 3]);
    /// The most items of its kind in one run.
    fn max_batch(&self) -> usize;
    /// How urgent it is.
    fn priority(&self) -> Priority;
    /// When it arrived, which may be long before it began to wait here.
    fn arrived_at(&self) -> Instant;
    /// Whether nobody waits for it any more.
    fn is_settled(&self, now: Instant) -> bool;
}

/// Who else the sessions work for.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many there are.
    pub sessions: usize,
    /// How many of them are in a run.
    pub busy: usize,
    /// What is left of those runs, summed over the sessions, as far as their times were foreseen.
    pub left: Duration,
}

/// Why an item may not wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may.
    Full,
    /// By the measured service time it would be done only after its deadline.
    TooLate {
        /// When it would be done.
        after: Duration,
        /// What is left of its budget.
        budget: Duration,
        /// Items that would be run before it.
        ahead: usize,
    },
}

/// What a free session is to do.
#[derive(Debug)]
pub enum Next<T> {
    /// Run these together.
    Run(Vec<T>),
    /// Look again then, or when something is pushed.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Items that wait for a session: first come, first served within a priority.
#[derive(Debug)]
pub struct Scheduler<T> {
    config: Config,
    lanes: [Lane<T>; 4],
}

impl<T: Schedulable> Scheduler<T> {
    /// Nothing waits.
    pub fn new(config: Config) -> Self {
        Self { config, lanes: Default::default() }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }

    /// What the waiting items cost together.
    pub fn cost(&self) -> Duration {
        self.lanes.iter().map(Lane::cost).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an item that costs a session this much could be done by its deadline: what waits before it, by priority and age, and what
    /// runs now, spread over the sessions, then itself. Where it would be begun at once nothing is foreseen: a run is the only measurement there is.
    pub fn check(&self, priority: Priority, deadline: Instant, cost: Duration, load: Load, now: Instant) -> Result<(), Refusal> {
        let own = rank(priority as usize, now, now);
        let (mut ahead, mut waiting) = (0, Duration::ZERO);
        let (as_urgent, others) = self.lanes.split_at(priority as usize + 1);
        for lane in as_urgent {
            ahead += lane.len();
            waiting += lane.cost();
        }
        for (level, lane) in (as_urgent.len()..).zip(others) {
            for entry in lane.iter().take_while(|entry| rank(level, entry.since, now) < own) {
                ahead += 1;
                waiting += entry.cost;
            }
        }
        // Each of those before it will find a free session, and so will it.
        if ahead + load.busy < load.sessions {
            return Ok(());
        }
        let wait = (waiting + load.left) / u32::try_from(load.sessions.max(1)).unwrap_or(u32::MAX);
        let after = wait.mul_f64(HEADROOM) + cost;
        let budget = deadline.saturating_duration_since(now);
        if after > budget { Err(Refusal::TooLate { after, budget, ahead }) } else { Ok(()) }
    }

    /// Whether an item of this priority may wait, because there is room or because another one gives way.
    pub fn has_room(&self, priority: Priority) -> bool {
        self.len() < self.config.queue || self.config.shed_oldest && self.lanes[priority as usize..].iter().any(|lane| !lane.is_empty())
    }

    /// Lets an item wait that costs a session this much, or gives it back where the queue is full and nobody gives way; the one that
    /// gave way comes back in its place.
    pub fn push(&mut self, item: T, cost: Duration, now: Instant) -> Result<Option<T>, T> {
        if !self.has_room(item.priority()) {
            return Err(item);
        }
        let displaced = (self.len() >= self.config.queue).then(|| self.shed(item.priority())).flatten();
        self.lanes[item.priority() as usize].push_back(Queued { item, since: now, cost });
        Ok(displaced)
    }

    /// The oldest item of the lowest priority, if that is not above `priority`: the one that would give way.
    pub fn shed_candidate(&self, priority: Priority) -> Option<&T> {
        let (level, at) = self.lowest_and_oldest(priority)?;
        self.lanes[level].get(at).map(|entry| &entry.item)
    }

    /// Takes out the one that gives way.
    pub fn shed(&mut self, priority: Priority) -> Option<T> {
        self.take_oldest(priority).map(|entry| entry.item)
    }

    /// The same, with what [`put_back`](Self::put_back) needs.
    pub fn take_oldest(&mut self, priority: Priority) -> Option<Queued<T>> {
        let (level, at) = self.lowest_and_oldest(priority)?;
        self.lanes[level].remove(at)
    }

    fn lowest_and_oldest(&self, priority: Priority) -> Option<(usize, usize)> {
        let level = (priority as usize..self.lanes.len()).rev().find(|&level| !self.lanes[level].is_empty())?;
        let oldest = self.lanes[level].iter().enumerate().min_by_key(|(_, entry)| entry.item.arrived_at());
        oldest.map(|(at, _)| (level, at))
    }

    /// Puts an entry among those of its priority, where it would be had it always been of that.
    pub fn put_back(&mut self, entry: Queued<T>) {
        self.lanes[entry.item.priority() as usize].put_back(entry);
    }

    /// Puts items among those of their priority whose priority is another one than when they came.
    pub fn reorder(&mut self) {
        for level in 0..self.lanes.len() {
            while let Some(at) = self.lanes[level].iter().position(|entry| entry.item.priority() as usize != level)
                && let Some(entry) = self.lanes[level].remove(at)
            {
                self.put_back(entry);
            }
        }
    }

    /// The next run, if there is one; items nobody waits for go to `dropped` unrun.
    pub fn next(&mut self, now: Instant, dropped: &mut Vec<T>) -> Next<T> {
        let order = loop {
            let order = self.order(now);
            let Some(&first) = order.first() else { return Next::Idle };
            if !self.lanes[first].front().is_some_and(|head| head.item.is_settled(now)) {
                break order;
            }
            dropped.extend(self.lanes[first].remove(0).map(|entry| entry.item));
        };
        self.form(&order, now, dropped)
    }

    /// Takes out what has waited for `acquire_timeout`.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<T> {
        let timeout = self.config.acquire_timeout;
        let mut overdue = Vec::new();
        for lane in &mut self.lanes {
            while lane.front().is_some_and(|entry| now >= entry.since + timeout) {
                overdue.extend(lane.remove(0).map(|entry| entry.item));
            }
        }
        overdue
    }

    /// When the next item will have waited for `acquire_timeout`.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::front).map(|entry| entry.since + self.config.acquire_timeout).min()
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<T> {
        self.lanes.iter_mut().flat_map(Lane::drain).map(|entry| entry.item).collect()
    }

    /// The lanes that hold something, the one to be served first in front: by the priority of its head, raised by its age.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut heads: Vec<_> =
            self.lanes.iter().enumerate().filter_map(|(level, lane)| lane.front().map(|head| rank(level, head.since, now))).collect();
        heads.sort_unstable();
        heads.into_iter().map(|(_, _, level)| level).collect()
    }

    /// Forms a batch around the head of the first lane.
    fn form(&mut self, order: &[usize], now: Instant, dropped: &mut Vec<T>) -> Next<T> {
        let Some(head) = order.first().and_then(|&first| self.lanes[first].front()) else { return Next::Idle };
        let (model, shape) = head.item.batch_key();
        let key = (Arc::clone(model), shape);
        let limit = head.item.max_batch().min(self.config.max_batch).max(1);
        let fits = |entry: &Queued<T>| {
            let (model, shape) = entry.item.batch_key();
            shape == key.1 && *model == key.0
        };
        let ripe_at = head.since + self.config.max_batch_delay;
        if now < ripe_at && limit > 1 {
            let waiting = self.lanes.iter().flat_map(Lane::iter).filter(|entry| fits(entry)).take(limit).count();
            if waiting < limit {
                return Next::WaitUntil(ripe_at);
            }
        }
        let mut batch = Vec::with_capacity(limit);
        for &level in order {
            let lane = &mut self.lanes[level];
            let mut at = 0;
            while batch.len() < limit
                && let Some(entry) = lane.get(at)
            {
                if !fits(entry) {
                    at += 1;
                } else if let Some(entry) = lane.remove(at) {
                    if entry.item.is_settled(now) { dropped.push(entry.item) } else { batch.push(entry.item) }
                }
            }
        }
        Next::Run(batch)
    }
}
