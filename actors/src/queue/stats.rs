//! Statistics of the pool.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the histogram of waits, milliseconds; the last bucket has none.
pub const WAIT_BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 100, 500, 1000, 5000];

/// Counts since the pool was created, and its current state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PoolStats {
    /// Frames that wait for a session.
    pub depth: usize,
    /// Sessions in a run.
    pub active: usize,
    /// Frames that were given to a session.
    pub acquires: u64,
    /// Frames that failed after `pool.acquire_timeout`.
    pub timeouts: u64,
    /// Runs, including those of halved batches.
    pub inferences: u64,
    /// Frames in those runs.
    pub frames_run: u64,
    /// Runs by batch size: `batch_sizes[n]` counts batches of `n + 1`.
    pub batch_sizes: Vec<u64>,
    /// Waits for a session in the buckets of [`WAIT_BUCKETS_MS`], longer ones in the last.
    pub waits: [u64; WAIT_BUCKETS_MS.len() + 1],
    /// Seconds each session has spent in runs.
    pub busy_s: Vec<f64>,
    /// Runs cancelled because the deadlines of all their frames had passed.
    pub cancelled: u64,
    /// Frames whose work was never begun, by reason.
    pub not_begun: NotBegun,
}

/// Frames whose work was never begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NotBegun {
    /// They were answered or had expired when their turn came.
    pub settled: u64,
    /// By the measured service time they would have missed their deadline.
    pub too_late: u64,
    /// The queue was full.
    pub full: u64,
    /// They were shed for an arriving frame.
    pub shed: u64,
}

/// The counters behind [`PoolStats`].
#[derive(Debug)]
pub struct PoolCounters {
    pub acquires: AtomicU64,
    pub timeouts: AtomicU64,
    pub cancelled: AtomicU64,
    pub settled: AtomicU64,
    pub too_late: AtomicU64,
    pub full: AtomicU64,
    pub shed: AtomicU64,
    pub frames_run: AtomicU64,
    batch_sizes: Vec<AtomicU64>,
    waits: [AtomicU64; WAIT_BUCKETS_MS.len() + 1],
    busy_ns: Vec<AtomicU64>,
}

impl PoolCounters {
    /// All zero.
    pub fn new(sessions: usize, max_batch: usize) -> Self {
        let zeros = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self {
            acquires: AtomicU64::default(),
            timeouts: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            settled: AtomicU64::default(),
            too_late: AtomicU64::default(),
            full: AtomicU64::default(),
            shed: AtomicU64::default(),
            frames_run: AtomicU64::default(),
            batch_sizes: zeros(max_batch.max(1)),
            waits: Default::default(),
            busy_ns: zeros(sessions),
        }
    }

    /// Counts a run of `frames` frames.
    pub fn ran(&self, session: usize, frames: usize, run: Duration) {
        self.frames_run.fetch_add(frames as u64, Relaxed);
        if let Some(count) = self.batch_sizes.get(frames.saturating_sub(1)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(busy) = self.busy_ns.get(session) {
            busy.fetch_add(u64::try_from(run.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Counts a frame given to a session after this wait.
    pub fn acquired(&self, wait: Duration) {
        self.acquires.fetch_add(1, Relaxed);
        let bucket = WAIT_BUCKETS_MS
            .iter()
            .position(|&bound| wait <= Duration::from_millis(bound))
            .unwrap_or(WAIT_BUCKETS_MS.len());
        self.waits[bucket].fetch_add(1, Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self, depth: usize, active: usize) -> PoolStats {
        let all = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Relaxed)).collect::<Vec<_>>();
        let batch_sizes = all(&self.batch_sizes);
        PoolStats {
            depth,
            active,
            acquires: self.acquires.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            inferences: batch_sizes.iter().sum(),
            frames_run: self.frames_run.load(Relaxed),
            batch_sizes,
            waits: std::array::from_fn(|bucket| self.waits[bucket].load(Relaxed)),
            busy_s: all(&self.busy_ns).into_iter().map(|ns| ns as f64 / 1e9).collect(),
            cancelled: self.cancelled.load(Relaxed),
            not_begun: NotBegun {
                settled: self.settled.load(Relaxed),
                too_late: self.too_late.load(Relaxed),
                full: self.full.load(Relaxed),
                shed: self.shed.load(Relaxed),
            },
        }
    }
}
