//! What the server refuses: it says so on the connection, not to whoever asked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Subjects that are told apart; a sender may choose any number of reply subjects.
const MAX_SUBJECTS: usize = 256;

/// The subjects that the server has refused to publish to or to subscribe to.
#[derive(Debug, Default)]
pub struct Refusals {
    by_subject: Mutex<HashMap<String, Refused>>,
    seen: watch::Sender<u64>,
}

/// One subject's refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How often the server has refused it.
    pub times: u64,
    /// The server's words of the last time.
    pub words: String,
}

impl Refusals {
    /// Reads what the server says; of anything but a refusal nothing is kept.
    pub(super) fn saw(&self, words: &str) {
        let Some(subject) = refused_subject(words) else { return };
        let mut by_subject = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        if by_subject.len() >= MAX_SUBJECTS && !by_subject.contains_key(subject) {
            by_subject.clear();
        }
        let refusal = by_subject.entry(subject.to_owned()).or_insert(Refused { times: 0, words: String::new() });
        refusal.times += 1;
        words.clone_into(&mut refusal.words);
        drop(by_subject);
        self.seen.send_modify(|seen| *seen += 1);
    }

    /// Counts all refusals.
    pub fn count(&self) -> u64 {
        *self.seen.borrow()
    }

    /// How often, and how, a subject was refused.
    pub fn get(&self, subject: &str) -> Option<Refused> {
        self.by_subject.lock().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()
    }

    /// How often a subject was refused.
    pub fn times(&self, subject: &str) -> u64 {
        self.get(subject).map_or(0, |refusal| refusal.times)
    }

    /// Waits until a subject has been refused more than `before` times; gives the server's words.
    pub async fn refused(&self, subject: &str, before: u64) -> String {
        let mut seen = self.seen.subscribe();
        loop {
            if let Some(refusal) = self.get(subject).filter(|refusal| refusal.times > before) {
                return refusal.words;
            }
            // The sender is our own.
            let _ = seen.changed().await;
        }
    }
}

/// The subject of `Permissions Violation for Publish to "s"` and `… for Subscription to "s"`, with or without a queue group.
fn refused_subject(words: &str) -> Option<&str> {
    let (what, rest) = words.split_once(" to \"")?;
    let (subject, _) = rest.split_once('"')?;
    what.to_ascii_lowercase().starts_with("permissions violation for").then_some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_known_by_its_subject() {
        let refusals = Refusals::default();
        for words in [
            r#"Permissions Violation for Publish to "iq.frames.A""#,
            r#"Permissions Violation for Subscription to "iq.frames.>" using queue "sferic""#,
            r#"Permissions Violation for Publish to "iq.frames.A""#,
            "Maximum Payload Violation",
            r#"Invalid Subject to "x""#,
        ] {
            refusals.saw(words);
        }
        assert_eq!(refusals.count(), 3);
        assert_eq!((refusals.times("iq.frames.A"), refusals.times("iq.frames.>"), refusals.times("x")), (2, 1, 0));
        let words = refusals.refused("iq.frames.>", 0).await;
        assert!(words.contains("using queue"), "{words}");
        let (words, ()) = tokio::join!(refusals.refused("iq.frames.A", 2), async {
            refusals.saw(r#"Permissions Violation for Publish to "iq.frames.A", again"#);
        });
        assert!(words.contains("again"), "{words}");
    }

    #[test]
    fn however_many_subjects_are_refused_few_are_kept() {
        let refusals = Refusals::default();
        for n in 0..10 * MAX_SUBJECTS {
            refusals.saw(&format!("Permissions Violation for Publish to \"reply.{n}\""));
        }
        assert!(refusals.by_subject.lock().unwrap().len() <= MAX_SUBJECTS);
        assert_eq!(refusals.count(), 10 * MAX_SUBJECTS as u64);
    }
}
