//! sferic

pub mod settings;
