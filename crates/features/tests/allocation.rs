//! In the steady state a frame allocates nothing, whatever its kind and datatype.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sferic_features::{Extractor, FeatureConfig};
use sferic_samples::{BufferPool, Datatype, Dtype, Samples};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)] // a global allocator cannot be written without; this one only counts and passes on
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn a_frame_allocates_nothing() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8]))), 1, "the count counts");
    let tables = [
        "",
        "input = 'envelope'",
        "kind = 'log_spectrum'\nsides = 'folded'\nlog = 'db'",
        "n_fft = 1000\nhop_length = 333\ncenter = true\npower = 1.5\nframes = 500",
        "n_fft = 1021\nn_mels = 40\nsides = 'positive'\nnum_channels = 2\nnormalize = 'channel'\nframes = 3",
        "kind = 'iq'\nframes = 2048\nnormalize = 'frame'",
        "kind = 'signature'",
        "kind = 'signature'\nnum_channels = 2",
    ];
    for table in tables {
        let config: FeatureConfig = toml::from_str(table).unwrap();
        let mut extractor = Extractor::new(&config, Some(support::RATE)).unwrap();
        let pool = BufferPool::new(std::time::Duration::from_secs(300), 1 << 26);
        for datatype in Datatype::ALL {
            // 0x3c: small positive floats in either byte order, and any integer.
            let bytes = vec![0x3c; 16_384 * datatype.bytes_per_sample()];
            let mut frame = || {
                let samples = Samples::new(&bytes, datatype, config.num_channels).unwrap();
                let shape = extractor.shape(samples.len()).unwrap();
                let mut out = pool.take(Dtype::Float32, &shape);
                extractor.extract(&samples, &mut out).unwrap();
            };
            frame();
            assert_eq!(allocations(|| (0..100).for_each(|_| frame())), 0, "{table:?} as {datatype}");
        }
    }
}
