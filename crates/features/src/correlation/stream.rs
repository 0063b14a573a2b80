//! The samples of one receiver, with their time.

use sferic_samples::Samples;

/// The samples of one receiver.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    /// One channel of samples.
    pub samples: Samples<'a>,
    /// Their measured rate, Hz.
    pub rate_hz: f64,
    /// When the first one was taken, nanoseconds since 1970.
    pub begun_ns: i64,
}
