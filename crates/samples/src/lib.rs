//! IQ samples as they are stored, and the memory for what is computed from them.
//!
//! A [`Datatype`] names how a component is stored. [`Samples`] reads a frame's bytes in place: bytes,
//! datatype and channels go in, complex float32 of ±1 full scale come out. [`datetime`] and [`Geolocation`]
//! say when and where they were taken. A [`BufferPool`] lends the memory of tensors. [`Number`] shows a
//! number in a message; [`units`] reads and writes durations and sizes in configurations.
//!
//! It names no transform, no message and no file; `sferic-features` computes from it, `sferic-actors` carries
//! it.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test may panic

mod buffers;
mod datatype;
pub mod datetime;
mod error;
mod geolocation;
mod number;
mod samples;
pub mod units;

pub use buffers::{Buffer, BufferPool, BufferStats, Dtype};
pub use datatype::{Datatype, UnknownDatatype};
pub use error::SamplesError;
pub use geolocation::Geolocation;
pub use number::Number;
pub use samples::{Cf32Be, Cf32Le, Cf64Le, Ci8, Ci16Be, Ci16Le, Ci32Le, Component, Cu8, Cu16Le, Samples};
