//! Frames of equal length out of bytes that come in any portions.

use sferic_recording::Cut;

/// Samples of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FramedSamples {
    /// Its first sample instant, counted from where the samples began.
    pub first: u64,
    /// As they came.
    pub bytes: Vec<u8>,
}

/// Cuts bytes into frames. Until it is restarted, no byte is left out but those between frames whose `hop` is
/// longer than a frame.
///
/// ```
/// use sferic_live::Framer;
/// use sferic_recording::Cut;
/// let mut framer = Framer::new(Cut { frame: 2, hop: 2 }, 2);
/// let mut bytes = [1, 2, 3, 4, 5].as_slice();
/// assert_eq!(framer.next(&mut bytes).unwrap().bytes, [1, 2, 3, 4]);
/// assert_eq!(framer.next(&mut bytes), None);
/// assert_eq!(framer.rest(), [5]);
/// ```
#[derive(Debug)]
pub struct Framer {
    /// Bytes.
    frame: usize,
    hop: usize,
    bytes_per_instant: usize,
    /// The frame that is being filled, and its first instant.
    filling: Vec<u8>,
    first: u64,
    /// Bytes to leave out before it.
    skip: usize,
}

impl Framer {
    /// Cuts samples of so many bytes an instant, all channels.
    pub fn new(cut: Cut, bytes_per_instant: usize) -> Self {
        let bytes =
            |instants: u64| usize::try_from(instants).unwrap_or(usize::MAX).saturating_mul(bytes_per_instant);
        let (frame, hop) = (bytes(cut.frame), bytes(cut.hop));
        Self { frame, hop, bytes_per_instant, filling: Vec::new(), first: 0, skip: 0 }
    }

    /// Takes bytes up to the end of a frame, and gives that frame; `None` once there are no more.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<FramedSamples> {
        let (_, after) = bytes.split_at(self.skip.min(bytes.len()));
        self.skip -= bytes.len() - after.len();
        let (taken, after) = after.split_at(after.len().min(self.frame - self.filling.len()));
        *bytes = after;
        if self.filling.capacity() == 0 && !taken.is_empty() {
            self.filling.reserve_exact(self.frame);
        }
        self.filling.extend_from_slice(taken);
        if self.filling.len() < self.frame {
            return None;
        }
        let kept = self.filling.get(self.hop..).map(<[u8]>::to_vec).unwrap_or_default();
        self.skip = self.hop.saturating_sub(self.frame);
        let first = self.first;
        self.first += (self.hop / self.bytes_per_instant) as u64;
        Some(FramedSamples { first, bytes: std::mem::replace(&mut self.filling, kept) })
    }

    /// The bytes that make no whole frame yet.
    pub fn rest(&self) -> &[u8] {
        &self.filling
    }

    /// Begins anew, with sample 0: no frame spans what was missed. Returns how many instants were in none.
    pub fn restart(&mut self) -> u64 {
        let left = (self.filling.len() / self.bytes_per_instant) as u64;
        (self.first, self.skip) = (0, 0);
        self.filling.clear();
        left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(framer: &mut Framer, portions: &[&[u8]]) -> Vec<FramedSamples> {
        let mut frames = Vec::new();
        for portion in portions {
            let mut bytes = *portion;
            frames.extend(std::iter::from_fn(|| framer.next(&mut bytes)));
            assert!(bytes.is_empty());
        }
        frames
    }

    proptest! {
        #[test]
        fn frames_are_those_of_a_recording_however_the_bytes_come(
            len in 0..400usize,
            frame in 1..40u64,
            hop in 1..60u64,
            portion in 1..100usize,
        ) {
            let bytes: Vec<u8> = (0..4 * len).map(|n| n as u8).collect();
            let cut = Cut { frame, hop };
            let portions: Vec<&[u8]> = bytes.chunks(portion).collect();
            let mut framer = Framer::new(cut, 4);
            let cut_live = frames(&mut framer, &portions);
            let expected: Vec<_> = cut
                .frames(len as u64)
                .filter(|(_, length)| *length == frame)
                .map(|(first, length)| {
                    let bytes = bytes[4 * first as usize..4 * (first + length) as usize].to_vec();
                    FramedSamples { first, bytes }
                })
                .collect();
            prop_assert_eq!(cut_live, expected);
        }
    }

    #[test]
    fn nothing_spans_a_restart() {
        let mut framer = Framer::new(Cut { frame: 2, hop: 3 }, 2);
        assert_eq!(frames(&mut framer, &[&[0, 1, 2, 3, 4, 5, 6, 7]]).len(), 1);
        assert_eq!(framer.rest(), [6, 7]);
        assert_eq!(framer.restart(), 1);
        let after = frames(&mut framer, &[&[8, 9, 10, 11]]);
        assert_eq!(after, [FramedSamples { first: 0, bytes: vec![8, 9, 10, 11] }]);
    }
}
