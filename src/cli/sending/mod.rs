//! Frames on their way to a daemon, for the commands that send some.

mod counts;
mod held;
mod in_flight;
mod pace;
mod refused;

use std::time::Duration;

pub use counts::Bounds;
pub use in_flight::InFlight;
pub use pace::{Pacer, Rate};

/// Time that an answer may take beyond the time budget.
pub const GRACE: Duration = Duration::from_secs(10);
