//! The batch scheduler: plain, synchronous, told the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use crate::frame::{ModelId, Priority};

/// After this long a waiting item counts as one priority higher, so that none starves.
pub const AGEING: Duration = Duration::from_millis(250);

/// What the scheduler needs to know of a waiting item.
pub trait Schedulable {
    /// Items of one run have the same.
    fn batch_key(&self) -> (&Arc<ModelId>, [usize; 3]);
    /// The most items of its kind in one run.
    fn max_batch(&self) -> usize;
    /// How urgent it is.
    fn priority(&self) -> Priority;
    /// Whether nobody waits for it any more.
    fn is_settled(&self, now: Instant) -> bool;
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

#[derive(Debug)]
struct Entry<T> {
    item: T,
    since: Instant,
}

/// Items that wait for a session: first come, first served within a priority.
#[derive(Debug)]
pub struct Scheduler<T> {
    config: Config,
    queues: [VecDeque<Entry<T>>; 4],
}

impl<T: Schedulable> Scheduler<T> {
    /// Nothing waits.
    pub fn new(config: Config) -> Self {
        Self { config, queues: Default::default() }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets an item wait, or gives it back where the queue is full.
    pub fn push(&mut self, item: T, now: Instant) -> Result<(), T> {
        if self.len() >= self.config.queue {
            return Err(item);
        }
        self.queues[item.priority() as usize].push_back(Entry { item, since: now });
        Ok(())
    }

    /// The next run, if there is one; items nobody waits for go to `dropped` unrun.
    pub fn next(&mut self, now: Instant, dropped: &mut Vec<T>) -> Next<T> {
        let order = loop {
            let order = self.order(now);
            let Some(&first) = order.first() else { return Next::Idle };
            match self.queues[first].pop_front() {
                Some(entry) if entry.item.is_settled(now) => dropped.push(entry.item),
                Some(entry) => {
                    self.queues[first].push_front(entry);
                    break order;
                }
                None => return Next::Idle,
            }
        };
        self.form(&order, now, dropped)
    }

    /// Takes out what has waited for `acquire_timeout`.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<T> {
        let timeout = self.config.acquire_timeout;
        let mut overdue = Vec::new();
        for queue in &mut self.queues {
            while queue.front().is_some_and(|entry| now >= entry.since + timeout) {
                overdue.extend(queue.pop_front().map(|entry| entry.item));
            }
        }
        overdue
    }

    /// When the next item will have waited for `acquire_timeout`.
    pub fn next_overdue(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.front()).map(|entry| entry.since + self.config.acquire_timeout).min()
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<T> {
        self.queues.iter_mut().flat_map(|queue| queue.drain(..)).map(|entry| entry.item).collect()
    }

    /// The queues that hold something, the one to be served first in front: by the priority of its head, raised by its age.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut heads: Vec<_> = self
            .queues
            .iter()
            .enumerate()
            .filter_map(|(level, queue)| queue.front().map(|head| (level, head.since)))
            .map(|(level, since)| {
                let steps = (now - since).as_nanos() / AGEING.as_nanos();
                (level.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX)), since, level)
            })
            .collect();
        heads.sort_unstable();
        heads.into_iter().map(|(_, _, level)| level).collect()
    }

    /// Forms a batch around the head of the first queue.
    fn form(&mut self, order: &[usize], now: Instant, dropped: &mut Vec<T>) -> Next<T> {
        let Some(head) = order.first().and_then(|&first| self.queues[first].front()) else { return Next::Idle };
        let (model, shape) = head.item.batch_key();
        let key = (Arc::clone(model), shape);
        let limit = head.item.max_batch().min(self.config.max_batch).max(1);
        let fits = |entry: &Entry<T>| {
            let (model, shape) = entry.item.batch_key();
            shape == key.1 && *model == key.0
        };
        let ripe_at = head.since + self.config.max_batch_delay;
        if now < ripe_at && limit > 1 {
            let waiting = self.queues.iter().flatten().filter(|entry| fits(entry)).take(limit).count();
            if waiting < limit {
                return Next::WaitUntil(ripe_at);
            }
        }
        let mut batch = Vec::with_capacity(limit);
        for &level in order {
            let queue = &mut self.queues[level];
            let mut at = 0;
            while batch.len() < limit && at < queue.len() {
                if !fits(&queue[at]) {
                    at += 1;
                } else if let Some(entry) = queue.remove(at) {
                    if entry.item.is_settled(now) { dropped.push(entry.item) } else { batch.push(entry.item) }
                }
            }
        }
        Next::Run(batch)
    }
}
