#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sferic_fuzz::batches(data));
