//! What can be wrong with the bytes of a frame, each with the value and the limit.

use crate::Number;

/// Bytes that are no frame. Contract codes are in brackets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplesError {
    /// No samples at all (`invalid_frame`).
    #[error("frame holds no samples")]
    Empty,
    /// The bytes are no whole number of sample instants (`invalid_frame`).
    #[error(
        "{bytes} bytes are no whole number of samples of {instant} bytes ({channels} channels of {datatype})"
    )]
    Misaligned {
        /// Length of the payload, bytes.
        bytes: usize,
        /// Bytes in one sample instant, all channels.
        instant: usize,
        /// Channels in the frame.
        channels: usize,
        /// The frame's datatype.
        datatype: crate::Datatype,
    },
    /// NaN, an infinity, or a `cf64_le` value beyond float32 (`invalid_frame`).
    #[error("sample {instant} is {}, not a finite float32", Number(*value))]
    NonFinite {
        /// Index of the sample instant.
        instant: usize,
        /// The first component at fault.
        value: f64,
    },
    /// No channels, or more than memory can hold one sample of (`shape_mismatch`).
    #[error("no frame has {0} channels")]
    Channels(usize),
}
