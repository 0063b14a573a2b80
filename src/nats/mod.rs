//! The adapter to NATS: frames in, outcomes out, and the micro service beside them.

mod batches;
mod connection;
mod frames;
mod input;
pub mod jetstream;
mod keeper;
mod message;
mod no_connection;
mod options;
mod outcomes;
mod peers;
mod permissions;
mod private;
mod probe;
mod reader;
mod refusals;
mod reply;
mod secret_files;
mod service;
mod sign_in;
pub mod words;

pub use batches::BatchService;
pub use connection::{Connection, connect, connect_when_there};
pub use frames::{SessionInput, encoding_of, subscribe};
pub use input::{Frames, Input, InputSwitch};
pub use keeper::Traffic;
pub use no_connection::NoConnection;
pub use outcomes::Outcomes;
pub use peers::{MemberInput, Peers};
pub use permissions::Permissions;
pub use private::PrivateServer;
pub use probe::Probe;
pub use refusals::{Action, Refusals};
pub use service::{ControlError, Endpoint, Health, HealthStatus, Metadata, ModelHealth, Service};
