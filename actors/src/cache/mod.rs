//! The answers of earlier frames, so that an equal one costs no FFT and no inference.
//!
//! Invariant: the entries outlive the actor, and only predictions are cached.

mod config;
mod core;
mod entry;
mod key;
mod shared;
mod size;
mod sketch;
mod stats;
mod store;
#[cfg(test)]
mod tests;

pub use config::{AdmissionPolicy, Config};
pub use key::key_of;
pub use shared::{Lookup, Shared, SharedStats};
pub use stats::{CacheStats, Evicted};
pub use store::{CacheStore, Found};

pub use crate::frame::CacheKey;
