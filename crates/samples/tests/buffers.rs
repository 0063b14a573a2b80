//! The buffer pool: reuse, time to live, bound, and its own counts.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sferic_samples::{BufferPool, Dtype};

const TTL: Duration = Duration::from_secs(300);
const F32: Dtype = Dtype::Float32;

#[test]
fn ten_thousand_frames_of_mixed_shapes_hit_more_than_99_percent() {
    let pool = BufferPool::new(TTL, 100 << 20);
    let shapes = [[1, 128, 61], [1, 128, 32], [2, 64, 100], [1, 1024, 61], [4, 128, 29], [1, 2, 4096]];
    let mut held = std::collections::VecDeque::new();
    let mut state = 7u32;
    for _ in 0..10_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let shape = shapes[(state >> 16) as usize % shapes.len()];
        let buffer = pool.take(F32, &shape);
        assert_eq!(buffer.len(), shape.iter().product::<usize>());
        held.push_back(buffer);
        // Up to eight frames are in flight at once.
        if held.len() > (state >> 28) as usize % 8 {
            held.pop_front();
        }
    }
    let stats = pool.stats();
    assert_eq!(stats.hits + stats.misses, 10_000);
    assert!(stats.hits as f64 / 10_000.0 > 0.99, "{stats:?}");
    assert_eq!(stats.unpooled, 0);
}

#[test]
fn only_the_same_shape_is_reused() {
    let pool = BufferPool::new(TTL, 1 << 20);
    let address = |buffer: &[f32]| buffer.as_ptr() as usize;
    let first = pool.take(F32, &[1, 4, 6]);
    let at = address(&first);
    drop(first);
    let transposed = pool.take(F32, &[1, 6, 4]);
    assert_ne!(address(&transposed), at);
    assert_eq!(address(&pool.take(F32, &[1, 4, 6])), at);
    // Leading axes of length 1 change nothing about the memory.
    assert_eq!(address(&pool.take(F32, &[1, 1, 4, 6])), at);
    assert_eq!((pool.stats().hits, pool.stats().misses), (2, 2));
}

#[test]
fn idle_buffers_are_freed_after_the_time_to_live() {
    let pool = BufferPool::new(TTL, 1 << 20);
    drop((pool.take(F32, &[10]), pool.take(F32, &[20])));
    let returned = Instant::now();
    assert_eq!(pool.sweep(returned + TTL / 2), 0);
    assert_eq!(pool.stats().idle, 2);
    assert_eq!(pool.sweep(returned + TTL), 2);
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.freed, stats.bytes_now, stats.bytes_peak), (0, 2, 0, 120));

    // Without a sweep, a take that misses frees them as well.
    drop(pool.take(F32, &[10]));
    let _other = pool.take_at(F32, &[30], Instant::now() + TTL);
    assert_eq!((pool.stats().idle, pool.stats().freed), (0, 3));
}

#[test]
fn beyond_the_bound_idle_buffers_make_room_and_then_nothing_is_pooled() {
    let pool = BufferPool::new(TTL, 400);
    let (first, second) = (pool.take(F32, &[40]), pool.take(F32, &[60]));
    let third = pool.take(F32, &[50]);
    let stats = pool.stats();
    assert_eq!((stats.unpooled, stats.live, stats.bytes_now), (1, 3, 600));
    drop(third);
    assert_eq!((pool.stats().idle, pool.stats().bytes_now), (0, 400));

    drop(first);
    drop(second);
    // 160 idle bytes, unused the longest, make way; the 240 may stay.
    let _fourth = pool.take(F32, &[30]);
    let stats = pool.stats();
    assert_eq!((stats.freed, stats.idle, stats.live, stats.bytes_now), (1, 1, 1, 360));
    let huge = pool.take(F32, &[1000]);
    assert_eq!(huge.len(), 1000);
    assert_eq!((pool.stats().unpooled, pool.stats().freed), (2, 1), "what can't be pooled displaces nothing");
}

#[test]
fn threads_share_a_pool() {
    let pool = BufferPool::new(TTL, 1 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let pool = pool.clone();
            scope.spawn(move || {
                for round in 0..1000 {
                    let mut buffer = pool.take(F32, &[16 + (round % 3)]);
                    buffer.fill(thread as f32);
                    assert!(buffer.iter().all(|&x| x == thread as f32));
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.hits + stats.misses, stats.live), (4000, 0));
    assert!(stats.misses <= 12, "{stats:?}");
}

proptest! {
    /// Whatever is taken, dropped and swept, the counts agree with what is held, and the bound with what is
    /// pooled.
    #[test]
    fn counts_agree(steps in proptest::collection::vec((0..4u8, 1..60usize), 1..200), max in 0..800usize) {
        let pool = BufferPool::new(TTL, max);
        let mut held = Vec::new();
        let start = Instant::now();
        for (step, length) in steps {
            match step {
                0 | 1 => held.push(pool.take(F32, &[length])),
                2 if !held.is_empty() => drop(held.swap_remove(length % held.len())),
                _ => {
                    pool.sweep(start + TTL * (length as u32 % 2) * 2);
                }
            }
            let stats = pool.stats();
            let held_bytes: usize = held.iter().map(|buffer| buffer.len() * 4).sum();
            prop_assert_eq!(stats.live, held.len());
            prop_assert!(stats.bytes_now >= held_bytes && stats.bytes_peak >= stats.bytes_now);
            prop_assert!(stats.bytes_now - held_bytes <= max);
        }
        held.clear();
        prop_assert!(pool.stats().bytes_now <= max);
        pool.sweep(Instant::now() + TTL);
        let stats = pool.stats();
        prop_assert_eq!((stats.live, stats.idle, stats.bytes_now), (0, 0, 0));
        prop_assert_eq!(stats.misses, stats.freed + stats.unpooled);
    }
}
