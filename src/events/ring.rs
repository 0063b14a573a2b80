//! Events that wait for a viewer, or that one may resume from: the newest ones.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Event;

/// The newest events, within bounds.
#[derive(Debug, Default)]
pub struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events that were pushed out since this was last asked.
    dropped: u64,
}

/// Events that a ring holds.
const MAX_EVENTS: usize = 1024;

/// Bytes that they have together.
const MAX_BYTES: usize = 4 << 20;

impl Ring {
    /// Adds an event; the oldest ones make room. Gives their number.
    pub fn push(&mut self, event: Arc<Event>) -> u64 {
        let before = self.dropped;
        self.bytes += event.text.len();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.text.len();
            self.dropped += 1;
        }
        self.dropped - before
    }

    /// Counts events that never came here.
    pub fn miss(&mut self, events: u64) {
        self.dropped += events;
    }

    /// Takes what was pushed out for not missing: nobody was waiting for it.
    pub fn forget_dropped(&mut self) {
        self.dropped = 0;
    }

    /// Takes the oldest events, together about `bytes` long, and the number of those that are missing before
    /// them.
    pub fn take(&mut self, bytes: usize) -> (u64, Vec<Arc<Event>>) {
        let (mut taken, mut length) = (Vec::new(), 0);
        while length < bytes
            && let Some(event) = self.events.pop_front()
        {
            length += event.text.len();
            taken.push(event);
        }
        self.bytes -= length;
        (std::mem::take(&mut self.dropped), taken)
    }

    /// The outcomes after a number, and how many between are not here any more.
    pub fn after(&self, number: u64, newest: u64) -> (u64, impl Iterator<Item = &Arc<Event>>) {
        let first = self.events.front().and_then(|event| event.number).unwrap_or(newest + 1);
        let missing = first.saturating_sub(number.saturating_add(1));
        (missing, self.events.iter().filter(move |event| event.number.is_some_and(|each| each > number)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::interest::Kind;
    use super::*;

    fn event(number: u64, bytes: usize) -> Arc<Event> {
        let text = vec![b'x'; bytes].into();
        Arc::new(Event { kind: Kind::Outcome, source: None, number: Some(number), text })
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let mut ring = Ring::default();
        (1..=MAX_EVENTS as u64 + 10).for_each(|number| _ = ring.push(event(number, 1)));
        let (dropped, taken) = ring.take(5);
        assert_eq!((dropped, taken.len(), taken[0].number), (10, 5, Some(11)));
        assert_eq!(ring.take(usize::MAX).1.len(), MAX_EVENTS - 5);
        // By bytes.
        (0..6).for_each(|number| _ = ring.push(event(number, MAX_BYTES / 4)));
        let (dropped, taken) = ring.take(usize::MAX);
        assert_eq!((dropped, taken.len()), (2, 4));
        ring.push(event(7, MAX_BYTES + 1));
        assert_eq!(ring.take(usize::MAX).0, 1, "one that fits nowhere is none");
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn a_viewer_resumes_after_what_it_has_seen() {
        let mut ring = Ring::default();
        assert_eq!(ring.after(3, 9).0, 6, "nothing was kept");
        (10..=20).for_each(|number| _ = ring.push(event(number, 1)));
        for (seen, missing, left) in
            [(u64::MAX, 0, 0), (20, 0, 0), (15, 0, 5), (9, 0, 11), (4, 5, 11), (0, 9, 11)]
        {
            let (counted, events) = ring.after(seen, 20);
            assert_eq!((counted, events.count()), (missing, left), "{seen}");
        }
    }
}
