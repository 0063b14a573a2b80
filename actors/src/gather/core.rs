//! Which frames belong together, and when they are answered: plain and synchronous.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::rules::GatherRules;

/// Closed sessions that are remembered at most, for each that may be open.
const REMEMBERED: usize = 64;

/// The open sessions, and those that were closed lately.
///
/// Invariant: what is decided depends on the times at which frames arrived, not on when they are looked at.
#[derive(Debug)]
pub struct Sessions<M> {
    max_sessions: usize,
    remember: Duration,
    open: HashMap<SessionKey, Open<M>>,
    /// The open ones by the end of their window.
    ends: BTreeMap<(Instant, u64), SessionKey>,
    /// The closed ones that are remembered, in the order in which they were closed.
    closed: VecDeque<(Instant, SessionKey)>,
    /// When each was closed.
    closed_at: HashMap<SessionKey, Instant>,
    opened: u64,
}

/// A session of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The model's name.
    pub model: Arc<str>,
    /// The session's id.
    pub id: Arc<str>,
}

#[derive(Debug)]
struct Open<M> {
    rules: Arc<GatherRules>,
    number: u64,
    ends_at: Instant,
    size: Option<usize>,
    members: Vec<(String, M)>,
}

/// A session that gets no more frames.
#[derive(Debug)]
pub struct Closed<M> {
    /// Which one.
    pub key: SessionKey,
    /// The rules of the version that its first frame was for.
    pub rules: Arc<GatherRules>,
    /// Sources and what came from them, in order of arrival.
    pub members: Vec<(String, M)>,
    /// Whether all its frames came; else its window has ended.
    pub is_complete: bool,
}

/// What of a frame decides where it belongs.
#[derive(Debug, Clone, Copy)]
pub struct Arriving<'a> {
    /// The session.
    pub key: &'a SessionKey,
    /// The frame's source.
    pub source: &'a str,
    /// When it arrived.
    pub at: Instant,
    /// How many frames the session will have, where the frame says so.
    pub size: Option<usize>,
}

/// Why a frame does not get into its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotJoined {
    /// The session was closed before it came.
    Closed,
    /// There is one of its source already.
    Repeated,
    /// It says a smaller size than the session has frames already.
    TooSmall {
        /// Frames that are there.
        there: usize,
        /// What it says.
        now: usize,
    },
    /// It says another size than an earlier frame.
    OtherSize {
        /// What the earlier one said.
        before: usize,
        /// What this one says.
        now: usize,
    },
    /// As many sessions are open as may be.
    TooMany,
}

impl<M> Sessions<M> {
    /// No session. At most `max_sessions` may be open, and a closed one is remembered so long.
    pub fn new(max_sessions: usize, remember: Duration) -> Self {
        Self {
            max_sessions,
            remember,
            open: HashMap::new(),
            ends: BTreeMap::new(),
            closed: VecDeque::new(),
            closed_at: HashMap::new(),
            opened: 0,
        }
    }

    /// Closes the sessions whose window has ended by `through`, up to which all arrivals are known.
    pub fn close_ended(&mut self, through: Instant) -> Vec<Closed<M>> {
        let mut closed = Vec::new();
        while let Some((&(ends_at, number), _)) = self.ends.first_key_value()
            && ends_at <= through
            && let Some(key) = self.ends.remove(&(ends_at, number))
        {
            closed.extend(self.close(&key, ends_at, false));
        }
        self.forget(through, REMEMBERED.saturating_mul(self.max_sessions));
        closed
    }

    /// Whether a frame gets into its session; asked after [`close_ended`](Self::close_ended) of its arrival.
    pub fn check(&self, arriving: Arriving<'_>) -> Result<(), NotJoined> {
        let Arriving { key, source, at, size } = arriving;
        let Some(open) = self.open.get(key) else {
            return match self.closed_at.get(key) {
                Some(&closed_at) if at < closed_at + self.remember => Err(NotJoined::Closed),
                _ if self.open.len() >= self.max_sessions => Err(NotJoined::TooMany),
                _ => Ok(()),
            };
        };
        match (open.size, size) {
            _ if open.members.iter().any(|(other, _)| other == source) => Err(NotJoined::Repeated),
            (Some(before), Some(now)) if before != now => Err(NotJoined::OtherSize { before, now }),
            (_, Some(now)) if now <= open.members.len() => {
                Err(NotJoined::TooSmall { there: open.members.len(), now })
            }
            _ => Ok(()),
        }
    }

    /// What came first of an open session.
    pub fn first(&self, key: &SessionKey) -> Option<&M> {
        self.open.get(key)?.members.first().map(|(_, member)| member)
    }

    /// Adds a frame that [`check`](Self::check) lets in; returns the session where that completes it.
    pub fn join(&mut self, arriving: Arriving<'_>, rules: &Arc<GatherRules>, member: M) -> Option<Closed<M>> {
        let Arriving { key, source, at, size } = arriving;
        if !self.open.contains_key(key) {
            self.opened += 1;
            let ends_at = at + rules.window;
            self.ends.insert((ends_at, self.opened), key.clone());
            let rules = Arc::clone(rules);
            let open = Open { rules, number: self.opened, ends_at, size: None, members: Vec::new() };
            self.open.insert(key.clone(), open);
        }
        let open = self.open.get_mut(key)?;
        open.size = open.size.or(size);
        open.members.push((source.to_owned(), member));
        let wanted = open.size.unwrap_or(usize::MAX).min(open.rules.slots());
        if open.members.len() < wanted {
            return None;
        }
        let end = (open.ends_at, open.number);
        self.ends.remove(&end);
        self.close(key, at, true)
    }

    /// When the first window ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|(&(ends_at, _), _)| ends_at)
    }

    /// Open sessions, and the frames in them.
    pub fn waiting(&self) -> (usize, usize) {
        (self.open.len(), self.open.values().map(|open| open.members.len()).sum())
    }

    /// Removes all that is open.
    pub fn drain(&mut self) -> Vec<M> {
        self.ends.clear();
        self.open.drain().flat_map(|(_, open)| open.members).map(|(_, member)| member).collect()
    }

    fn close(&mut self, key: &SessionKey, at: Instant, is_complete: bool) -> Option<Closed<M>> {
        let Open { rules, members, .. } = self.open.remove(key)?;
        self.forget(at, REMEMBERED.saturating_mul(self.max_sessions) - 1);
        self.closed.push_back((at, key.clone()));
        self.closed_at.insert(key.clone(), at);
        Some(Closed { key: key.clone(), rules, members, is_complete })
    }

    /// Forgets what was closed too long ago, and what there is no room for.
    fn forget(&mut self, now: Instant, most: usize) {
        while let Some((closed_at, _)) = self.closed.front()
            && (*closed_at + self.remember <= now || self.closed.len() > most)
            && let Some((closed_at, key)) = self.closed.pop_front()
        {
            // The same session may have been opened and closed again since.
            if self.closed_at.get(&key) == Some(&closed_at) {
                self.closed_at.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
