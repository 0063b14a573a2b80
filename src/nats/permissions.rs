//! The outcome subjects that the server lets the daemon publish to.
//!
//! A server does not confirm a publication and reports a refusal later. So the first outcome of each subject
//! waits until a refusal would have arrived; from then on the subject counts as allowed, until there is a new
//! connection or a refusal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use super::refusals::Action;

/// Maximum number of subjects known to be allowed; beyond it all are checked again.
const MAX_ALLOWED: usize = 65_536;

/// How long a refused subject keeps the daemon not ready while only other subjects are published to.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What is known of the subjects.
#[derive(Debug, Clone)]
pub struct Permissions {
    connection: Connection,
    known: Arc<Mutex<SubjectStates>>,
}

/// The subjects known to be allowed, and the last refusal.
#[derive(Debug, Default)]
struct SubjectStates {
    /// Connection epoch and number of refusals that this is based on.
    as_of: (u64, u64),
    /// Allowed subjects, with the number of refusals before they were checked.
    allowed: HashMap<String, u64>,
    refused: Option<LastRefusal>,
}

/// The subject refused last.
#[derive(Debug)]
struct LastRefusal {
    subject: String,
    words: String,
    at: Instant,
}

/// A subject published to before it was known to be allowed.
#[derive(Debug)]
pub(super) struct Asked {
    subject: String,
    index: usize,
    /// Number of refusals before.
    after: u64,
}

impl Permissions {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, known: Arc::default() }
    }

    /// The subject refused last and the error text, while that keeps outcomes from being published.
    pub fn refused(&self) -> Option<(String, String)> {
        let known = self.refreshed();
        let refused = known.refused.as_ref()?;
        Some((refused.subject.clone(), refused.words.clone()))
    }

    /// Brings the knowledge up to date; once before the subjects of a batch are looked up.
    pub(super) fn refresh(&self) {
        drop(self.refreshed());
    }

    fn known(&self) -> MutexGuard<'_, SubjectStates> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current knowledge; a new connection or refusal invalidates what it affects.
    fn refreshed(&self) -> MutexGuard<'_, SubjectStates> {
        let refusals = self.connection.refusals();
        let mut guard = self.known();
        let known = &mut *guard;
        let as_of = (self.connection.epoch(), refusals.count());
        if known.as_of.0 != as_of.0 {
            known.allowed.clear();
            known.refused = None;
        } else if known.as_of.1 != as_of.1 {
            known.allowed.retain(|subject, after| {
                let words = refusals.since(Action::Publish, subject, *after);
                let is_allowed = words.is_none();
                if let Some(words) = words {
                    known.refused = Some(LastRefusal { subject: subject.clone(), words, at: Instant::now() });
                }
                is_allowed
            });
        }
        known.as_of = as_of;
        guard
    }

    /// Returns the check to be made for a subject that is about to be published to, if it is not known to be
    /// allowed.
    pub(super) fn unknown(&self, subject: &str, index: usize) -> Option<Asked> {
        let mut known = self.known();
        if known.allowed.contains_key(subject) {
            known.refused.take_if(|refused| refused.at.elapsed() >= REFUSED_FOR);
            return None;
        }
        Some(Asked { subject: subject.to_owned(), index, after: known.as_of.1 })
    }

    /// Waits for the refusals of these subjects; returns them by index with the error text.
    pub(super) async fn ask(&self, asked: Vec<Asked>, bound: Duration) -> Vec<(usize, String)> {
        // Without an answer they count as published, but the next ones are checked again.
        let is_answered = tokio::time::timeout(bound, self.connection.settled()).await.is_ok();
        let mut refused = Vec::new();
        let mut known = self.refreshed();
        for Asked { subject, index, after } in asked {
            if let Some(words) = self.connection.refusals().since(Action::Publish, &subject, after) {
                known.refused = Some(LastRefusal { subject, words: words.clone(), at: Instant::now() });
                refused.push((index, words));
            } else if is_answered {
                if known.allowed.len() >= MAX_ALLOWED {
                    known.allowed.clear();
                }
                if known.refused.as_ref().is_some_and(|refused| refused.subject == subject) {
                    known.refused = None;
                }
                known.allowed.insert(subject, after);
            }
        }
        refused
    }
}
