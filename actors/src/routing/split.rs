//! Which version gets a session, a source or a frame.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::trail::Assignment;

/// How many splits were made.
static SPLITS: AtomicU64 = AtomicU64::new(0);

/// What stays with one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitKey {
    /// All frames of a `session_id`; of a frame without one, of its source.
    #[default]
    Session,
    /// All frames of a source.
    Source,
    /// Each frame for itself.
    Frame,
}

/// Who sends a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender<'a> {
    /// Its `session_id`.
    pub session: Option<&'a str>,
    /// Its source.
    pub source: &'a str,
    /// Its `frame_id`.
    pub frame: &'a str,
}

impl<'a> Sender<'a> {
    fn key(self, key: SplitKey) -> &'a str {
        match key {
            SplitKey::Session => self.session.unwrap_or(self.source),
            SplitKey::Source => self.source,
            SplitKey::Frame => self.frame,
        }
    }
}

/// Shares of the versions of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Name of the model: the sessions of one model's canary are not those of another's.
    pub model: String,
    /// What is divided.
    pub key: SplitKey,
    /// The number of the split in this process.
    pub number: u64,
    parts: Vec<Part>,
}

/// A version's part of [0, 1); the parts lie one after the other.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    version: String,
    share: f64,
    /// Its upper end; the last one's is 1.
    end: f64,
}

impl Split {
    /// Divides in these proportions, in this order. Of two versions, whoever has the one whose share grows
    /// keeps it.
    pub fn new(model: &str, key: SplitKey, weights: &[(String, f64)]) -> Self {
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let parts = weights.iter().map(|(version, weight)| {
            let share = weight / total;
            sum += share;
            Part { version: version.clone(), share, end: sum }
        });
        let number = SPLITS.fetch_add(1, Relaxed);
        Self { model: model.to_owned(), key, number, parts: parts.collect() }
    }

    /// The version for this sender, the same in every daemon; `None` only without versions.
    pub fn version(&self, sender: Sender<'_>) -> Option<(&str, Assignment)> {
        let key = hash(&self.model, sender.key(self.key));
        let point = point(key);
        let part = self.parts.iter().find(|part| point < part.end).or(self.parts.last());
        part.map(|part| (part.version.as_str(), Assignment { split: self.number, key }))
    }

    /// A version's share, 0 to 1.
    pub fn share(&self, version: &str) -> f64 {
        self.shares().find(|(part, _)| *part == version).map(|(_, share)| share).unwrap_or_default()
    }

    /// The versions with their shares.
    pub fn shares(&self) -> impl Iterator<Item = (&str, f64)> {
        self.parts.iter().map(|part| (part.version.as_str(), part.share))
    }
}

/// A number that is the same on every machine: the first eight bytes of SHA-256.
pub(super) fn hash(model: &str, key: &str) -> u64 {
    let digest = Sha256::new().chain_update(model).chain_update([0]).chain_update(key).finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A hash as a point of [0, 1).
pub(super) fn point(hash: u64) -> f64 {
    hash as f64 / 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(canary: f64) -> Split {
        let weights = [("2".to_owned(), canary), ("1".to_owned(), 100.0 - canary)];
        Split::new("localization", SplitKey::Session, &weights)
    }

    fn version(split: &Split, session: &str) -> String {
        let sender = Sender { session: Some(session), source: "rx", frame: "f" };
        split.version(sender).unwrap().0.to_owned()
    }

    #[test]
    fn a_tenth_of_twenty_thousand_sessions_is_a_tenth() {
        let sessions: Vec<String> = (0..20_000).map(|n| format!("session-{n}")).collect();
        let canary = sessions.iter().filter(|session| version(&split(10.0), session) == "2").count();
        assert!((1800..=2200).contains(&canary), "{canary}");
        assert!((split(10.0).share("2") - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_growing_canary_keeps_its_sessions() {
        for session in (0..2000).map(|n| n.to_string()) {
            for (less, more) in [(1.0, 5.0), (5.0, 25.0), (25.0, 100.0)] {
                let had_it = version(&split(less), &session) == "2";
                assert!(!had_it || version(&split(more), &session) == "2", "{session}");
            }
        }
    }

    #[test]
    fn the_hash_is_fixed() {
        // sha256(b"m\0s")[:8]
        assert_eq!(hash("m", "s"), 0x4b35_c3f8_f4e1_3f44);
    }
}
