//! A piece of a KiwiSDR recording: samples, with the GPS time of the first one before them.

use jiff::Timestamp;

use super::bytes::u32_at;

/// GPS counts seconds from 1980-01-06T00:00:00Z, without leap seconds.
const GPS_EPOCH: i64 = 315_964_800;

const WEEK: i64 = 604_800;

/// The last leap second so far, the end of 2016, and how far GPS is ahead of UTC after it, seconds.
const LAST_LEAP: i64 = 1_483_228_800;
const AHEAD: i64 = 18;

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
    pub fn utc(self, near: Timestamp) -> Option<Timestamp> {
        let ahead = if near.as_second() < LAST_LEAP { AHEAD - 1 } else { AHEAD };
        let seconds = i64::from(self.seconds);
        let gps = near.as_second() - GPS_EPOCH + ahead;
        let week = (gps - seconds + WEEK / 2).div_euclid(WEEK);
        let utc = week * WEEK + seconds + GPS_EPOCH - ahead;
        Timestamp::new(utc, self.nanoseconds as i32).ok()
    }
}

/// Samples with the stamp before them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    pub stamp: Stamp,
    /// From the beginning of the data, bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Piece {
    /// The same counted from `start`, of at most what is there from then on.
    pub fn within(self, start: u64, room: u64) -> Self {
        let offset = self.offset - start;
        Self { offset, len: self.len.min(room.saturating_sub(offset)), ..self }
    }
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
