//! A small input must not make the reader ask for much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// The most that may be asked for at once, bytes. Inputs have kilobytes.
const MOST: usize = 16 << 20;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

struct Bounded;

/// Ends the process where too much is asked for, which the fuzzer takes for a crash.
fn check(size: usize) {
    if size > MOST {
        // Nothing here may allocate.
        let said = b"sferic-fuzz: over 16 MiB are asked for at once, for an input of kilobytes\n";
        let _ = std::io::stderr().write_all(said);
        std::process::abort();
    }
}

// SAFETY: everything is passed on to the system's allocator, but for what ends the process.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}
