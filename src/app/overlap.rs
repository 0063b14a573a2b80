//! Whether another member of the queue group gathers the same sessions, so that each would answer them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::nats::{Peers, SessionInput};

/// Interval of the look.
const LOOK: Duration = Duration::from_secs(2);

/// What the last look showed.
#[derive(Debug, Default)]
pub struct Overlap(Mutex<Option<String>>);

impl Overlap {
    /// Why this daemon is not ready; `None` where no other gathers the same.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks, while a model gathers and sessions are in use; never returns.
pub async fn watch(overlap: Arc<Overlap>, sessions: SessionInput, peers: Peers) {
    let SessionInput { subject, mut gathers, in_use } = sessions;
    let mut in_use = in_use.subscribe();
    loop {
        let looks = *gathers.borrow_and_update() && *in_use.borrow_and_update();
        let other = if looks { peers.overlapping(&subject).await } else { None };
        let reason = other.map(|other| {
            format!(
                "another member of the queue group gathers {other} as well as this one {subject}; divide them"
            )
        });
        *overlap.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = gathers.changed() => {}
            Ok(()) = in_use.changed() => {}
        }
    }
}
