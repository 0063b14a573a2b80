//! One circuit breaker per model version, so that a failing model is not run for a while.
//!
//! Invariant: a circuit is updated with the result of a frame before the outcome is published. So the state
//! machines live outside the actor, shared by the data path.

mod circuits;
mod config;
mod core;
#[cfg(test)]
mod reference;
mod shared;
#[cfg(test)]
mod tests;
mod window;

pub use circuits::Circuits;
pub use config::{Config, LONGEST_OPEN_FOR};
pub use core::{CircuitCounts, CircuitState, Epoch, Force, Reason};
pub use shared::{CircuitPermit, CircuitStats, SharedCircuit};
pub use window::Tally;
