//! The queued items of one priority.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::time::Duration;

use tokio::time::Instant;

/// A queued item, since when it waits, and its predicted session time.
#[derive(Debug)]
pub struct Queued<T> {
    pub(super) item: T,
    pub(super) since: Instant,
    pub(super) cost: Duration,
}

/// Items in order of arrival. The sum of their session times is kept up to date, because it is read for every
/// arriving item.
#[derive(Debug)]
pub struct Lane<T> {
    entries: VecDeque<Queued<T>>,
    cost: Duration,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), cost: Duration::ZERO }
    }
}

impl<T> Lane<T> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn cost(&self) -> Duration {
        self.cost
    }

    pub fn front(&self) -> Option<&Queued<T>> {
        self.entries.front()
    }

    pub fn get(&self, at: usize) -> Option<&Queued<T>> {
        self.entries.get(at)
    }

    pub fn iter(&self) -> Iter<'_, Queued<T>> {
        self.entries.iter()
    }

    pub fn push_back(&mut self, entry: Queued<T>) {
        self.cost += entry.cost;
        self.entries.push_back(entry);
    }

    /// Inserts an item behind those that have waited as long.
    pub fn put_back(&mut self, entry: Queued<T>) {
        let at = self.entries.partition_point(|other| other.since <= entry.since);
        self.cost += entry.cost;
        self.entries.insert(at, entry);
    }

    pub fn remove(&mut self, at: usize) -> Option<Queued<T>> {
        let entry = self.entries.remove(at)?;
        self.cost -= entry.cost;
        Some(entry)
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Queued<T>> {
        std::mem::take(self).entries.into_iter()
    }
}
