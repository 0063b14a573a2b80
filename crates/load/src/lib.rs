//! Load tests: when requests are sent, what is measured of them, and how a run is judged and reported.
//!
//! Pure and synchronous: times are arguments, nothing here waits, sends or reads a clock. [`Arrivals`] says
//! when the requests of an open-loop run are due, [`repeats`] which frame each one sends. A [`Recorder`] is
//! given every request that ended and a [`Report`] is made of it: percentiles, levels and whether the
//! generator itself kept up. [`KneeSearch`] finds the highest rate that meets the levels; [`compare`] says
//! whether one run is worse than another.
//!
//! Latency is counted from the time a request was due, not from when it was sent, so that a server that
//! stalls cannot delay the measurement of its own stall (coordinated omission; Tene 2013, "How NOT to
//! measure latency").

mod arrivals;
mod bootstrap;
mod compare;
mod error;
mod export;
mod histogram;
mod html;
mod knee;
mod levels;
mod plot;
mod recorder;
mod repeats;
mod report;
mod soak;
#[cfg(test)]
mod testing;
mod text;
mod validity;

pub use arrivals::{Arrivals, OffsetError, read_offsets};
pub use compare::{Change, CompareError, CompareOptions, Comparison, Difference, MUST_AGREE, compare};
pub use error::OutOfRange;
pub use export::{csv, interval_log};
pub use histogram::{Histogram, HistogramError, MAX_LATENCY, Percentiles};
pub use html::html;
pub use knee::{Knee, KneeSearch, Step};
pub use levels::{Levels, Verdict};
pub use recorder::{End, Recorder, Request};
pub use repeats::repeats;
pub use report::{Cpu, Format, FrameCosts, FrameSize, Measured, Report, Run, SliceReport};
pub use soak::{GateLine, Growth, Soaked};
pub use text::{comparison_text, text};
pub use validity::Validity;
