//! KiwiSDR's recordings: pieces of samples, each with the GPS time of its first one.

use jiff::Timestamp;

use super::chunks::{Piece, u32_at};
use super::{ByteSpan, DataFile, Stream};
use crate::stream::GAP;

/// GPS counts seconds from 1980-01-06T00:00:00Z, without leap seconds.
const GPS_EPOCH: i64 = 315_964_800;

const WEEK: i64 = 604_800;

/// The last leap second so far, the end of 2016, and how far GPS is ahead of UTC after it, seconds.
const LAST_LEAP: i64 = 1_483_228_800;
const AHEAD: i64 = 18;

/// The first stamps are of before the receiver's clock was set.
const STALE: usize = 2;

/// The `kiwi` chunk: time of the GPS week.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    seconds: u32,
    nanoseconds: u32,
}

impl Stamp {
    /// Reads the chunk's contents: age of the last solution, a reserved byte, seconds, nanoseconds.
    pub fn read(chunk: &[u8]) -> Option<Self> {
        let (seconds, nanoseconds) = (u32_at(chunk, 2)?, u32_at(chunk, 6)?);
        (i64::from(seconds) < WEEK && nanoseconds < 1_000_000_000).then_some(Self { seconds, nanoseconds })
    }

    /// The time in UTC, in the week that puts it nearest to `near`.
    fn utc(self, near: Timestamp) -> Option<Timestamp> {
        let ahead = if near.as_second() < LAST_LEAP { AHEAD - 1 } else { AHEAD };
        let seconds = i64::from(self.seconds);
        let gps = near.as_second() - GPS_EPOCH + ahead;
        let week = (gps - seconds + WEEK / 2).div_euclid(WEEK);
        let utc = week * WEEK + seconds + GPS_EPOCH - ahead;
        Timestamp::new(utc, self.nanoseconds as i32).ok()
    }
}

/// The streams of pieces within `data`, and the bytes at its end that make no whole sample. Without `start`,
/// a time within the recording's week, there are no times.
pub fn streams(
    data: &DataFile,
    pieces: &[Piece],
    sample_rate: Option<f64>,
    start: Option<Timestamp>,
    warnings: &mut Vec<String>,
) -> (Vec<Stream>, u64) {
    /// KiwiSDR writes pairs of 16 bits.
    const BYTES: u64 = 4;
    if start.is_none() {
        warnings.push(format!(
            "{data}: its GPS times are left out, since its name does not begin with the date \
             (20200813T065220Z_…)"
        ));
    }
    let mut streams = vec![Stream::default()];
    let mut rest = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let len = piece.len / BYTES;
        rest = piece.len % BYTES;
        if len == 0 {
            continue;
        }
        let stamp = start.and_then(|start| piece.stamp.utc(start)).filter(|_| index >= STALE);
        let expected = streams.last().and_then(|last| last.datetime_at(last.len(), sample_rate));
        let jump = expected.zip(stamp).map(|(expected, stamp)| stamp.duration_since(expected).abs());
        if jump.is_some_and(|jump| jump > GAP) {
            streams.push(Stream::default());
        }
        let Some(stream) = streams.last_mut() else { continue };
        let at = stream.len();
        stream.stamps.extend(stamp.map(|stamp| (at, stamp)));
        stream.spans.push(ByteSpan { byte: piece.offset, len });
    }
    (streams, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_is_the_one_nearest_to_the_name() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // 2020-08-13 is a Thursday, 4 days after the week's Sunday; GPS is 18 s ahead.
        let seconds = 4 * 86_400 + 6 * 3600 + 52 * 60 + 20 + 18;
        let stamp = Stamp { seconds, nanoseconds: 250_000_000 };
        assert_eq!(stamp.utc(at("2020-08-13T06:52:19Z")), Some(at("2020-08-13T06:52:20.25Z")));
        assert_eq!(stamp.utc(at("2020-08-20T06:50:00Z")), Some(at("2020-08-20T06:52:20.25Z")));
        // Just before and after the week begins.
        let early = Stamp { seconds: 5, nanoseconds: 0 };
        assert_eq!(early.utc(at("2020-08-08T23:59:40Z")), Some(at("2020-08-08T23:59:47Z")));
        // Before the last leap second GPS was 17 s ahead.
        let stamp = Stamp { seconds: 17, nanoseconds: 0 };
        assert_eq!(stamp.utc(at("2016-06-05T00:00:00Z")), Some(at("2016-06-05T00:00:00Z")));
        let chunk = |seconds: u32, nanoseconds: u32| {
            [vec![3, 0], seconds.to_le_bytes().to_vec(), nanoseconds.to_le_bytes().to_vec()].concat()
        };
        assert_eq!(Stamp::read(&chunk(17, 5)), Some(Stamp { seconds: 17, nanoseconds: 5 }));
        for wrong in [chunk(604_800, 0), chunk(0, 1_000_000_000), vec![0; 9]] {
            assert_eq!(Stamp::read(&wrong), None);
        }
    }
}
