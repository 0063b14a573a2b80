//! Whether a source can be kept waiting.

use std::time::Instant;

/// A source is judged by the time that so many bytes take: more than any radio's software hands over at once.
const JUDGED_BYTES: u64 = 4 << 20;

/// A source that delivers them in less than this share of the time that a radio needs is none.
const FASTER: f64 = 0.5;

/// Distinguishes radios from files by how fast they begin.
///
/// Reading a pipe or a connection more slowly holds up whoever writes: a file loses nothing by that, but a
/// radio does, in the middle of a frame and uncounted. So a source counts as a radio unless its first 4 MiB
/// come in half the time that its rate takes; what comes later says nothing, since a radio's buffers are
/// handed over at once after whatever held them up.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: f64,
    began: Option<Instant>,
    bytes: u64,
    is_file: Option<bool>,
}

impl Pace {
    /// Nothing has come yet of a source of so many bytes a second.
    pub fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, began: None, bytes: 0, is_file: None }
    }

    /// So many more bytes have come.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        let began = *self.began.get_or_insert(now);
        self.bytes += bytes as u64;
        if self.is_file.is_none() && self.bytes >= JUDGED_BYTES {
            let needed = self.bytes as f64 / self.bytes_per_second;
            self.is_file = Some(now.duration_since(began).as_secs_f64() < FASTER * needed);
        }
    }

    /// Whether the source has shown to be no radio, so that nothing is lost when it is kept waiting.
    pub fn can_wait(&self) -> bool {
        self.is_file == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: f64 = 4.8e6;

    /// A source that hands over `block` bytes at once, so many times faster than `RATE`, for two minutes of
    /// its samples.
    fn is_file(block: usize, times_faster: f64) -> bool {
        let start = Instant::now();
        let mut pace = Pace::new(RATE);
        let mut bytes = 0;
        while (bytes as f64) < 120.0 * RATE {
            bytes += block;
            pace.received(block, start + Duration::from_secs_f64(bytes as f64 / RATE / times_faster));
        }
        pace.can_wait()
    }

    #[test]
    fn a_radio_is_not_kept_waiting_and_a_file_is() {
        for block in [4096, 256 << 10, 1 << 20] {
            for (times_faster, expected) in
                [(1.0, false), (1.1, false), (0.5, false), (5.0, true), (1e6, true)]
            {
                assert_eq!(is_file(block, times_faster), expected, "{block} {times_faster}");
            }
        }
    }

    #[test]
    fn what_comes_at_once_after_a_stall_makes_a_radio_no_file() {
        let start = Instant::now();
        let mut pace = Pace::new(RATE);
        for block in 0..100 {
            pace.received(256 << 10, start + Duration::from_secs_f64(f64::from(block) * 262_144.0 / RATE));
        }
        for _ in 0..100 {
            pace.received(256 << 10, start + Duration::from_secs(60));
        }
        assert!(!pace.can_wait());
    }
}
