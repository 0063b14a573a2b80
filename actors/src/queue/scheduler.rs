//! The batch scheduler: plain and synchronous, the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::config::Config;
use super::lane::{Lane, Queued};
use super::rank::rank;
use crate::frame::Priority;

/// Safety factor on predicted waits, so that a slow run does not make a whole queue late.
pub const HEADROOM: f64 = 1.1;

/// Properties of a queued item.
pub trait Schedulable {
    /// Whether both may be in one run.
    fn can_share_run(&self, other: &Self) -> bool;
    /// Maximum batch size for this item.
    fn max_batch(&self) -> usize;
    /// How urgent it is.
    fn priority(&self) -> Priority;
    /// Arrival of the frame, which may be long before it was queued here.
    fn arrived_at(&self) -> Instant;
    /// Whether it was answered or has expired.
    fn is_settled(&self, now: Instant) -> bool;
    /// Whether another item may take its place.
    fn can_be_shed(&self) -> bool {
        true
    }
}

/// Current load of the sessions.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Number of sessions.
    pub sessions: usize,
    /// Sessions in a run.
    pub busy: usize,
    /// Predicted remaining time of those runs, summed over the sessions.
    pub left: Duration,
}

/// Why an item is not queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotQueued {
    /// The queue is full.
    Full,
    /// By the measured service time it would finish after its deadline.
    TooLate {
        /// Predicted time until it would finish.
        after: Duration,
        /// Time until its deadline.
        budget: Duration,
        /// Items that would run before it.
        ahead: usize,
    },
}

/// What a free session does next.
#[derive(Debug)]
pub enum Next<T> {
    /// Run these together.
    Run(Vec<T>),
    /// Ask again then, or when an item is pushed.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// The queue: first come, first served within a priority.
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

    /// Predicted session time of all queued items.
    pub fn cost(&self) -> Duration {
        self.lanes.iter().map(Lane::cost).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Predicts whether an item with this session time finishes by its deadline: the items before it, by
    /// priority and age, and the current runs, spread over the sessions, then the item itself. An item that
    /// would begin at once always passes, because only a run updates the measurement.
    pub fn check(
        &self,
        priority: Priority,
        deadline: Instant,
        cost: Duration,
        load: Load,
        now: Instant,
    ) -> Result<(), NotQueued> {
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
        // There is a free session for each of the items before it and for itself.
        if ahead + load.busy < load.sessions {
            return Ok(());
        }
        let wait = (waiting + load.left) / u32::try_from(load.sessions.max(1)).unwrap_or(u32::MAX);
        let after = wait.mul_f64(HEADROOM) + cost;
        let budget = deadline.saturating_duration_since(now);
        if after > budget { Err(NotQueued::TooLate { after, budget, ahead }) } else { Ok(()) }
    }

    /// Whether an item of this priority can be queued: there is room, or another item can be shed.
    pub fn has_room(&self, priority: Priority) -> bool {
        self.len() < self.config.queue
            || self.config.shed_oldest && self.lowest_and_oldest(priority).is_some()
    }

    /// Queues an item with this session time, or returns it as an error where the queue is full and no item
    /// can be shed. Returns the item that was shed, if any.
    pub fn push(&mut self, item: T, cost: Duration, now: Instant) -> Result<Option<T>, T> {
        if !self.has_room(item.priority()) {
            return Err(item);
        }
        let displaced = (self.len() >= self.config.queue).then(|| self.shed(item.priority())).flatten();
        self.lanes[item.priority() as usize].push_back(Queued { item, since: now, cost });
        Ok(displaced)
    }

    /// The item that would be shed: the oldest of the lowest priority, if that is not above `priority`.
    pub fn shed_candidate(&self, priority: Priority) -> Option<&T> {
        let (level, at) = self.lowest_and_oldest(priority)?;
        self.lanes[level].get(at).map(|entry| &entry.item)
    }

    /// Removes that item.
    pub fn shed(&mut self, priority: Priority) -> Option<T> {
        self.take_oldest(priority).map(|entry| entry.item)
    }

    /// Removes that item with its entry, for [`put_back`](Self::put_back).
    pub fn take_oldest(&mut self, priority: Priority) -> Option<Queued<T>> {
        let (level, at) = self.lowest_and_oldest(priority)?;
        self.lanes[level].remove(at)
    }

    fn lowest_and_oldest(&self, priority: Priority) -> Option<(usize, usize)> {
        (priority as usize..self.lanes.len()).rev().find_map(|level| {
            let entries = self.lanes[level].iter().enumerate();
            let oldest = entries
                .filter(|(_, entry)| entry.item.can_be_shed())
                .min_by_key(|(_, entry)| entry.item.arrived_at());
            oldest.map(|(at, _)| (level, at))
        })
    }

    /// Inserts an entry in the lane of its current priority, by the time since when it waits.
    pub fn put_back(&mut self, entry: Queued<T>) {
        self.lanes[entry.item.priority() as usize].put_back(entry);
    }

    /// Moves items whose priority has changed to the lane of their current priority.
    pub fn reorder(&mut self) {
        for level in 0..self.lanes.len() {
            while let Some(at) =
                self.lanes[level].iter().position(|entry| entry.item.priority() as usize != level)
                && let Some(entry) = self.lanes[level].remove(at)
            {
                self.put_back(entry);
            }
        }
    }

    /// The next run, if there is one; items that are settled go to `dropped` unrun.
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

    /// Removes the items that have waited for `acquire_timeout`.
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

    /// When the next item reaches `acquire_timeout`.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::front).map(|entry| entry.since + self.config.acquire_timeout).min()
    }

    /// Removes all items.
    pub fn drain(&mut self) -> Vec<T> {
        self.lanes.iter_mut().flat_map(Lane::drain).map(|entry| entry.item).collect()
    }

    /// The lanes that are not empty, in the order of service: by the priority of the first item, raised with
    /// its age.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut heads: Vec<_> = self
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(level, lane)| lane.front().map(|head| rank(level, head.since, now)))
            .collect();
        heads.sort_unstable();
        heads.into_iter().map(|(_, _, level)| level).collect()
    }

    /// Forms a batch around the head of the first lane.
    fn form(&mut self, order: &[usize], now: Instant, dropped: &mut Vec<T>) -> Next<T> {
        let Some(&first) = order.first() else { return Next::Idle };
        let Some(head) = self.lanes[first].front() else { return Next::Idle };
        let limit = head.item.max_batch().min(self.config.max_batch).max(1);
        let ripe_at = head.since + self.config.max_batch_delay;
        if now < ripe_at && limit > 1 {
            let fits = |entry: &&Queued<T>| entry.item.can_share_run(&head.item);
            let waiting = self.lanes.iter().flat_map(Lane::iter).filter(fits).take(limit).count();
            if waiting < limit {
                return Next::WaitUntil(ripe_at);
            }
        }
        let mut batch = Vec::with_capacity(limit);
        // `next` has asked whether the head is settled.
        batch.extend(self.lanes[first].remove(0).map(|head| head.item));
        for &level in order {
            let lane = &mut self.lanes[level];
            let mut at = 0;
            while batch.len() < limit
                && let Some(entry) = lane.get(at)
            {
                if !batch.first().is_some_and(|head| entry.item.can_share_run(head)) {
                    at += 1;
                } else if let Some(entry) = lane.remove(at) {
                    if entry.item.is_settled(now) { dropped.push(entry.item) } else { batch.push(entry.item) }
                }
            }
        }
        Next::Run(batch)
    }
}
