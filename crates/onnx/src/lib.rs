//! Loaded models: ONNX Runtime, its sessions, and the repository whose bundles run in them.
//!
//! ```text
//! Runtime ─► Catalog ─► Model = bundle (features, head) + session + measured batch costs
//!                          └► Runner, one a session thread, all over the same sessions
//! ```
//!
//! A folder of bundles and [`Options`] go in; out come models behind the ports of [`sferic_actors`], checked,
//! warmed and measured. [`examine`] compares execution providers.
//!
//! It names no broker, no message and no settings. What a bundle says and how outputs are read is
//! [`sferic_models`], whose tests need no library.

mod catalog;
mod dispatch;
mod examination;
mod graph_cache;
mod library;
mod model;
mod options;
mod provider;
mod run_inputs;
mod run_outputs;
mod runner;
mod session;
mod subnormals;
#[cfg(test)]
mod tests;
mod trial;
mod trial_frames;
mod warmup;

pub use catalog::{Catalog, CatalogError, RefusedBundle, Version, VersionState, Versions};
pub use dispatch::{Dispatch, DispatchShare};
pub use examination::{Examination, Examinations, examine};
pub use library::{LibraryError, Runtime};
pub use model::Model;
pub use options::{ExecutionProvider, FolderCheck, Options};
pub use provider::{compiled_in, usable};
pub use runner::{OnnxRunner, runners};
pub use session::RunTerminator;
pub use trial::Difference;
pub use warmup::BatchCost;
