//! Frames that are known to be missed: gaps in the `seq` of each source.
//!
//! Pure: the time is an argument. A number that is skipped is missing until its frame comes late, or for
//! [`WINDOW`]; then it is due to be counted. Resets, repeats and reordering are no gaps, nor are steps of a
//! source that has never sent two consecutive numbers: where a sequence can be read in two ways, the one with
//! fewer missing frames is assumed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a frame may come after a later one without counting as missing.
pub const WINDOW: Duration = Duration::from_millis(100);

/// No number of a frame that is behind.
const NONE: u64 = u64::MAX;

/// A frame may come after so many later ones of its source; more are not merely out of order.
const MAX_OVERTAKEN: u64 = 256;

/// A source that has not counted beyond this is not taken for a restarted one: its first frames may be out of
/// order.
const MAX_REORDERED: u64 = 16;

/// A jump forward by more is a new count, not a gap.
const MAX_GAP: u64 = 1 << 20;

/// Maximum number of sources; the least recently seen is dropped first.
const MAX_SOURCES: usize = 4096;

/// Gaps of one source that wait to be filled; the oldest is due at once where there are more.
const MAX_OPEN: usize = 64;

/// Frames of one source that were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Whose they were.
    pub source: String,
    /// How many.
    pub frames: u64,
}

/// The counts of all sources.
#[derive(Debug)]
pub struct Gaps {
    sources: LruCache<String, Count>,
    /// Sources with open gaps, by when those are due.
    open: VecDeque<(Instant, String)>,
    due: Vec<Missed>,
}

/// How far one source has counted.
#[derive(Debug)]
struct Count {
    /// The number after the last one that was taken in order.
    next: u64,
    /// The highest `next` before the source restarted its count.
    high: u64,
    /// The number after the last one, where that was behind `next` and 0 or 1, as a restarted source sends;
    /// else [`NONE`].
    behind: u64,
    /// Whether it has sent two consecutive numbers. Before that, they may be sample counts or milliseconds.
    is_by_one: bool,
    gaps: VecDeque<Gap>,
}

#[derive(Debug)]
struct Gap {
    missing: Range<u64>,
    due: Instant,
}

impl Gap {
    fn frames(&self) -> u64 {
        self.missing.end - self.missing.start
    }
}

impl Default for Gaps {
    fn default() -> Self {
        Self { sources: LruCache::unbounded(), open: VecDeque::new(), due: Vec::new() }
    }
}

impl Gaps {
    /// Records a frame. Returns whether a gap opened.
    pub fn observe(&mut self, source: &str, seq: u64, now: Instant) -> bool {
        let Some(count) = self.sources.get_mut(source) else {
            let count = Count {
                next: seq.saturating_add(1),
                high: 0,
                behind: NONE,
                is_by_one: false,
                gaps: VecDeque::new(),
            };
            self.sources.put(source.to_owned(), count);
            if self.sources.len() > MAX_SOURCES
                && let Some((source, count)) = self.sources.pop_lru()
                && !count.gaps.is_empty()
            {
                self.due.push(Missed { source, frames: count.gaps.iter().map(Gap::frames).sum() });
            }
            return false;
        };
        let restarted_with = std::mem::replace(&mut count.behind, NONE);
        let was_missing = !count.gaps.is_empty() && count.fill(seq);
        // The usual case.
        if seq == count.next {
            (count.next, count.is_by_one) = (seq.saturating_add(1), true);
            return false;
        }
        if was_missing {
            return false;
        }
        let Some(missing) = count.take(seq, restarted_with) else { return false };
        if count.gaps.len() == MAX_OPEN
            && let Some(oldest) = count.gaps.pop_front()
        {
            self.due.push(Missed { source: source.to_owned(), frames: oldest.frames() });
        }
        let due = now + WINDOW;
        count.gaps.push_back(Gap { missing, due });
        self.open.push_back((due, source.to_owned()));
        true
    }

    /// When the next gap is due; `None` where none is open.
    pub fn next_due(&self) -> Option<Instant> {
        self.open.front().map(|(due, _)| *due)
    }

    /// Takes the gaps that nothing has filled in time.
    pub fn take_due(&mut self, now: Instant) -> Vec<Missed> {
        let mut missed = std::mem::take(&mut self.due);
        while self.open.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, source)) = self.open.pop_front() else { break };
            let Some(count) = self.sources.peek_mut(&source) else { continue };
            let mut frames = 0;
            while count.gaps.front().is_some_and(|gap| gap.due <= now) {
                frames += count.gaps.pop_front().map_or(0, |gap| gap.frames());
            }
            if frames > 0 {
                missed.push(Missed { source, frames });
            }
        }
        missed
    }
}

impl Count {
    /// Records a number that is not the next one; returns the numbers that it skips. `second` is the number
    /// that would show that the source has restarted.
    fn take(&mut self, seq: u64, second: u64) -> Option<Range<u64>> {
        let following = seq.saturating_add(1);
        if seq > self.next {
            // Beyond the count that a reset left, so it may go on with that one.
            let from = if seq >= self.high { self.next.max(self.high) } else { self.next };
            self.next = following;
            return (self.is_by_one && seq > from && seq - from <= MAX_GAP).then_some(from..seq);
        }
        // Behind: a repeat, or a restarted source, which its second frame shows.
        if seq == second && self.next > MAX_REORDERED {
            self.high = self.high.max(self.next);
            self.next = following;
        } else if seq <= 1 {
            self.behind = following;
        }
        None
    }

    /// Removes a number from the missing ones; whether it was one.
    fn fill(&mut self, seq: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|gap| gap.missing.contains(&seq)) else { return false };
        if seq == self.gaps[at].missing.start && self.gaps[at].frames() > MAX_OVERTAKEN {
            // The source continues where it was; the number that opened the gap was a stray one.
            self.gaps.truncate(at);
            self.next = seq.saturating_add(1);
            return true;
        }
        let Gap { missing, due } = &mut self.gaps[at];
        let (before, after, due) = (missing.start..seq, seq + 1..missing.end, *due);
        *missing = before;
        if !after.is_empty() {
            self.gaps.insert(at + 1, Gap { missing: after, due });
        }
        if self.gaps[at].missing.is_empty() {
            let _ = self.gaps.remove(at);
        }
        true
    }
}

/// [`Gaps`] shared by ingest, which observes, and the task that counts what is missed.
#[derive(Debug, Default)]
pub struct GapWatch {
    gaps: Mutex<Gaps>,
    opened: Notify,
}

impl GapWatch {
    /// Records a frame; without a number it is ignored.
    pub fn observe(&self, source: &str, seq: Option<u64>, now: Instant) {
        let Some(seq) = seq else { return };
        if self.with(|gaps| gaps.observe(source, seq, now)) {
            self.opened.notify_one();
        }
    }

    /// Waits for an open gap; returns when it is due.
    pub async fn opened(&self) -> Instant {
        loop {
            if let Some(due) = self.with(|gaps| gaps.next_due()) {
                return due;
            }
            self.opened.notified().await;
        }
    }

    /// Takes the gaps that nothing has filled in time.
    pub fn take_due(&self, now: Instant) -> Vec<Missed> {
        self.with(|gaps| gaps.take_due(now))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Gaps) -> T) -> T {
        work(&mut self.gaps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    /// What is missed of numbers that come half a millisecond apart.
    fn missed(numbers: impl IntoIterator<Item = u64>) -> u64 {
        let (mut gaps, mut now, mut sum) = (Gaps::default(), Instant::now(), 0);
        let mut count = |missed: Vec<Missed>| sum += missed.iter().map(|missed| missed.frames).sum::<u64>();
        for seq in numbers {
            gaps.observe("s", seq, now);
            now += Duration::from_micros(500);
            count(gaps.take_due(now));
        }
        count(gaps.take_due(now + WINDOW));
        assert_eq!(gaps.next_due(), None, "nothing stays open");
        sum
    }

    #[test]
    fn gaps_are_missed_and_nothing_else() {
        for (numbers, frames, why) in [
            (vec![0, 1, 2, 3], 0, "all there"),
            (vec![7, 8], 0, "who begins later has missed nothing that is known"),
            (vec![0, 1, 5, 6], 3, "a gap"),
            (vec![0, 1, 5, 3, 6], 2, "one of them comes late"),
            (vec![0, 3, 2, 1, 4], 0, "another order"),
            (vec![0, 1, 1, 1, 2], 0, "repeats"),
            (vec![0, 1, 2, 3, 4, 1, 2, 5, 6], 0, "a run is repeated"),
            (vec![0, 1, 2, 3, 4, 2, 3, 6], 1, "a run is repeated, then one is missing"),
            (vec![5, 6, 7, 8, 9, 5, 7, 10], 0, "single ones are repeated"),
            (vec![0, 6, 4, 1, 2, 3, 5, 7], 0, "an order that looks like a reset"),
            (vec![90, 91, 0, 1, 2], 0, "a reset"),
            (vec![90, 91, 0, 1, 4], 2, "a gap after a reset"),
            (vec![90, 91, 0, 1, 2, 3, 92, 93], 0, "two that count alike under one name"),
            (vec![0, 8192, 16384, 24576], 0, "a count of samples"),
            (vec![0, 1, 1 << 40, (1 << 40) + 1], 0, "a jump is a new count"),
            (vec![0, 1, 1_000_000, 2, 3, 4], 0, "a stray number"),
            (vec![0, 1, 1000, 5000, 2, 3, 5], 1, "stray numbers, then a gap"),
            (vec![0, 1, 1000, 1001, 1002], 998, "a long gap"),
            (vec![u64::MAX - 1, u64::MAX, 0, 1], 0, "the end of all numbers"),
        ] {
            assert_eq!(missed(numbers.clone()), frames, "{why}: {numbers:?}");
        }
    }

    #[test]
    fn a_gap_is_due_when_nothing_fills_it_in_time() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        assert!(!gaps.observe("a", 0, start) && !gaps.observe("a", 1, start));
        assert!(gaps.observe("a", 4, start) && !gaps.observe("b", 9, start));
        assert_eq!(gaps.next_due(), Some(start + WINDOW));
        assert_eq!(gaps.take_due(start + WINDOW - Duration::from_nanos(1)), []);
        assert!(!gaps.observe("a", 2, start + WINDOW / 2));
        assert_eq!(gaps.take_due(start + WINDOW), [Missed { source: "a".into(), frames: 1 }]);
        assert!(!gaps.observe("a", 3, start + WINDOW), "too late; it is received as well as missed");
        assert_eq!(gaps.take_due(start + 2 * WINDOW), []);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        for n in 0..2 * MAX_SOURCES {
            gaps.observe(&n.to_string(), 0, now);
        }
        assert_eq!(gaps.sources.len(), MAX_SOURCES);
        gaps.observe("s", 0, now);
        for n in 0..4 * MAX_OPEN as u64 {
            gaps.observe("s", 2 * n + 1, now);
        }
        assert!(gaps.sources.peek("s").is_some_and(|count| count.gaps.len() <= MAX_OPEN));
        let sum: u64 = gaps.take_due(now + WINDOW).iter().map(|missed| missed.frames).sum();
        assert_eq!(sum, 4 * MAX_OPEN as u64 - 1, "however many are open, all are accounted for");
        // Also those of a source that is dropped.
        gaps.observe("s", 10_000, now);
        for n in 0..2 * MAX_SOURCES {
            gaps.observe(&n.to_string(), 0, now);
        }
        assert!(
            gaps.sources.peek("s").is_none() && gaps.take_due(now).iter().any(|missed| missed.source == "s")
        );
    }

    proptest! {
        /// Frames left out of a run are missed, but for those before the first and after the last that comes.
        #[test]
        fn a_run_with_holes_misses_its_holes(some in subsequence((2..200u64).collect::<Vec<_>>(), 1..198)) {
            let numbers = [vec![0, 1], some].concat();
            let holes = numbers[numbers.len() - 1] - numbers[0] + 1 - numbers.len() as u64;
            prop_assert_eq!(missed(numbers), holes);
        }

        /// However near frames change places and however often one comes again, none is missed that comes.
        #[test]
        fn order_and_repeats_do_not_matter(
            swaps in vec((0..98usize, 1..3usize), 0..60),
            repeats in vec(0..100usize, 0..20),
        ) {
            let mut numbers: Vec<u64> = (0..100).collect();
            for (at, by) in swaps {
                numbers[1..].swap(at, (at + by).min(98));
            }
            for at in repeats {
                let seq = numbers[at];
                numbers.insert(at + 1, seq);
            }
            prop_assert_eq!(missed(numbers), 0);
        }

        /// Any numbers at all: nothing overflows, nothing stays open.
        #[test]
        fn any_numbers_are_taken(numbers in vec(prop_oneof![any::<u64>(), 0..50u64], 0..300)) {
            missed(numbers);
        }
    }
}
