//! Sessions: the frames of one emission from several receivers, answered together.

mod book;
mod clock;
mod config;
mod consistency;
mod core;
mod failures;
mod gathering;
mod heard;
mod judge;
mod place;
mod rules;

pub use book::{SourceBook, SourceRecord};
pub use clock::{Clock, ExpectedClock, against_others};
pub use config::{Config, KnownReceiver, Reference};
pub use consistency::{Arrival, inconsistent};
pub use gathering::{GatherStats, Gathering, Joining};
pub use place::distance;
pub use rules::{GatherRules, MAX_RECEIVERS, Needs, Receivers};
