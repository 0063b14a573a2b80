//! Approximate number of recent lookups per key, in eight bytes per possible entry.
//!
//! A count-min sketch of four-bit counters, updated conservatively and halved now and then, as in TinyLFU (G.
//! Einziger, R. Friedman and B. Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions
//! on Storage 13(4), 2017).

use super::CacheKey;

const ROWS: usize = 4;
const COUNTERS_A_WORD: usize = 16;
/// Maximum of a counter.
const MOST: u64 = 15;
/// Counters per row and possible entry: with this many, keys looked up once seldom seem more frequent.
const WIDTH: usize = 4;
/// The counts are halved after this many lookups per possible entry, so that former popularity fades.
const PERIOD: usize = 10;

/// The counters.
#[derive(Debug)]
pub struct Sketch {
    words: Box<[u64]>,
    /// Counters of a row, less one; a power of two, less one.
    mask: usize,
    asked: usize,
    period: usize,
}

impl Sketch {
    /// An empty sketch for `entries` entries.
    pub fn new(entries: usize) -> Self {
        let width = Self::width(entries);
        Self {
            words: vec![0; ROWS * width / COUNTERS_A_WORD].into(),
            mask: width - 1,
            asked: 0,
            period: PERIOD * entries,
        }
    }

    /// Memory a sketch for so many answers takes, bytes.
    pub fn bytes(entries: usize) -> usize {
        ROWS * Self::width(entries) / 2
    }

    fn width(entries: usize) -> usize {
        (WIDTH * entries).next_power_of_two().max(COUNTERS_A_WORD)
    }

    /// Counts one lookup.
    pub fn count(&mut self, key: &CacheKey) {
        let lowest = self.estimate(key);
        if lowest < MOST {
            for (word, shift) in self.places(key) {
                if self.words[word] >> shift & MOST == lowest {
                    self.words[word] += 1 << shift;
                }
            }
        }
        self.asked += 1;
        if self.asked >= self.period {
            self.asked /= 2;
            // Half of every counter; the bit that would fall into its neighbour is cleared.
            self.words.iter_mut().for_each(|word| *word = *word >> 1 & 0x7777_7777_7777_7777);
        }
    }

    /// Estimated number of recent lookups: never too low since the last halving, and at most 15.
    pub fn estimate(&self, key: &CacheKey) -> u64 {
        self.places(key)
            .map(|(word, shift)| self.words[word] >> shift & MOST)
            .into_iter()
            .min()
            .unwrap_or_default()
    }

    /// The key's counter in each row: word, and place in the word. A key is a SHA-256, so its parts are
    /// hashes already.
    fn places(&self, key: &CacheKey) -> [(usize, usize); ROWS] {
        std::array::from_fn(|row| {
            let part = key[8 * row..].first_chunk().map_or(0, |part| u64::from_le_bytes(*part));
            let counter = row * (self.mask + 1) + (part as usize & self.mask);
            (counter / COUNTERS_A_WORD, counter % COUNTERS_A_WORD * 4)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::key;
    use super::*;

    #[test]
    fn counts_up_to_fifteen_and_halves() {
        let mut sketch = Sketch::new(1000);
        (0..100).for_each(|_| sketch.count(&key(1)));
        (0..5).for_each(|_| sketch.count(&key(2)));
        assert_eq!([1, 2, 3].map(|n| sketch.estimate(&key(n))), [15, 5, 0]);
        for _ in sketch.asked..sketch.period {
            sketch.count(&key(1));
        }
        assert_eq!([1, 2, 3].map(|n| sketch.estimate(&key(n))), [7, 2, 0]);
    }

    #[test]
    fn never_counts_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(1000);
        (0..2000).for_each(|n| sketch.count(&key(n)));
        assert!((0..2000).all(|n| sketch.estimate(&key(n)) >= 1));
        let too_high = (0..2000).filter(|&n| sketch.estimate(&key(n)) > 1).count();
        assert!(too_high < 100, "{too_high} of 2000 keys asked for once look like more");
        assert_eq!(Sketch::bytes(1000), sketch.words.len() * 8);
    }
}
