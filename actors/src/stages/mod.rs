//! The thin actors, one file each: they move messages and time, and decide nothing.

pub mod breaker;
pub mod cache;
mod feature_worker;
pub mod gather;
pub mod ingest;
pub mod model_pool;
pub mod preprocess;
pub mod publish;
mod role;

pub use role::{ActorRole, Restarts};
