//! Canaries: versions that get a share of a model's traffic, are judged while they serve, and grow or go.
//!
//! Invariant: splits are decided on frames that they divided; a frame that names its version says nothing.
//! Every daemon judges its own frames.

mod plan;
mod recent;
mod request;
mod sink;
mod state;
mod truth;

pub use sink::Judged;
pub use state::{Canaries, watch};
pub use truth::read_truth;
