//! Live radio as frames: what is the same for standard input, rtl_tcp and GNU Radio.
//!
//! An [`Endpoint`] is the address of a source. A [`Framer`] cuts its bytes into frames, a [`SampleClock`]
//! says when their first samples were taken, [`level`] how strong they are, and a [`Pace`] whether the source
//! can be kept waiting. [`rtl_tcp`] and [`gnu_radio`] are the bytes of these protocols.
//!
//! Plain and synchronous: it opens nothing, and times are arguments.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test may panic

mod clock;
mod endpoint;
mod framer;
pub mod gnu_radio;
mod level;
mod pace;
pub mod rtl_tcp;

pub use clock::SampleClock;
pub use endpoint::{Endpoint, EndpointError, Format, Transport};
pub use framer::{FramedSamples, Framer};
pub use level::{is_over, level};
pub use pace::Pace;
