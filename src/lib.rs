//! sferic

pub mod cli;
pub mod recording;
pub mod wire;
