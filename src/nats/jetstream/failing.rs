//! Why no outcome is acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long it holds against the stream that it did not acknowledge: where nothing more is sent because of
/// that, nothing more is learnt.
const FAILING_FOR: Duration = Duration::from_secs(60);

/// Why no outcome is acknowledged, while that is so; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Failing(Arc<Mutex<Option<(Instant, String)>>>);

impl Failing {
    /// The reason.
    pub fn reason(&self) -> Option<String> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failed.filter(|(at, _)| at.elapsed() < FAILING_FOR).map(|(_, reason)| reason)
    }

    /// None was acknowledged.
    pub(super) fn set(&self, reason: &str) {
        let reason = format!("their stream does not acknowledge them: {reason}");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reason));
    }

    /// Some were acknowledged.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
