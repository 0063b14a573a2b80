//! Which outcome subjects the server lets the daemon publish to.
//!
//! A server says nothing of what it accepts, and of what it refuses it says so later. So the first outcome of each subject is followed by
//! a round trip, after which a refusal would have come; from then on the subject counts as allowed until the connection is another or a
//! refusal comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;

/// Subjects known to be allowed; with more sources than this all are asked about again.
const MAX_ALLOWED: usize = 4096;

/// How long after its last refusal a subject keeps the daemon from being ready, where nothing is published to it any more.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What is known of the subjects.
#[derive(Debug, Clone)]
pub struct Permissions {
    connection: Connection,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The connection, and how many refusals there had been.
    as_of: (u64, u64),
    /// With how often they had been refused when they were accepted.
    allowed: HashMap<String, u64>,
    refused: HashMap<String, (Instant, String)>,
}

/// A subject that was published to without knowing whether it is allowed.
#[derive(Debug)]
pub(super) struct Asked {
    subject: String,
    index: usize,
    refused_before: u64,
}

impl Permissions {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, known: Arc::default() }
    }

    /// The subject refused last and the server's words, while that keeps outcomes from going out.
    pub fn refused(&self) -> Option<(String, String)> {
        let known = self.known();
        let is_of_now = known.as_of.0 == self.connection.epoch();
        let recent = known.refused.iter().filter(|(_, (at, _))| is_of_now && at.elapsed() < REFUSED_FOR);
        recent.max_by_key(|(_, (at, _))| *at).map(|(subject, (_, words))| (subject.clone(), words.clone()))
    }

    /// Forgets what another connection or a refusal has made doubtful.
    pub(super) fn refresh(&self) {
        let refusals = self.connection.refusals();
        let as_of = (self.connection.epoch(), refusals.count());
        let mut known = self.known();
        if known.as_of.0 != as_of.0 {
            known.allowed.clear();
            known.refused.clear();
        } else if known.as_of.1 != as_of.1 {
            known.allowed.retain(|subject, times| refusals.times(subject) == *times);
        }
        known.as_of = as_of;
    }

    /// What is to be asked of a subject that is about to be published to, where it is not known to be allowed.
    pub(super) fn unknown(&self, subject: &str, index: usize) -> Option<Asked> {
        let is_allowed = self.known().allowed.contains_key(subject);
        let refused_before = || self.connection.refusals().times(subject);
        (!is_allowed).then(|| Asked { subject: subject.to_owned(), index, refused_before: refused_before() })
    }

    /// Waits for the server's answer and gives those it refuses, by index and with its words.
    pub(super) async fn ask(&self, asked: Vec<Asked>, bound: Duration) -> Vec<(usize, String)> {
        let echoes = async {
            // A refusal goes through a task of its own, so one echo may overtake it; two do not.
            for _ in 0..2 {
                let _ = self.connection.echo().await;
            }
        };
        // Without an answer they count as allowed, as all are after the first.
        let _ = tokio::time::timeout(bound, echoes).await;
        let mut refused = Vec::new();
        for Asked { subject, index, refused_before } in asked {
            let refusal = self.connection.refusals().get(&subject);
            let mut known = self.known();
            match refusal {
                Some(refusal) if refusal.times > refused_before => {
                    known.refused.insert(subject, (Instant::now(), refusal.words.clone()));
                    refused.push((index, refusal.words));
                }
                _ => {
                    if known.allowed.len() >= MAX_ALLOWED {
                        known.allowed.clear();
                    }
                    known.refused.remove(&subject);
                    known.allowed.insert(subject, refusal.map_or(0, |refusal| refusal.times));
                }
            }
        }
        refused
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
