//! Whether a source can be kept waiting.

use std::time::{Duration, Instant};

/// No radio's software hands over more than this at once; what is further ahead of its own time than this is
/// no radio. Bytes.
const LARGEST_BLOCK: f64 = (4 << 20) as f64;

/// Compares how much has come with how much can have been taken.
///
/// Reading a pipe or a connection more slowly holds up whoever writes: a file loses nothing by that, but a
/// radio does, in the middle of a frame and uncounted. A radio is never further ahead of its own time than
/// one block of its software.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: f64,
    began: Option<Instant>,
    bytes: u64,
    is_replay: bool,
}

impl Pace {
    /// Nothing has come yet of a source of so many bytes a second.
    pub fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, began: None, bytes: 0, is_replay: false }
    }

    /// So many more bytes have come.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        self.began.get_or_insert(now);
        self.is_replay |= self.ahead(now) > LARGEST_BLOCK;
    }

    /// Whether nothing is lost when no more is read now: the source has shown to be no radio, or at least is
    /// ahead of its time.
    pub fn can_wait(&self, now: Instant) -> bool {
        self.is_replay || self.ahead(now) > 0.0
    }

    /// The source begins anew, after a pause.
    pub fn restart(&mut self) {
        *self = Self { is_replay: self.is_replay, ..Self::new(self.bytes_per_second) };
    }

    /// Bytes.
    fn ahead(&self, now: Instant) -> f64 {
        let elapsed = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.bytes as f64 - elapsed.as_secs_f64() * self.bytes_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radio_is_not_kept_waiting_and_a_file_is() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        // Blocks of 256 KiB, the first at the end of its time.
        let mut radio = Pace::new(4.8e6);
        for block in 1..2000 {
            radio.received(256 << 10, at(f64::from(block) * 262_144.0 / 4.8e6));
        }
        assert!(!radio.can_wait(at(2000.0 * 262_144.0 / 4.8e6)));
        let mut file = Pace::new(4.8e6);
        for block in 0..20 {
            file.received(256 << 10, at(f64::from(block) * 1e-3));
        }
        assert!(file.can_wait(at(1e6)));
        file.restart();
        assert!(file.can_wait(at(1e6)));
        // Less of a file than a large block: until its time has come.
        let mut short = Pace::new(1e6);
        short.received(1 << 20, at(0.0));
        assert!(short.can_wait(at(1.0)) && !short.can_wait(at(1.1)));
    }
}
