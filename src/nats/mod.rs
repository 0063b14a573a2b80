//! The adapter to NATS: frames in, outcomes out, and the micro service beside them.

mod connection;
mod frames;
mod outcomes;
mod private;
mod service;

pub use connection::{Connection, connect};
pub use frames::{Frames, subscribe};
pub use outcomes::Outcomes;
pub use private::PrivateServer;
pub use service::{Health, ModelHealth, Service};
