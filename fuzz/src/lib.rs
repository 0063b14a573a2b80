//! What each fuzz target does with its input: it reads it as the daemon or the command line would, and panics
//! where something is promised and not kept.

mod bounded;
mod files;
mod messages;
mod models;

pub use files::{archives, hints, metadata};
pub use messages::{batches, frames, salvage, traceparent};
pub use models::bundles;
