//! Permission errors of the server: they are reported on the connection, not to the caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Maximum number of refusals kept, because senders choose reply subjects. The oldest is dropped first.
const MAX_KEPT: usize = 1024;

/// An operation on a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish to it.
    Publish,
    /// Subscribe to it.
    Subscribe,
}

/// The refusals in order. Each has a number: a caller reads [`count`](Self::count) before an operation and
/// then looks for a later refusal.
#[derive(Debug, Default)]
pub struct Refusals {
    last: Mutex<HashMap<(Action, String), Refusal>>,
    count: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Refusal {
    number: u64,
    words: String,
}

impl Refusals {
    /// Records an error of the server if it is a refusal.
    pub(super) fn record(&self, words: &str) {
        let Some((action, subject)) = read(words) else { return };
        let mut last = self.last();
        let number = *self.count.borrow() + 1;
        last.insert((action, subject.to_owned()), Refusal { number, words: words.to_owned() });
        if last.len() > MAX_KEPT {
            last.retain(|_, refused| refused.number + MAX_KEPT as u64 / 2 > number);
        }
        drop(last);
        self.count.send_replace(number);
    }

    /// The number of refusals.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// The error text, if this was refused since there were `after` refusals.
    pub fn since(&self, action: Action, subject: &str, after: u64) -> Option<String> {
        let last = self.last();
        let refused = last.get(&(action, subject.to_owned())).filter(|refused| refused.number > after);
        refused.map(|refused| refused.words.clone())
    }

    /// Waits until this is refused, or returns at once if it was since there were `after` refusals; returns
    /// the error text.
    pub async fn refused(&self, action: Action, subject: &str, after: u64) -> String {
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            if let Some(words) = self.since(action, subject, after) {
                return words;
            }
            // The sender is our own.
            let _ = count.changed().await;
        }
    }

    fn last(&self) -> MutexGuard<'_, HashMap<(Action, String), Refusal>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parses `Permissions Violation for Publish to "s"` and `… for Subscription to "s"`, with or without a
/// group.
fn read(words: &str) -> Option<(Action, &str)> {
    let (what, rest) = words.split_once(" to \"")?;
    let (subject, _) = rest.split_once('"')?;
    match what.to_ascii_lowercase().strip_prefix("permissions violation for ")? {
        "publish" => Some((Action::Publish, subject)),
        "subscription" => Some((Action::Subscribe, subject)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_known_by_action_and_subject() {
        let refusals = Refusals::default();
        for words in [
            r#"Permissions Violation for Publish to "iq.frames.A""#,
            r#"Permissions Violation for Subscription to "iq.frames.>" using queue "sferic""#,
            r#"Permissions Violation for Publish to "iq.frames.A""#,
            "Maximum Payload Violation",
            r#"Invalid Subject to "x""#,
        ] {
            refusals.record(words);
        }
        assert_eq!(refusals.count(), 3);
        assert!(refusals.since(Action::Publish, "iq.frames.A", 2).is_some());
        assert_eq!(refusals.since(Action::Publish, "iq.frames.A", 3), None);
        assert_eq!(refusals.since(Action::Publish, "iq.frames.>", 0), None, "that was a subscription");
        let words = refusals.refused(Action::Subscribe, "iq.frames.>", 0).await;
        assert!(words.contains("using queue"), "{words}");
        let (words, ()) = tokio::join!(refusals.refused(Action::Publish, "iq.frames.A", 3), async {
            refusals.record(r#"Permissions Violation for Publish to "iq.frames.A", again"#);
        });
        assert!(words.contains("again"), "{words}");
    }

    #[test]
    fn the_latest_refusals_are_kept_however_many_there_are() {
        let refusals = Refusals::default();
        for n in 0..10 * MAX_KEPT {
            let before = refusals.count();
            refusals.record(&format!("Permissions Violation for Publish to \"reply.{n}\""));
            assert!(refusals.since(Action::Publish, &format!("reply.{n}"), before).is_some());
        }
        assert!(refusals.last().len() <= MAX_KEPT);
        assert_eq!(refusals.count(), 10 * MAX_KEPT as u64);
    }
}
