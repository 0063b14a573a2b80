//! Fakes behind the ports.
