//! The `auxi` chunk.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::bytes::{u16_at, u32_at};

/// The binary `auxi` chunk: two times as Windows' SYSTEMTIME, UTC, and numbers of 32 bits.
pub struct Auxi {
    /// When the recording began.
    pub start: Option<Timestamp>,
    /// Centre frequency, Hz.
    pub centre: Option<f64>,
}

impl Auxi {
    /// `None` for other contents, such as SDR Console's XML.
    pub fn read(chunk: &[u8]) -> Option<Self> {
        let field = |index: usize| u16_at(chunk, 2 * index).and_then(|field| i16::try_from(field).ok());
        let small = |index: usize| field(index).and_then(|field| i8::try_from(field).ok());
        let nanoseconds = i32::from(field(7)?).checked_mul(1_000_000)?;
        // The day of the week comes third.
        let time =
            DateTime::new(field(0)?, small(1)?, small(3)?, small(4)?, small(5)?, small(6)?, nanoseconds);
        let start = match time.and_then(|time| time.to_zoned(TimeZone::UTC)) {
            Ok(time) => Some(time.timestamp()),
            Err(_) if chunk.iter().take(16).all(|byte| *byte == 0) => None,
            Err(_) => return None,
        };
        let centre = u32_at(chunk, 32)?;
        Some(Self { start, centre: (centre > 0).then_some(f64::from(centre)) })
    }
}
