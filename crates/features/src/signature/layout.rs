//! The rows of a signature: constants for who reads them.

use std::ops::Range;

/// Values in a row.
pub const COLUMNS: usize = 512;

/// Rows of a channel.
pub const ROWS: usize = HISTOGRAM + 1;

/// Longest stretch of a frame that is looked at, samples.
pub const MAX_STRETCH: usize = 8192;

/// Most samples of the zoomed stream that rows are computed from.
pub const MAX_ZOOMED: usize = 4096;

/// Fewest samples of a frame where the bundle does not say.
pub const MIN_SAMPLES: usize = 64;

/// Rows of the spectrum of the whole band: its mean and its maximum over time.
pub const SPECTRUM: Range<usize> = 0..2;

/// Rows of the spectrum of the zoomed stream: its mean and its maximum over time.
pub const ZOOMED: Range<usize> = 2..4;

/// Row of the facts: scalars, each [`FACT_WIDTH`] columns wide.
pub const FACTS: usize = 4;

/// Columns that a fact fills.
pub const FACT_WIDTH: usize = 32;

/// Rows of the spectra of derived sequences: power, frequency, square, fourth power.
pub const DERIVED: Range<usize> = 5..9;

/// Rows of the autocorrelation: lags 1 to 512, then 513 to 4096 by sevens.
pub const REPETITION: Range<usize> = 9..11;

/// Rows of the stream, two each: amplitude, its logarithm, cosine and sine of the phase step.
pub const STREAM: Range<usize> = 11..19;

/// Row of the histogram of amplitude and phase step.
pub const HISTOGRAM: usize = 19;
