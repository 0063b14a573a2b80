//! What benchmarks measure with.
#![allow(dead_code)] // none uses all of it

pub mod statistics;
pub mod usage;
