//! What survives a restart of the daemon: which versions are active, splits and shadows. In a bucket every
//! daemon follows it.

mod document;
mod keeper;
mod store;

pub use keeper::Keeper;
