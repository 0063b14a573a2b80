//! A frame's reply: a slot that is taken once, by whichever part of the daemon settles the frame first.
//!
//! The deadline timer, the worker that holds the frame and the drop of the frame share the slot. So the
//! deadline is kept even while a session holds the samples, and a frame that is dropped anywhere is still
//! answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::outcome_queue::OutcomeQueue;
use crate::account::admission::FramePermit;
use crate::account::ledger::Ticket;
use crate::account::trail::Trail;
use crate::frame::{Envelope, FrameInfo};
use crate::outcome::{Failure, FailureCode, Origin, Outcome, Prediction, Published};
use crate::routing::Sender;

/// A frame without an outcome. If it is dropped, by a panic for example, it ends as `internal`.
#[derive(Debug)]
pub struct Unanswered {
    open: Option<Open>,
    outcomes: Arc<OutcomeQueue>,
}

#[derive(Debug)]
struct Open {
    info: FrameInfo,
    envelope: Envelope,
    origin: Option<Arc<dyn Origin>>,
    received_at: Instant,
    trail: Trail,
    ticket: Ticket,
    permit: Option<Arc<FramePermit>>,
}

impl Unanswered {
    /// A frame that has just arrived. `permit` is its admission permit, or the permit to queue its refusal.
    pub fn new(
        envelope: Envelope,
        origin: Option<Arc<dyn Origin>>,
        received_at: Instant,
        ticket: Ticket,
        permit: Option<Arc<FramePermit>>,
        outcomes: Arc<OutcomeQueue>,
    ) -> Self {
        let open = Open {
            info: FrameInfo::default(),
            envelope,
            origin,
            received_at,
            trail: Trail::default(),
            ticket,
            permit,
        };
        Self { open: Some(open), outcomes }
    }

    /// Where the frame came from.
    pub fn envelope(&self) -> &Envelope {
        static NONE: std::sync::LazyLock<Envelope> = std::sync::LazyLock::new(Envelope::default);
        self.open.as_ref().map_or(&NONE, |open| &open.envelope)
    }

    /// Sets what the outcome echoes.
    pub fn identified(mut self, info: FrameInfo) -> Self {
        if let Some(open) = &mut self.open {
            open.info = info;
        }
        self
    }

    /// What its outcome echoes, as far as that was read.
    pub fn info(&self) -> &FrameInfo {
        static NONE: std::sync::LazyLock<FrameInfo> = std::sync::LazyLock::new(FrameInfo::default);
        self.open.as_ref().map_or(&NONE, |open| &open.info)
    }

    /// Who sends it, as far as that was read.
    pub fn sender(&self) -> Sender<'_> {
        self.open.as_ref().map_or_else(Sender::default, |open| Sender {
            session: open.info.session_id.as_deref(),
            source: &open.envelope.source,
            frame: &open.info.frame_id,
        })
    }

    /// Records progress in its trail.
    pub fn note(&mut self, what: impl FnOnce(&mut Trail)) {
        if let Some(open) = &mut self.open {
            what(&mut open.trail);
        }
    }

    fn permit(&self) -> Option<Arc<FramePermit>> {
        self.open.as_ref()?.permit.clone()
    }

    /// Replaces its permit.
    pub fn moved_to(mut self, permit: Option<Arc<FramePermit>>) -> Self {
        if let Some(open) = &mut self.open {
            open.permit = permit;
        }
        self
    }

    /// Settles the frame.
    pub fn answer(mut self, result: Result<Prediction, Failure>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<Prediction, Failure>) {
        let Some(open) = self.open.take() else { return };
        self.outcomes.push(Outcome {
            info: open.info,
            envelope: open.envelope,
            origin: open.origin,
            received_at: open.received_at,
            trail: open.trail,
            result,
            settled_at: Instant::now(),
            timestamp: SystemTime::now(),
            published: Published::default(),
            ticket: open.ticket,
            permit: open.permit,
        });
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.settle(Err(dropped()));
    }
}

/// The failure of a frame that was dropped unfinished.
pub fn dropped() -> Failure {
    Failure::new(FailureCode::Internal, "a part of the daemon stopped while it had this frame; send it again")
}

/// The reply slot of one frame.
#[derive(Debug)]
pub struct Responder {
    budget: Duration,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
struct Slot {
    unanswered: Option<Unanswered>,
    listener: Option<Arc<dyn ExpiryListener>>,
}

/// Notified when a waiter expires: a flight when one of its frames does, a run when one of its flights does.
pub trait ExpiryListener: std::fmt::Debug + Send + Sync + 'static {
    /// One more waiter has expired.
    fn waiter_expired(&self);
}

impl Responder {
    /// A slot for one frame with this time budget, which whoever keeps the deadlines ends by
    /// [`expire`](Self::expire).
    pub fn new(unanswered: Unanswered, budget: Duration) -> Arc<Self> {
        let slot = Mutex::new(Slot { unanswered: Some(unanswered), listener: None });
        Arc::new(Self { budget, slot })
    }

    /// Answers the frame; `false` where it was answered before.
    pub fn answer(&self, result: Result<Prediction, Failure>) -> bool {
        self.take().map(|unanswered| unanswered.answer(result)).is_some()
    }

    /// Fails the frame unless it was answered before. Its outcome takes this permit instead of its own, which
    /// is released.
    pub fn answer_from(&self, permit: Option<Arc<FramePermit>>, failure: Failure) {
        if let Some(unanswered) = self.take() {
            unanswered.moved_to(permit).answer(Err(failure));
        }
    }

    /// Fails the frame because its deadline has passed.
    pub fn expire(&self) {
        if self.answer(Err(deadline_exceeded(self.budget))) {
            let listener = self.lock().listener.take();
            listener.inspect(|listener| listener.waiter_expired());
        }
    }

    /// Records progress in the trail, while the frame is unanswered.
    pub fn note(&self, what: impl FnOnce(&mut Trail)) {
        if let Some(unanswered) = &mut self.lock().unanswered {
            unanswered.note(what);
        }
    }

    /// Notifies `listener` when the deadline has passed; at once where the frame is answered already.
    pub fn notify_on_expiry(&self, listener: Arc<dyn ExpiryListener>) {
        let mut slot = self.lock();
        if slot.unanswered.is_some() {
            slot.listener = Some(listener);
        } else {
            drop(slot);
            listener.waiter_expired();
        }
    }

    /// The frame's permit, while it is unanswered.
    pub fn permit(&self) -> Option<Arc<FramePermit>> {
        self.lock().unanswered.as_ref().and_then(Unanswered::permit)
    }

    /// Whether the frame was answered.
    pub fn is_answered(&self) -> bool {
        self.lock().unanswered.is_none()
    }

    fn take(&self) -> Option<Unanswered> {
        self.lock().unanswered.take()
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure of a frame whose budget ran out.
pub fn deadline_exceeded(budget: Duration) -> Failure {
    Failure::new(
        FailureCode::DeadlineExceeded,
        format!("no outcome within the frame's budget of {} ms", budget.as_millis()),
    )
}
