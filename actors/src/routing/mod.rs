//! Which model serves a frame: the generation in service, and the rule by which a version is chosen.

mod generation;
mod router;
mod shadow;
mod split;

pub use generation::{Generation, Models, Routed};
pub use router::{Route, Router, VersionName};
pub use shadow::Shadow;
pub use split::{Sender, Split, SplitKey};
