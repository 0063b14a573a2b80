//! Frames on their way to a daemon, for the commands that send some.

mod held;
mod in_flight;
mod pace;

use std::time::Duration;

pub use in_flight::{Bounds, InFlight};
pub use pace::{Pacer, Rate};

/// Time that an answer may take beyond the time budget.
pub const GRACE: Duration = Duration::from_secs(10);
