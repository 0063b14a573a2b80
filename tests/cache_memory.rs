//! The cache's memory, as the system's allocator gives it out, stays within `max_bytes`.
#![allow(missing_docs, clippy::unwrap_used)] // a test

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use sferic_actors::cache::{AdmissionPolicy, CacheStore, Config};
use sferic_actors::outcome::{Answer, Ellipse, Label, Localization, NamedTensor, Position, Uncertainty};
use tokio::time::Instant;

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// A block with its header.
fn block(pointer: *mut u8, layout: Layout) -> usize {
    #[cfg(target_os = "linux")]
    {
        let _ = layout;
        #[allow(unsafe_code)] // SAFETY: the pointer came from the system's allocator and was not freed.
        let usable = unsafe { libc::malloc_usable_size(pointer.cast()) };
        usable + 8
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pointer;
        layout.size()
    }
}

#[allow(unsafe_code)] // a global allocator cannot be written without; this one only counts and passes on
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are passed on unchanged.
        let pointer = unsafe { System.alloc(layout) };
        HELD.set(HELD.get() + block(pointer, layout));
        MOST.set(MOST.get().max(HELD.get()));
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // What another thread allocated is not counted; the test has one thread.
        HELD.set(HELD.get().saturating_sub(block(pointer, layout)));
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn key(n: u64) -> [u8; 32] {
    let mut state = n;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

fn place() -> Answer {
    Answer::Localization(Localization {
        position: Position { latitude: 45.0, longitude: 7.0 },
        uncertainty: Uncertainty { sigma_x: 1.0, sigma_y: 1.0, theta: 0.0, confidence_interval: 0.68 },
        ellipse: Ellipse { semi_major: 1.0, semi_minor: 1.0, rotation: 0.0, area: 1.0 },
        confidence: None,
        calibrated: false,
    })
}

fn labels(label: &Arc<str>, count: usize) -> Answer {
    Answer::Classification((0..count).map(|_| Label { label: Arc::clone(label), score: Some(1.0) }).collect())
}

fn tensors(name: &Arc<str>, bytes: usize) -> Answer {
    Answer::Tensors(vec![NamedTensor {
        name: Arc::clone(name),
        shape: vec![1, bytes],
        dtype: "uint8",
        data: vec![1; bytes],
    }])
}

/// Fills a cache with many times what it holds, and compares what was allocated with the bound and with what
/// the cache states.
fn fill(config: &Config, answers: u64, answer: impl Fn(u64) -> Answer) {
    let before = HELD.get();
    MOST.set(before);
    let model = Arc::default();
    let store = CacheStore::new(config);
    let now = Instant::now();
    for n in 0..answers {
        store.get(&key(n), now);
        // Half of them are asked for again, so that both lists fill.
        store.get(&key(n / 2), now);
        store.insert(key(n), &model, Arc::new(answer(n)), now);
    }
    let (held, most) = (HELD.get() - before, MOST.get() - before);
    let stats = store.stats();
    // The one on its way in is not yet the cache's.
    let on_its_way = (0..100).map(|n| size(&answer(n))).max().unwrap();
    assert!(
        most <= config.max_bytes + config.max_bytes / 20 + on_its_way,
        "{most} of {} bytes, {config:?}",
        config.max_bytes
    );
    assert!(stats.bytes <= held, "what is stated is held: {} of {held}, {config:?}", stats.bytes);
    assert!(held <= config.max_bytes + config.max_bytes / 100, "{held} of {}, {config:?}", config.max_bytes);
    assert!(
        stats.entries == config.max_entries || held * 10 >= config.max_bytes * 7,
        "the room is used: {held} bytes of {config:?}"
    );
    drop((store, model));
    assert_eq!(HELD.get(), before, "all comes back");
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Tensors(tensors) => tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>() + 1000,
        _ => 10_000,
    }
}

#[test]
fn memory_stays_within_the_bound_whatever_is_cached() {
    let name: Arc<str> = "a name that is the model's own".into();
    for admission in [AdmissionPolicy::TinyLfu, AdmissionPolicy::Lru] {
        let config =
            |max_entries, max_bytes| Config { max_entries, max_bytes, admission, ..Config::default() };
        fill(&config(1_000_000, 4 << 20), 100_000, |_| place());
        fill(&config(10_000, 64 << 20), 100_000, |_| place());
        fill(&config(1_000_000, 4 << 20), 50_000, |n| labels(&name, 1 + n as usize % 7));
        fill(&config(1_000_000, 4 << 20), 20_000, |n| tensors(&name, 1 + n as usize % 5000));
        fill(&config(1_000_000, 16 << 20), 2000, |n| tensors(&name, (n as usize % 300) << 10));
        // Many small ones, and then few large ones in their place.
        fill(
            &config(1_000_000, 4 << 20),
            40_000,
            |n| if n < 30_000 { place() } else { tensors(&name, 50_000) },
        );
    }
}
