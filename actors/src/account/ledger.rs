//! The outcome law, at every instant: `received` = `predictions` + `failures` + `lost` + `in_flight`, and of
//! frames from a durable stream also + `redelivered` + `duplicates_dropped`.
//!
//! Each term is counted on its own. A frame enters with a [`Ticket`], which travels with its answer until
//! that answer is published. A ticket dropped unclosed counts its frame as lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

/// One reading of the ledger, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerCounts {
    /// Frames that arrived.
    pub received: u64,
    /// Frames that ended in a prediction that was published.
    pub predictions: u64,
    /// Frames that ended in a failure that was published.
    pub failures: u64,
    /// Frames whose outcome could not be published, and frames known to have been missed.
    pub lost: u64,
    /// Deliveries without an outcome, whose frames their stream delivers again.
    pub redelivered: u64,
    /// Deliveries whose outcome was in the stream already.
    pub duplicates_dropped: u64,
    /// Frames that have no published outcome yet.
    pub in_flight: u64,
}

impl LedgerCounts {
    /// Whether the outcome law holds.
    pub fn balance(&self) -> bool {
        let ended = self.predictions + self.failures + self.lost + self.redelivered + self.duplicates_dropped;
        self.received == ended + self.in_flight
    }
}

/// How a frame ended, as its subscribers saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A prediction was published.
    Prediction,
    /// A failure was published.
    Failure,
    /// Nothing was published: the stream delivers the frame again after this time.
    Redelivered(Duration),
    /// The outcome was in the stream already.
    Duplicate,
}

/// Counts frames in and out. One lock for all terms, so that every reading balances.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<LedgerCounts>,
    idle: Notify,
}

impl Ledger {
    /// Counts a frame as received and in flight.
    pub fn open(self: &Arc<Self>) -> Ticket {
        self.update(|counts| {
            counts.received += 1;
            counts.in_flight += 1;
        });
        Ticket { ledger: Some(Arc::clone(self)) }
    }

    /// Counts frames that are known to have been missed as received and lost.
    pub fn missed(&self, frames: u64) {
        self.update(|counts| {
            counts.received += frames;
            counts.lost += frames;
        });
    }

    /// A consistent reading.
    pub fn counts(&self) -> LedgerCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once no frame is in flight.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.counts().in_flight == 0 {
                return;
            }
            notified.await;
        }
    }

    fn update(&self, change: impl FnOnce(&mut LedgerCounts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        if counts.in_flight == 0 {
            self.idle.notify_waiters();
        }
    }
}

/// The open account of one frame in the ledger.
#[derive(Debug)]
pub struct Ticket {
    ledger: Option<Arc<Ledger>>,
}

impl Ticket {
    /// Closes the account.
    pub fn close(mut self, end: End) {
        if let Some(ledger) = self.ledger.take() {
            ledger.update(|counts| {
                counts.in_flight -= 1;
                match end {
                    End::Prediction => counts.predictions += 1,
                    End::Failure => counts.failures += 1,
                    End::Redelivered(_) => counts.redelivered += 1,
                    End::Duplicate => counts.duplicates_dropped += 1,
                }
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.update(|counts| {
                counts.in_flight -= 1;
                counts.lost += 1;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_keeps_the_law() {
        let ledger = Arc::new(Ledger::default());
        let (a, b, c, d) = (ledger.open(), ledger.open(), ledger.open(), ledger.open());
        a.close(End::Prediction);
        b.close(End::Failure);
        drop(c);
        let counts = ledger.counts();
        let expected = LedgerCounts {
            received: 4,
            predictions: 1,
            failures: 1,
            lost: 1,
            in_flight: 1,
            ..LedgerCounts::default()
        };
        assert_eq!(counts, expected);
        assert!(counts.balance());
        drop(d);
        assert_eq!(ledger.counts().lost, 2);
        ledger.missed(3);
        assert_eq!(
            ledger.counts(),
            LedgerCounts { received: 7, predictions: 1, failures: 1, lost: 5, ..LedgerCounts::default() }
        );
        assert!(ledger.counts().balance());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_waits_for_the_last_ticket() {
        let ledger = Arc::new(Ledger::default());
        ledger.idle().await;
        let ticket = ledger.open();
        let waiting = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ticket.close(End::Prediction);
        waiting.await.unwrap();
    }
}
