//! Canaries: versions that get a share of a model's traffic, are judged while they serve, and grow or go;
//! and shadows, which see copies of it.
//!
//! Invariant: splits are decided on frames that they divided; a frame that names its version says nothing.
//! Every daemon judges its own frames.

mod in_shadow;
mod kept;
mod metrics;
mod plan;
mod recent;
mod request;
mod shadow;
mod sink;
mod spare;
mod state;
mod truth;

pub use in_shadow::KeptShadow;
pub use plan::KeptSplit;
pub use sink::Judged;
pub use spare::{ShadowParts, ShadowThread};
pub use state::{Canaries, watch};
pub use truth::read_truth;
