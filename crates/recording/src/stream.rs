//! A stream of samples within a recording, and how it is cut into frames.

use jiff::{SignedDuration, Timestamp};
use sferic_samples::Geolocation;

/// A time further than this from where the count of samples puts it shows that samples are missing. Clocks
/// that drift or count whole seconds stay below.
pub(super) const GAP: SignedDuration = SignedDuration::from_secs(1);

/// Samples that lie side by side in the data file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteSpan {
    /// Where the first one starts in the data file, bytes.
    pub byte: u64,
    /// How many sample instants.
    pub len: u64,
}

/// Consecutive samples of one centre frequency. A frame never holds samples of two streams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// Centre frequency, Hz, where it is known.
    pub frequency: Option<f64>,
    /// Where the samples are; headers inside the data file part them.
    pub spans: Vec<ByteSpan>,
    /// Timestamps by sample offset, ascending.
    pub stamps: Vec<(u64, Timestamp)>,
    /// Where the receiver was from a sample offset on, ascending; `None` where that is not known.
    pub places: Vec<(u64, Option<Geolocation>)>,
}

impl Stream {
    /// Sample instants in it.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(|span| span.len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the instant at `offset` was sampled: counted on from the last stamp up to there, or back from the
    /// first one. `None` without a stamp, or where one would have to be counted from without a rate.
    pub fn datetime_at(&self, offset: u64, sample_rate: Option<f64>) -> Option<Timestamp> {
        let (stamped, datetime) = last_up_to(&self.stamps, offset).or(self.stamps.first())?;
        if *stamped == offset {
            return Some(*datetime);
        }
        let seconds = |samples: u64| {
            Some(SignedDuration::from_nanos((samples as f64 * 1e9 / sample_rate?).round() as i64))
        };
        match offset.checked_sub(*stamped) {
            Some(later) => datetime.checked_add(seconds(later)?).ok(),
            None => datetime.checked_sub(seconds(stamped - offset)?).ok(),
        }
    }

    /// Where the receiver was at `offset`.
    pub fn geolocation_at(&self, offset: u64) -> Option<&Geolocation> {
        last_up_to(&self.places, offset).and_then(|(_, place)| place.as_ref())
    }

    /// Where `len` instants from `offset` are in the data file. What lies past the end is left out.
    pub fn spans_of(&self, offset: u64, len: u64, bytes_per_instant: u64) -> impl Iterator<Item = ByteSpan> {
        let mut start = 0;
        self.spans.iter().filter_map(move |span| {
            let from = offset.max(start);
            let to = (offset + len).min(start + span.len);
            let part = ByteSpan {
                byte: span.byte + from.saturating_sub(start) * bytes_per_instant,
                len: to.saturating_sub(from),
            };
            start += span.len;
            (part.len > 0).then_some(part)
        })
    }
}

fn last_up_to<T>(by_offset: &[(u64, T)], offset: u64) -> Option<&(u64, T)> {
    by_offset.partition_point(|(at, _)| *at <= offset).checked_sub(1).and_then(|last| by_offset.get(last))
}

/// How a stream is cut: frames of equal length, `hop` apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Sample instants per frame, at least 1.
    pub frame: u64,
    /// From one frame's start to the next one's, at least 1. Under `frame` they overlap, over it they leave
    /// gaps.
    pub hop: u64,
}

impl Cut {
    /// How many frames a stream of `len` instants gives. One that is shorter than a frame goes whole.
    pub fn count(self, len: u64) -> u64 {
        match len {
            0 => 0,
            len if len < self.frame => 1,
            len => (len - self.frame) / self.hop + 1,
        }
    }

    /// Offset and length of each frame.
    pub fn frames(self, len: u64) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        (0..self.count(len)).map(move |n| (n * self.hop, self.frame.min(len)))
    }

    /// The instants at the end that are in no frame and make no whole one.
    pub fn tail(self, len: u64) -> u64 {
        let next = self.count(len) * self.hop;
        let covered = self.frames(len).next_back().map_or(0, |(offset, frame)| offset + frame);
        len.saturating_sub(covered.max(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn side_by_side_frames_hold_every_sample_once(len in 0..5000u64, frame in 1..600u64) {
            let cut = Cut { frame, hop: frame };
            let mut next = 0;
            for (offset, length) in cut.frames(len) {
                prop_assert_eq!(offset, next);
                prop_assert!(length == frame || (offset == 0 && length == len));
                next += length;
            }
            prop_assert_eq!(next + cut.tail(len), len);
            prop_assert!(cut.tail(len) < frame);
        }

        #[test]
        fn any_hop_stays_inside(len in 0..5000u64, frame in 1..600u64, hop in 1..900u64) {
            let cut = Cut { frame, hop };
            let frames: Vec<_> = cut.frames(len).collect();
            prop_assert_eq!(frames.len() as u64, cut.count(len));
            for (n, (offset, length)) in frames.iter().enumerate() {
                prop_assert_eq!(*offset, n as u64 * hop);
                prop_assert!(offset + length <= len);
            }
            // One more would not fit.
            prop_assert!(len < frame || frames.len() as u64 * hop + frame > len);
            prop_assert!(cut.tail(len) < frame);
        }

        #[test]
        fn spans_of_covers_exactly_what_is_asked(
            lens in prop::collection::vec(1..50u64, 1..6),
            gap in 0..9u64,
            offset in 0..200u64,
            len in 0..200u64,
        ) {
            // Instants of 4 bytes, `gap` bytes of header before each span; instant n of the stream sits at
            // byte at[n].
            let mut stream = Stream::default();
            let mut at = Vec::new();
            let mut byte = 0;
            for len in lens {
                byte += gap;
                stream.spans.push(ByteSpan { byte, len });
                at.extend((0..len).map(|n| byte + 4 * n));
                byte += 4 * len;
            }
            let bytes = |span: ByteSpan| (0..span.len).map(move |n| span.byte + 4 * n);
            let read: Vec<u64> = stream.spans_of(offset, len, 4).flat_map(bytes).collect();
            let wanted: Vec<u64> = at.into_iter().skip(offset as usize).take(len as usize).collect();
            prop_assert_eq!(read, wanted);
        }
    }

    #[test]
    fn time_is_counted_from_the_nearest_stamp_before() {
        let stamp = |text: &str| text.parse::<Timestamp>().unwrap();
        let stream = Stream {
            stamps: vec![(1000, stamp("2020-08-13T06:52:20Z")), (2000, stamp("2020-08-13T06:52:20.5Z"))],
            ..Stream::default()
        };
        for (offset, expected) in [
            (0, "2020-08-13T06:52:19Z"),
            (1000, "2020-08-13T06:52:20Z"),
            (1999, "2020-08-13T06:52:20.999Z"),
            (2000, "2020-08-13T06:52:20.5Z"),
            (2001, "2020-08-13T06:52:20.501Z"),
        ] {
            assert_eq!(stream.datetime_at(offset, Some(1000.0)), Some(stamp(expected)), "{offset}");
        }
        assert_eq!(stream.datetime_at(1000, None), Some(stamp("2020-08-13T06:52:20Z")));
        assert_eq!(stream.datetime_at(1001, None), None);
        assert_eq!(Stream::default().datetime_at(0, Some(1000.0)), None);
    }

    #[test]
    fn the_receiver_is_where_it_was_last_seen() {
        let places = vec![
            (0, Some(Geolocation::point(8.0, 46.0))),
            (10, Some(Geolocation::point(9.0, 47.0))),
            (20, None),
        ];
        let stream = Stream { places, ..Stream::default() };
        assert_eq!(stream.geolocation_at(9), Some(&Geolocation::point(8.0, 46.0)));
        assert_eq!(stream.geolocation_at(10), Some(&Geolocation::point(9.0, 47.0)));
        assert_eq!(stream.geolocation_at(20), None);
    }
}
