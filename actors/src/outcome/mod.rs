//! The outcome of a frame: exactly one prediction or typed failure.

mod failure;
mod prediction;
mod session;
mod settled;

pub use failure::{Failure, FailureCode, ShedReason};
pub use prediction::{Answer, Ellipse, Label, Localization, NamedTensor, Position, Prediction, Uncertainty};
pub use session::{LeftOut, LeftOutReason, SessionSummary};
pub use settled::{Origin, Outcome, PublishError, Published};
