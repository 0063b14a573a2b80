//! Simulates radio: waveforms, receiver impairments and scenes, each with its truth.
//!
//! Two simulators use the same [`waveforms`]:
//!
//! - [`FrameSimulator`] makes single-channel frames of one modulation [`Family`] each, with the
//!   [`impairments`] of real receivers. The `modulation` model is trained on them. Waveforms made elsewhere
//!   are received the same way by [`FrameSimulator::receive`].
//! - [`SceneSimulator`] places an emitter among three [`RECEIVERS`] and makes the frame that they record
//!   together. The `localization` model is trained on them; `sferic demo` and `sferic simulate` use them.
//!
//! The crate does no I/O. Everything is drawn from a seed with a portable generator, so the same seed gives
//! the same frame on every run. Frequencies are in cycles per sample unless a name says `_hz`; powers are
//! means of `|x|²`.

mod conditions;
pub mod dsp;
pub mod frame;
pub mod geodesy;
pub mod impairments;
pub mod rng;
pub mod scene;
pub mod trilateration;
pub mod waveforms;

pub use frame::{Frame, FrameSimulator};
pub use geodesy::{GeoPoint, Offset};
pub use rustfft::num_complex::Complex32;
pub use scene::{ORIGIN, RECEIVERS, Scene, SceneSimulator, Truth};
pub use waveforms::{Family, Waveform};
