//! The adapter to NATS: frames in, outcomes out, and the micro service beside them.

mod connection;
mod frames;
mod outcomes;
mod peers;
mod private;
mod service;
mod sign_in;

pub use connection::{Connection, connect};
pub use frames::{Frames, Input, InputSwitch, subscribe};
pub use outcomes::Outcomes;
pub use peers::{Member, Peers};
pub use private::PrivateServer;
pub use service::{Endpoint, Health, ModelHealth, Refusal, Service};
pub use sign_in::SignInRefused;
