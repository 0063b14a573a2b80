//! Models: the repository and its bundles, ONNX Runtime, and the conversion of outputs to answers.
//!
//! ```text
//! Runtime ─► Catalog ─► Model = bundle (features, head) + session + measured batch costs
//!                          └► Runner, one a session thread, all over the same sessions
//! ```
//!
//! Bundles, ports and heads do not depend on `ort`, so their tests need no library.

mod bundle;
mod catalog;
mod dispatch;
mod examination;
mod head;
mod input;
mod library;
mod model;
mod onnx_file;
mod output_section;
mod port;
mod proto;
mod provider;
mod run_outputs;
mod runner;
mod session;
mod subnormals;
#[cfg(test)]
mod tests;
mod trial;
mod values;
mod warmup;

pub use bundle::{Bundle, BundleError};
pub use catalog::{Catalog, CatalogError, RefusedBundle};
pub use dispatch::{Dispatch, DispatchShare};
pub use examination::{Examination, Examinations, examine};
pub use head::{CONFIDENCE_INTERVAL, Head, ellipse_scale};
pub use input::frame_failure;
pub use library::{LibraryError, Runtime};
pub use model::{Model, Options};
pub use onnx_file::{ExternalFile, OnnxFile};
pub use output_section::{Activation, Origin, OutputConfig, Scale, Units};
pub use port::{Axis, Dtype, Elements, Port};
pub use provider::{compiled_in, usable};
pub use runner::{OnnxRunner, runners};
pub use session::RunTerminator;
pub use trial::Difference;
pub use values::{Class, Output, Reading, ScoreMap, Values};
pub use warmup::BatchCost;
