//! KiwiSDR's recordings: pieces of samples, each with the GPS time of its first one.

use jiff::Timestamp;

use super::piece::Piece;
use crate::stream::GAP;
use crate::{ByteSpan, DataFile, Stream};

/// The first stamps are of before the receiver's clock was set.
const STALE: usize = 2;

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
