//! Models in service: versions are loaded beside those that serve, become active, and are freed once their
//! last frame has ended.
//!
//! Invariant: a change that fails changes nothing. One change happens at a time; frames are routed by the
//! [`Generation`](sferic_actors::routing::Generation) that was current when they arrived.

mod answers;
mod change;
mod in_memory;
mod lookup;
pub mod requests;
mod serve;
mod service;
mod sources;
mod traffic;
mod watch;

pub use change::Change;
pub use service::ModelService;
pub use sources::{Sources, trusted_keys};
pub use traffic::{Followed, Roles};
pub use watch::watch;
