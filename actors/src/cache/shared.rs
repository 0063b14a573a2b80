//! The second level: a cache outside the daemon, looked up within a timeout.
//!
//! Invariant: whatever happens to it, a lookup ends within its timeout and no frame fails because of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use crate::frame::CacheKey;
use crate::outcome::Answer;
use crate::ports::{LoadedModel, Remembered, SharedCache, SharedCacheError};
use crate::task::Task;

/// Maximum number of concurrent lookups; further misses are computed without one.
const LOOKUPS: usize = 64;
/// Maximum number of queued writes; further ones are dropped.
const WRITES: usize = 256;
/// Timeout of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of consecutive failed lookups after which lookups pause, so that frames do not wait for a cache
/// that is gone.
const FAILURES: u32 = 5;
/// Length of that pause.
const PAUSE: Duration = Duration::from_secs(1);

/// Bounded access to the second level.
#[derive(Debug)]
pub struct Shared {
    port: SharedCachePort,
    timeout: Duration,
    lookups: Arc<Semaphore>,
    pause: Mutex<Pause>,
    writes: mpsc::Sender<Write>,
    counters: Arc<SharedCounters>,
    _writing: Task,
}

/// Permit of one lookup.
#[derive(Debug)]
pub struct Lookup {
    _place: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct SharedCachePort(Arc<dyn SharedCache>);

#[derive(Debug)]
struct Write {
    key: CacheKey,
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
    /// Lookups and writes that failed: the cache was unreachable, or held no valid answer.
    pub errors: u64,
    /// Misses without a lookup: too many were in progress, or lookups are paused.
    pub not_asked: u64,
    /// Answers written.
    pub writes: u64,
    /// Answers not written: the queue was full, or the write failed.
    pub dropped_writes: u64,
}

#[derive(Debug, Default)]
struct SharedCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    timeouts: AtomicU64,
    errors: AtomicU64,
    not_asked: AtomicU64,
    writes: AtomicU64,
    dropped_writes: AtomicU64,
}

/// Rebinds what was found to the names of `model`.
fn rebound(
    found: Option<Remembered>,
    model: &dyn LoadedModel,
) -> Result<Option<Remembered>, SharedCacheError> {
    let Some(Remembered { answer, age }) = found else { return Ok(None) };
    let answer = model
        .rebind(answer)
        .ok_or_else(|| SharedCacheError(format!("what it holds is no answer of {}", model.id())))?;
    Ok(Some(Remembered { answer, age }))
}

impl Shared {
    /// Starts the writing task.
    pub fn start(port: Arc<dyn SharedCache>, timeout: Duration) -> Arc<Self> {
        let (writes, writing) = mpsc::channel(WRITES);
        let (port, counters) = (SharedCachePort(port), Arc::<SharedCounters>::default());
        let writing = Task::spawn(write_all(port.clone(), writing, Arc::clone(&counters)));
        let lookups = Arc::new(Semaphore::new(LOOKUPS));
        Arc::new(Self {
            port,
            timeout,
            lookups,
            pause: Mutex::default(),
            writes,
            counters,
            _writing: writing,
        })
    }

    /// Returns the permit of a lookup; `None` where the frame is to be computed without one.
    pub fn try_lookup(&self, now: Instant) -> Option<Lookup> {
        let place =
            if self.pause().is_over(now) { Arc::clone(&self.lookups).try_acquire_owned().ok() } else { None };
        if place.is_none() {
            self.counters.not_asked.fetch_add(1, Relaxed);
        }
        place.map(|place| Lookup { _place: place })
    }

    /// Looks up an answer; `None` where there is none for whatever reason.
    pub async fn get(&self, _: Lookup, key: CacheKey, model: &dyn LoadedModel) -> Option<Remembered> {
        let asked = timeout(self.timeout, self.port.0.get(key)).await;
        let asked = asked.map(|found| found.and_then(|found| rebound(found, model)));
        let count = match &asked {
            Ok(Ok(Some(_))) => &self.counters.hits,
            Ok(Ok(None)) => &self.counters.misses,
            Ok(Err(_)) => &self.counters.errors,
            Err(_) => &self.counters.timeouts,
        };
        count.fetch_add(1, Relaxed);
        match asked {
            Ok(Ok(found)) => {
                self.pause().succeeded();
                found
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the shared cache could not be read");
                self.pause().failed(Instant::now());
                None
            }
            Err(_) => {
                self.pause().failed(Instant::now());
                None
            }
        }
    }

    /// Queues an answer to be written; drops it if the queue is full.
    pub fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        if self.writes.try_send(Write { key, answer }).is_err() {
            self.counters.dropped_writes.fetch_add(1, Relaxed);
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> SharedStats {
        let SharedCounters { hits, misses, timeouts, errors, not_asked, writes, dropped_writes } =
            &*self.counters;
        let [hits, misses, timeouts, errors, not_asked, writes, dropped_writes] =
            [hits, misses, timeouts, errors, not_asked, writes, dropped_writes]
                .map(|count| count.load(Relaxed));
        SharedStats { hits, misses, timeouts, errors, not_asked, writes, dropped_writes }
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_all(port: SharedCachePort, mut writes: mpsc::Receiver<Write>, counters: Arc<SharedCounters>) {
    while let Some(Write { key, answer }) = writes.recv().await {
        match timeout(WRITE_TIMEOUT, port.0.put(key, answer)).await {
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

impl std::fmt::Debug for SharedCachePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedCachePort")
    }
}

/// Decides when lookups are paused: plain, the time is an argument.
#[derive(Debug, Default)]
struct Pause {
    failures_in_a_row: u32,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, now: Instant) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row >= FAILURES {
            self.until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lookups_pause_after_failures_in_a_row_and_resume_later() {
        let now = Instant::now();
        let mut pause = Pause::default();
        for _ in 1..FAILURES {
            pause.failed(now);
        }
        pause.succeeded();
        for _ in 1..FAILURES {
            pause.failed(now);
            assert!(pause.is_over(now));
        }
        pause.failed(now);
        assert!(!pause.is_over(now + PAUSE - Duration::from_millis(1)) && pause.is_over(now + PAUSE));
        pause.failed(now + PAUSE);
        assert!(!pause.is_over(now + PAUSE), "one that still fails pauses again");
        pause.succeeded();
        assert!(pause.is_over(now + PAUSE));
    }
}
