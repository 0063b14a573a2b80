//! Frames that a stream holds.

use std::collections::{BTreeMap, BTreeSet};

/// Which subjects a stream holds, by the first answer on each.
#[derive(Default)]
pub struct Held {
    /// Those held by one.
    pub by_stream: BTreeSet<String>,
    /// Those that daemons answer.
    pub by_none: BTreeSet<String>,
    /// Frames that were requests and have no answer, with their subjects.
    pub unanswered: BTreeMap<u64, String>,
}

impl Held {
    /// A frame was answered.
    pub fn answered(&mut self, number: u64, is_acknowledgement: bool) {
        let Some(subject) = self.unanswered.remove(&number) else { return };
        if is_acknowledgement {
            self.by_stream.insert(subject);
        } else if !self.by_stream.contains(&subject) {
            self.by_none.insert(subject);
        }
    }

    /// Frames that their stream has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.unanswered.values().filter(|subject| self.by_stream.contains(*subject)).count()
    }
}
