//! The frames that one computation answers: equal ones that came while it was under way wait for it together.
//!
//! Invariant: a flight that anybody was told is over takes nobody in any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::frame::Priority;
use crate::responder::{LateRun, Responder};
use crate::trail::{Run, Trail};

/// One computation and those who wait for it. A frame that waits for nobody else's is alone in its own.
#[derive(Debug)]
pub struct Flight(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// In the order they came. The first that still waits is the one the work is done for.
    members: Vec<Member>,
    /// The latest of the members'.
    deadline: Instant,
    /// The highest of the members'.
    priority: Priority,
    run: Option<Arc<dyn LateRun>>,
    is_over: bool,
}

/// One frame of a flight.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its reply slot.
    pub responder: Arc<Responder>,
    /// When it arrived.
    pub received_at: Instant,
    /// When its budget ends.
    pub deadline: Instant,
    /// How urgent it is.
    pub priority: Priority,
}

/// What becomes of a frame that would join a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It waits with the others.
    Joined,
    /// The same, and the flight is more urgent now.
    Raised,
    /// The flight is over; it has to be computed itself.
    Over,
}

impl Member {
    fn waits(&self, now: Instant) -> bool {
        now < self.deadline && !self.responder.is_answered()
    }
}

impl Waiting {
    fn is_over(&mut self, now: Instant) -> bool {
        self.is_over |= !self.members.iter().any(|member| member.waits(now));
        self.is_over
    }

    fn add(&mut self, member: Member) {
        self.deadline = self.deadline.max(member.deadline);
        self.priority = self.priority.min(member.priority);
        // A long run of many short deadlines: those answered make room.
        if self.members.len() == self.members.capacity() {
            self.members.retain(|member| !member.responder.is_answered());
        }
        self.members.push(member);
    }
}

impl Flight {
    /// A flight of one.
    pub fn new(member: Member) -> Arc<Self> {
        let responder = Arc::clone(&member.responder);
        let (deadline, priority) = (member.deadline, member.priority);
        let waiting = Waiting { members: vec![member], deadline, priority, run: None, is_over: false };
        let flight = Arc::new(Self(Mutex::new(waiting)));
        responder.tell_when_late(Arc::<Self>::clone(&flight));
        flight
    }

    /// Takes in the frame of a flight of one.
    pub fn take_in(self: &Arc<Self>, other: &Self, now: Instant) -> Joining {
        let mut waiting = self.lock();
        if waiting.is_over(now) {
            return Joining::Over;
        }
        let before = waiting.priority;
        let members = other.land();
        members.iter().for_each(|member| waiting.add(member.clone()));
        let is_raised = waiting.priority < before;
        drop(waiting);
        for member in members {
            member.responder.tell_when_late(Arc::<Self>::clone(self));
        }
        if is_raised { Joining::Raised } else { Joining::Joined }
    }

    /// Whether nobody waits for it any more. If so, nobody will.
    pub fn is_over(&self, now: Instant) -> bool {
        self.lock().is_over(now)
    }

    /// Whether each of its members has its answer already.
    pub fn is_answered(&self) -> bool {
        self.lock().members.iter().all(|member| member.responder.is_answered())
    }

    /// When the last of its members' budgets ends.
    pub fn deadline(&self) -> Instant {
        self.lock().deadline
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.lock().priority
    }

    /// Says where the frame has been that the work is done for; the others only wait.
    pub fn note(&self, what: impl FnOnce(&mut Trail)) {
        let waiting = self.lock();
        if let Some(first) = waiting.members.iter().find(|member| !member.responder.is_answered()) {
            first.responder.note(what);
        }
    }

    /// It is in this run from now on, which is told when nobody waits for it any more.
    pub fn runs_in(&self, run: Run, late: &Arc<dyn LateRun>) {
        self.note(|trail| trail.runs_in(run));
        let mut waiting = self.lock();
        if waiting.is_over(Instant::now()) {
            drop(waiting);
            late.one_is_late();
        } else {
            waiting.run = Some(Arc::clone(late));
        }
    }

    /// It is over: those who waited, to be answered.
    pub fn land(&self) -> Vec<Member> {
        let mut waiting = self.lock();
        waiting.is_over = true;
        std::mem::take(&mut waiting.members)
    }

    /// The first that waits leaves; it is over where nobody is left. Gives the one that left, and the one that is the first now.
    pub fn first_leaves(&self, now: Instant) -> (Option<Member>, Option<Member>) {
        let mut waiting = self.lock();
        waiting.members.retain(|member| member.waits(now));
        let first = (!waiting.members.is_empty()).then(|| waiting.members.remove(0));
        if let Some(priority) = waiting.members.iter().map(|member| member.priority).min() {
            waiting.priority = priority;
        } else {
            waiting.is_over = true;
        }
        (first, waiting.members.first().cloned())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LateRun for Flight {
    /// Another member's deadline has passed, and it was told.
    fn one_is_late(&self) {
        let mut waiting = self.lock();
        let run = if waiting.members.iter().all(|member| member.responder.is_answered()) { waiting.run.take() } else { None };
        waiting.is_over |= run.is_some();
        drop(waiting);
        run.inspect(|run| run.one_is_late());
    }
}
