//! A pool of tensor buffers, reused by (dtype, shape).

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit float.
    Float32,
}

/// Buffers of equal dtype and shape are interchangeable. Shapes are padded in front with 1 to four axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    dtype: Dtype,
    shape: [usize; 4],
}

/// Counts of a [`BufferPool`] since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BufferStats {
    /// Buffers taken that were idle in the pool.
    pub hits: u64,
    /// Buffers taken that were allocated, including `unpooled`.
    pub misses: u64,
    /// Buffers allocated beyond `max_bytes`; dropping one frees it.
    pub unpooled: u64,
    /// Idle buffers freed because of their age or to make room.
    pub freed: u64,
    /// Buffers in use, pooled or not.
    pub live: usize,
    /// Idle buffers.
    pub idle: usize,
    /// Bytes of live and idle buffers.
    pub bytes_now: usize,
    /// Highest `bytes_now` so far.
    pub bytes_peak: usize,
}

/// Reuses buffers of equal dtype and shape. A clone is another handle on the same pool.
///
/// Dropping a buffer returns it. Idle buffers are freed once they are unused for the time to live: by
/// [`sweep`](Self::sweep), which a timer should call, and by a take that finds no idle buffer. Pooled
/// buffers, in use and idle, never exceed `max_bytes`: a take that would exceed it frees idle buffers, the
/// longest unused first, and where that is not enough allocates a buffer outside the pool (counted in
/// `unpooled`). So a burst costs allocations and no frames.
///
/// The lock guards only the bookkeeping: memory is allocated, cleared and freed outside it.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Mutex<PoolState>>,
    ttl: Duration,
    max_bytes: usize,
}

#[derive(Default)]
struct PoolState {
    /// Idle buffers by dtype and shape, each with the time of its return, oldest first.
    idle: HashMap<Key, Vec<(Instant, Vec<f32>)>>,
    /// Bytes of pooled buffers, in use and idle.
    pooled_bytes: usize,
    stats: BufferStats,
}

impl BufferPool {
    /// Makes an empty pool that frees buffers unused for `ttl` and keeps at most `max_bytes`.
    pub fn new(ttl: Duration, max_bytes: usize) -> Self {
        Self { shared: Arc::default(), ttl, max_bytes }
    }

    /// Takes a buffer for a tensor of `shape`, of at most four axes. Its contents are arbitrary, so the
    /// caller writes all of it.
    pub fn take(&self, dtype: Dtype, shape: &[usize]) -> Buffer {
        self.take_at(dtype, shape, Instant::now())
    }

    /// As [`take`](Self::take), at a given time.
    pub fn take_at(&self, dtype: Dtype, shape: &[usize], now: Instant) -> Buffer {
        debug_assert!(shape.len() <= 4, "tensors have at most four axes");
        let mut key = Key { dtype, shape: [1; 4] };
        for (axis, &length) in key.shape.iter_mut().rev().zip(shape.iter().rev()) {
            *axis = length;
        }
        let length: usize = shape.iter().product();
        let bytes = length * size_of::<f32>();

        let mut state = self.lock();
        state.stats.live += 1;
        if let Some((_, values)) = state.idle.get_mut(&key).and_then(Vec::pop) {
            state.stats.hits += 1;
            state.stats.idle -= 1;
            return Buffer { values, pool: Some(self.clone()), pooled: Some(key) };
        }
        state.stats.misses += 1;
        let oldest_kept = now.checked_sub(self.ttl);
        let mut freed = state.remove_older(oldest_kept);
        if bytes <= self.max_bytes {
            state.make_room(self.max_bytes - bytes, &mut freed);
        }
        let pooled = state.pooled_bytes + bytes <= self.max_bytes;
        if pooled {
            state.pooled_bytes += bytes;
        } else {
            state.stats.unpooled += 1;
        }
        state.stats.bytes_now += bytes;
        state.stats.bytes_peak = state.stats.bytes_peak.max(state.stats.bytes_now);
        drop(state);
        drop(freed);
        Buffer { values: vec![0.0; length], pool: Some(self.clone()), pooled: pooled.then_some(key) }
    }

    /// Frees what has been idle for the time to live, and returns how many buffers that were.
    pub fn sweep(&self, now: Instant) -> usize {
        let oldest_kept = now.checked_sub(self.ttl);
        let freed = self.lock().remove_older(oldest_kept);
        freed.len()
    }

    /// Returns the counts, all of the same moment.
    pub fn stats(&self) -> BufferStats {
        self.lock().stats
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Nothing under the lock can panic half-way through an update, so a poisoned state is still a sound
        // one.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolState {
    /// Removes every buffer returned before `oldest_kept`; the caller frees them outside the lock.
    fn remove_older(&mut self, oldest_kept: Option<Instant>) -> Vec<Vec<f32>> {
        let mut removed = Vec::new();
        let Some(oldest_kept) = oldest_kept else {
            return removed;
        };
        self.idle.retain(|_, buffers| {
            let old = buffers.partition_point(|(since, _)| *since <= oldest_kept);
            removed.extend(buffers.drain(..old).map(|(_, values)| values));
            !buffers.is_empty()
        });
        for values in &removed {
            self.forget(values);
        }
        removed
    }

    /// Removes idle buffers, the longest unused first, until the pooled bytes are at most `limit` or none
    /// is idle.
    fn make_room(&mut self, limit: usize, removed: &mut Vec<Vec<f32>>) {
        while self.pooled_bytes > limit {
            let oldest = self.idle.iter().filter_map(|(key, buffers)| Some((buffers.first()?.0, *key)));
            let Some((_, key)) = oldest.min_by_key(|(since, _)| *since) else {
                return;
            };
            if let Some(buffers) = self.idle.get_mut(&key) {
                let (_, values) = buffers.remove(0);
                if buffers.is_empty() {
                    self.idle.remove(&key);
                }
                self.forget(&values);
                removed.push(values);
            }
        }
    }

    fn forget(&mut self, values: &[f32]) {
        let bytes = size_of_val(values);
        self.pooled_bytes -= bytes;
        self.stats.bytes_now -= bytes;
        self.stats.idle -= 1;
        self.stats.freed += 1;
    }
}

/// A tensor's memory, `[f32]` in C order; goes back to its pool on drop.
pub struct Buffer {
    values: Vec<f32>,
    pool: Option<BufferPool>,
    /// The pool it returns to; `None` for a buffer allocated beyond the bound.
    pooled: Option<Key>,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// A buffer that belongs to no pool.
impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self { values, pool: None, pooled: None }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(pool) = &self.pool else { return };
        let values = std::mem::take(&mut self.values);
        let now = Instant::now();
        let mut state = pool.lock();
        state.stats.live -= 1;
        if let Some(key) = self.pooled {
            state.stats.idle += 1;
            state.idle.entry(key).or_default().push((now, values));
        } else {
            state.stats.bytes_now -= size_of_val(values.as_slice());
            drop(state);
            drop(values);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.values.len()).field("pooled", &self.pooled).finish()
    }
}
