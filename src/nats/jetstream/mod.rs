//! Frames from a durable stream, each acknowledged once its outcome is in the other.
//!
//! Invariant: a frame is acknowledged only after the acknowledgement of its outcome, whose message id is the
//! frame's stream and sequence, so a frame that is delivered again cannot get a second outcome.

mod acks;
mod arrivals;
mod consumers;
mod differences;
mod duplicates;
mod earlier;
mod failing;
mod monitor;
mod outcomes;
mod pull;
mod replies;
mod request;
mod retry;
mod streams;
mod unreadable;

pub use acks::Acks;
pub use monitor::{Backlog, Monitor};
pub use outcomes::StreamOutcomes;
pub use pull::pull;
pub use retry::RetryPolicy;
pub use streams::Streams;
