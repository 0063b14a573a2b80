//! The second level: a cache outside the daemon, asked within a bound and never in the way.
//!
//! Invariant: whatever becomes of it, a lookup ends within its timeout and a frame is never failed for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::CacheKey;
use crate::frame::ModelId;
use crate::outcome::Answer;
use crate::ports::{Remembered, SharedCache};
use crate::supervision::Task;

/// Lookups under way at once; further misses are computed without asking.
const LOOKUPS: usize = 64;
/// Answers that wait to be written; further ones are dropped.
const WRITES: usize = 256;
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// After this many lookups in a row that failed, it is left alone for a while, so that frames do not wait for what is gone.
const FAILURES: u32 = 5;
/// That while.
const REST: Duration = Duration::from_secs(1);

/// The second level as the cache sees it.
#[derive(Debug)]
pub struct Shared {
    port: Port,
    timeout: Duration,
    lookups: Arc<Semaphore>,
    rest: Mutex<Rest>,
    writes: mpsc::Sender<Write>,
    counters: Arc<Counters>,
    _writing: Task,
}

/// The right to ask once.
#[derive(Debug)]
pub struct Lookup {
    _place: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct Port(Arc<dyn SharedCache>);

#[derive(Debug)]
struct Write {
    key: CacheKey,
    model: Arc<ModelId>,
    answer: Arc<Answer>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SharedStats {
    /// Lookups that found an answer.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Lookups without an answer within `cache.shared.timeout`.
    pub timeouts: u64,
    /// Lookups and writes that failed: it was gone, or what it held was no answer.
    pub errors: u64,
    /// Misses for which it was not asked: too many lookups were under way, or it had failed too often just before.
    pub not_asked: u64,
    /// Answers written.
    pub writes: u64,
    /// Answers not written: too many were waiting, or the write failed.
    pub dropped_writes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    timeouts: AtomicU64,
    errors: AtomicU64,
    not_asked: AtomicU64,
    writes: AtomicU64,
    dropped_writes: AtomicU64,
}

impl Shared {
    /// Starts the task that writes.
    pub fn start(port: Arc<dyn SharedCache>, timeout: Duration) -> Arc<Self> {
        let (writes, writing) = mpsc::channel(WRITES);
        let (port, counters) = (Port(port), Arc::<Counters>::default());
        let writing = Task::spawn(write_all(port.clone(), writing, Arc::clone(&counters)));
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        Arc::new(Self { port, timeout, lookups, rest: Mutex::default(), writes, counters, _writing: writing })
    }

    /// Leave to ask; `None` where the frame is to be computed without.
    pub fn try_lookup(&self, now: Instant) -> Option<Lookup> {
        let place = if self.rest().is_over(now) { Arc::clone(&self.lookups).try_acquire_owned().ok() } else { None };
        if place.is_none() {
            self.counters.not_asked.fetch_add(1, Relaxed);
        }
        place.map(|place| Lookup { _place: place })
    }

    /// Asks. `None` where there is no answer, whatever the reason.
    pub async fn get(&self, _: Lookup, key: CacheKey, model: &Arc<ModelId>) -> Option<Remembered> {
        let asked = timeout(self.timeout, self.port.0.get(key, Arc::clone(model))).await;
        let count = match &asked {
            Ok(Ok(Some(_))) => &self.counters.hits,
            Ok(Ok(None)) => &self.counters.misses,
            Ok(Err(_)) => &self.counters.errors,
            Err(_) => &self.counters.timeouts,
        };
        count.fetch_add(1, Relaxed);
        match asked {
            Ok(Ok(found)) => {
                self.rest().went_well();
                found
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the shared cache could not be asked");
                self.rest().failed(Instant::now());
                None
            }
            Err(_) => {
                self.rest().failed(Instant::now());
                None
            }
        }
    }

    /// Lets an answer be written, if not too many wait for that.
    pub fn put(&self, key: CacheKey, model: Arc<ModelId>, answer: Arc<Answer>) {
        if self.writes.try_send(Write { key, model, answer }).is_err() {
            self.counters.dropped_writes.fetch_add(1, Relaxed);
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> SharedStats {
        let Counters { hits, misses, timeouts, errors, not_asked, writes, dropped_writes } = &*self.counters;
        let [hits, misses, timeouts, errors, not_asked, writes, dropped_writes] =
            [hits, misses, timeouts, errors, not_asked, writes, dropped_writes].map(|count| count.load(Relaxed));
        SharedStats { hits, misses, timeouts, errors, not_asked, writes, dropped_writes }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_all(port: Port, mut writes: mpsc::Receiver<Write>, counters: Arc<Counters>) {
    while let Some(Write { key, model, answer }) = writes.recv().await {
        match timeout(WRITE_TIMEOUT, port.0.put(key, model, answer)).await {
            Ok(Ok(())) => drop(counters.writes.fetch_add(1, Relaxed)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the shared cache could not be written");
                counters.errors.fetch_add(1, Relaxed);
                counters.dropped_writes.fetch_add(1, Relaxed);
            }
            Err(_) => drop(counters.dropped_writes.fetch_add(1, Relaxed)),
        }
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

/// When it is asked and when it is left alone: plain, told the time.
#[derive(Debug, Default)]
struct Rest {
    failures_in_a_row: u32,
    until: Option<Instant>,
}

impl Rest {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn went_well(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, now: Instant) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row >= FAILURES {
            self.until = Some(now + REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_left_alone_after_failures_in_a_row_and_asked_again_later() {
        let now = Instant::now();
        let mut rest = Rest::default();
        for _ in 1..FAILURES {
            rest.failed(now);
        }
        rest.went_well();
        for _ in 1..FAILURES {
            rest.failed(now);
            assert!(rest.is_over(now));
        }
        rest.failed(now);
        assert!(!rest.is_over(now + REST - Duration::from_millis(1)) && rest.is_over(now + REST));
        rest.failed(now + REST);
        assert!(!rest.is_over(now + REST), "one that still fails is left alone again");
        rest.went_well();
        assert!(rest.is_over(now + REST));
    }
}
