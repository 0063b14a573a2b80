//! The queues in front of the feature workers and of the sessions: which frames may wait, for how long, and
//! in what order.
//!
//! Invariant: frames enter a queue and threads pull them without waking an actor. The queues outlive the
//! actors, so that a restart loses no frame.

#[cfg(test)]
mod closing_tests;
mod config;
mod frames;
mod lane;
mod rank;
mod scheduler;
mod service_times;
mod stats;
#[cfg(test)]
mod tests;
mod work;

pub use config::Config;
pub use frames::{FrameQueue, WorkerGeneration};
pub use scheduler::{Load, Next, NotQueued, Schedulable, Scheduler};
pub use stats::{NotBegun, PoolStats, WAIT_BUCKETS_MS};
pub use work::{RunEnd, WorkQueue};
