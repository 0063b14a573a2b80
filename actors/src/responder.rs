//! A frame's reply: a slot that is taken once, by whoever settles the frame first.
//!
//! Its deadline, the worker that has the frame and the frame's own drop all share the slot. So the deadline is kept even while
//! a session still holds the samples, and a frame that is dropped anywhere still gets an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::admission::FramePermit;
use crate::deadlines::Deadlines;
use crate::frame::{Envelope, FrameInfo};
use crate::ledger::Ticket;
use crate::outcome::{Failure, FailureCode, Outcome, Prediction, Published};
use crate::publish::OutcomeQueue;
use crate::trail::Trail;

/// A frame that has no outcome yet. Dropped, by a panic say, it ends as `internal`.
#[derive(Debug)]
pub struct Unanswered {
    open: Option<Open>,
    outcomes: Arc<OutcomeQueue>,
}

#[derive(Debug)]
struct Open {
    info: FrameInfo,
    envelope: Envelope,
    received_at: Instant,
    trail: Trail,
    ticket: Ticket,
    permit: Option<Arc<FramePermit>>,
}

impl Unanswered {
    /// A frame that has just arrived. `permit` is its place in the pipeline, or the leave to queue its refusal.
    pub fn new(
        envelope: Envelope,
        received_at: Instant,
        ticket: Ticket,
        permit: Option<Arc<FramePermit>>,
        outcomes: Arc<OutcomeQueue>,
    ) -> Self {
        let open = Open { info: FrameInfo::default(), envelope, received_at, trail: Trail::default(), ticket, permit };
        Self { open: Some(open), outcomes }
    }

    /// Where the frame came from.
    pub fn envelope(&self) -> &Envelope {
        static NONE: std::sync::LazyLock<Envelope> = std::sync::LazyLock::new(Envelope::default);
        self.open.as_ref().map_or(&NONE, |open| &open.envelope)
    }

    /// Says what the outcome will echo.
    pub fn identified(mut self, info: FrameInfo) -> Self {
        if let Some(open) = &mut self.open {
            open.info = info;
        }
        self
    }

    /// Says where the frame has been.
    pub fn note(&mut self, what: impl FnOnce(&mut Trail)) {
        if let Some(open) = &mut self.open {
            what(&mut open.trail);
        }
    }

    fn permit(&self) -> Option<Arc<FramePermit>> {
        self.open.as_ref()?.permit.clone()
    }

    /// Its place is another one from now on.
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
            received_at: open.received_at,
            trail: open.trail,
            result,
            settled_at: Instant::now(),
            timestamp: SystemTime::now(),
            published: Published::default(),
            ticket: open.ticket,
            _permit: open.permit,
        });
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.settle(Err(dropped()));
    }
}

/// The failure of a frame that nobody finished.
pub fn dropped() -> Failure {
    Failure::new(FailureCode::Internal, "a part of the daemon stopped while it had this frame; send it again")
}

/// The slot.
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

/// What hears of each of its parts that nobody waits for any more: a flight of its frames, a run of its flights.
pub trait ExpiryListener: std::fmt::Debug + Send + Sync + 'static {
    /// Nobody waits for one more of them.
    fn waiter_expired(&self);
}

impl Responder {
    /// A slot for one frame, answered at `received_at + budget` if by nobody before.
    pub fn with_deadline(unanswered: Unanswered, received_at: Instant, budget: Duration, deadlines: &Deadlines) -> Arc<Self> {
        let slot = Mutex::new(Slot { unanswered: Some(unanswered), listener: None });
        let responder = Arc::new(Self { budget, slot });
        deadlines.watch(received_at + budget, &responder);
        responder
    }

    /// Answers the frame, unless somebody has: then `false`.
    pub fn answer(&self, result: Result<Prediction, Failure>) -> bool {
        self.take().map(|unanswered| unanswered.answer(result)).is_some()
    }

    /// Answers the frame, unless somebody has; the answer waits in this place, and the frame's own is free.
    pub fn answer_from(&self, permit: Option<Arc<FramePermit>>, failure: Failure) {
        if let Some(unanswered) = self.take() {
            unanswered.moved_to(permit).answer(Err(failure));
        }
    }

    /// The frame's time is up.
    pub fn expire(&self) {
        if self.answer(Err(deadline_exceeded(self.budget))) {
            let listener = self.lock().listener.take();
            listener.inspect(|listener| listener.waiter_expired());
        }
    }

    /// Says where the frame has been, while it is unanswered.
    pub fn note(&self, what: impl FnOnce(&mut Trail)) {
        if let Some(unanswered) = &mut self.lock().unanswered {
            unanswered.note(what);
        }
    }

    /// This is told when the frame's deadline has passed.
    pub fn notify_on_expiry(&self, listener: Arc<dyn ExpiryListener>) {
        let mut slot = self.lock();
        if slot.unanswered.is_some() {
            slot.listener = Some(listener);
        } else {
            drop(slot);
            listener.waiter_expired();
        }
    }

    /// The frame's place in the pipeline, while it is unanswered.
    pub fn permit(&self) -> Option<Arc<FramePermit>> {
        self.lock().unanswered.as_ref().and_then(Unanswered::permit)
    }

    /// Whether somebody has answered.
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
    Failure::new(FailureCode::DeadlineExceeded, format!("no outcome within the frame's budget of {} ms", budget.as_millis()))
}
