//! The outcomes that are not published yet.
//!
//! Invariant: the queue outlives the publisher and is bounded by the permits. An outcome stays in `pending`
//! until it is published, so a restarted publisher resumes it.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, Semaphore, mpsc};

use crate::account::admission::FramePermit;
use crate::outcome::Outcome;

/// Maximum number of outcomes published together, with one flush for all of them.
pub const MAX_BATCH: usize = 64;

/// The outcomes that are not published yet.
#[derive(Debug)]
pub struct OutcomeQueue {
    sender: mpsc::Sender<Outcome>,
    receiver: Mutex<Receiving>,
    refusals: Arc<Semaphore>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiving {
    /// Outcomes as they are settled.
    pub receiver: mpsc::Receiver<Outcome>,
    /// Outcomes whose publication has begun.
    pub pending: Vec<Outcome>,
}

impl OutcomeQueue {
    /// A queue for the outcomes of `max_frames` admitted frames and as many refused ones.
    pub fn new(max_frames: usize) -> Arc<Self> {
        Self::with_sessions(max_frames, 0)
    }

    /// The same with room for this many frames that wait in sessions.
    pub fn with_sessions(max_frames: usize, gathered: usize) -> Arc<Self> {
        let (sender, receiver) =
            mpsc::channel((2 * max_frames).saturating_add(gathered).min(Semaphore::MAX_PERMITS));
        Arc::new(Self {
            sender,
            receiver: Mutex::new(Receiving { receiver, pending: Vec::with_capacity(MAX_BATCH) }),
            refusals: Arc::new(Semaphore::new(max_frames)),
        })
    }

    /// Queues an outcome. There is always room, because every outcome holds a permit of admission or of
    /// refusal.
    pub fn push(&self, outcome: Outcome) {
        if let Err(error) = self.sender.try_send(outcome) {
            // A defect; the dropped ticket counts the frame as lost.
            tracing::error!(%error, "no room for an outcome");
        }
    }

    /// Waits for a permit to queue the failure of a frame that was refused.
    pub async fn refusal(&self) -> Option<Arc<FramePermit>> {
        Arc::clone(&self.refusals).acquire_owned().await.ok().map(FramePermit::outside)
    }

    /// The receiving end, for the one publisher.
    pub async fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.receiver.lock().await
    }

    /// Capacity of the queue.
    pub fn limit(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Number of queued outcomes.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}
