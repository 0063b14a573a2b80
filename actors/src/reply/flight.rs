//! The frames that one computation answers: equal frames that arrive while it is in progress wait for it
//! (single flight).
//!
//! Invariant: once `is_over` has returned true, no frame can join.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::slot::{ExpiryListener, Responder};
use crate::account::trail::{Run, Trail};
use crate::frame::Priority;

/// One computation and the frames that wait for it. A frame without equals is alone in its flight.
#[derive(Debug)]
pub struct Flight(Mutex<FlightState>);

#[derive(Debug)]
struct FlightState {
    /// In order of arrival. The work is done for the first that still waits.
    members: Vec<Member>,
    /// The latest deadline of the members.
    deadline: Instant,
    /// The highest priority of the members.
    priority: Priority,
    run: Option<Arc<dyn ExpiryListener>>,
    is_over: bool,
    /// Whether its frames are those of a session, which one answer is about, and not equal ones.
    is_session: bool,
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

/// Result of joining a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// The frame waits with the others.
    Joined,
    /// The frame waits with the others and raised the priority of the flight.
    Raised,
    /// The flight is over; the frame has to be computed itself.
    Over,
}

impl Member {
    fn waits(&self, now: Instant) -> bool {
        now < self.deadline && !self.responder.is_answered()
    }
}

impl FlightState {
    fn is_over(&mut self, now: Instant) -> bool {
        self.is_over |= !self.members.iter().any(|member| member.waits(now));
        self.is_over
    }

    fn add(&mut self, member: Member) {
        self.deadline = self.deadline.max(member.deadline);
        self.priority = self.priority.min(member.priority);
        // Drops answered members before the vector grows: a long run may have many members of short
        // deadlines.
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
        let state = FlightState {
            members: vec![member],
            deadline,
            priority,
            run: None,
            is_over: false,
            is_session: false,
        };
        let flight = Arc::new(Self(Mutex::new(state)));
        responder.notify_on_expiry(Arc::<Self>::clone(&flight));
        flight
    }

    /// The frames of a session; `None` without one.
    pub fn of_session(members: Vec<Member>) -> Option<Arc<Self>> {
        let deadline = members.iter().map(|member| member.deadline).max()?;
        let priority = members.iter().map(|member| member.priority).min()?;
        let responders: Vec<_> = members.iter().map(|member| Arc::clone(&member.responder)).collect();
        let state = FlightState { members, deadline, priority, run: None, is_over: false, is_session: true };
        let flight = Arc::new(Self(Mutex::new(state)));
        for responder in responders {
            responder.notify_on_expiry(Arc::<Self>::clone(&flight));
        }
        Some(flight)
    }

    /// Whether its frames are those of a session.
    pub fn is_session(&self) -> bool {
        self.lock().is_session
    }

    /// Moves the member of `other`, a flight of one, into this flight.
    pub fn join(self: &Arc<Self>, other: &Self, now: Instant) -> Joining {
        let mut state = self.lock();
        if state.is_over(now) {
            return Joining::Over;
        }
        let before = state.priority;
        let members = other.finish();
        members.iter().for_each(|member| state.add(member.clone()));
        let is_raised = state.priority < before;
        drop(state);
        for member in members {
            member.responder.notify_on_expiry(Arc::<Self>::clone(self));
        }
        if is_raised { Joining::Raised } else { Joining::Joined }
    }

    /// Whether no frame waits for it any more. Once true, it stays true.
    pub fn is_over(&self, now: Instant) -> bool {
        self.lock().is_over(now)
    }

    /// Whether all its members are answered.
    pub fn is_answered(&self) -> bool {
        self.lock().members.iter().all(|member| member.responder.is_answered())
    }

    /// The latest deadline of its members.
    pub fn deadline(&self) -> Instant {
        self.lock().deadline
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.lock().priority
    }

    /// Records progress in the trail of the first member that waits, and in those of all frames of a session.
    pub fn note(&self, what: impl Fn(&mut Trail)) {
        let state = self.lock();
        let most = if state.is_session { state.members.len() } else { 1 };
        let waiting = state.members.iter().filter(|member| !member.responder.is_answered());
        waiting.take(most).for_each(|member| member.responder.note(&what));
    }

    /// Enters a run; `listener` is notified when the last member expires.
    pub fn runs_in(&self, run: Run, listener: &Arc<dyn ExpiryListener>) {
        self.note(|trail| trail.runs_in(run));
        let mut state = self.lock();
        if state.is_over(run.begun) {
            drop(state);
            listener.waiter_expired();
        } else {
            state.run = Some(Arc::clone(listener));
        }
    }

    /// Ends the flight and returns its members, to be answered.
    pub fn finish(&self) -> Vec<Member> {
        let mut state = self.lock();
        state.is_over = true;
        std::mem::take(&mut state.members)
    }

    /// Removes the first member that waits; the flight is over where none is left. Returns the removed member
    /// and the one that is now the first.
    pub fn shed_first(&self, now: Instant) -> (Option<Member>, Option<Member>) {
        let mut state = self.lock();
        // Expired members stay: whoever finishes the flight answers them if the deadline timer has not.
        let first =
            state.members.iter().position(|member| member.waits(now)).map(|at| state.members.remove(at));
        let left = || state.members.iter().filter(|member| member.waits(now));
        let (next, priority) = (left().next().cloned(), left().map(|member| member.priority).min());
        match priority {
            Some(priority) => state.priority = priority,
            None => state.is_over = true,
        }
        (first, next)
    }

    fn lock(&self) -> MutexGuard<'_, FlightState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ExpiryListener for Flight {
    /// A member expired and was answered.
    fn waiter_expired(&self) {
        let mut state = self.lock();
        let run = if state.members.iter().all(|member| member.responder.is_answered()) {
            state.run.take()
        } else {
            None
        };
        state.is_over |= run.is_some();
        drop(state);
        run.inspect(|run| run.waiter_expired());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::ledger::Ledger;
    use crate::frame::Envelope;
    use crate::reply::outcome_queue::OutcomeQueue;
    use crate::reply::slot::Unanswered;

    /// A frame without a deadline timer.
    fn member(budget_ms: u64, priority: Priority) -> Member {
        let (ledger, outcomes, now) = (Arc::<Ledger>::default(), OutcomeQueue::new(8), Instant::now());
        let unanswered = Unanswered::new(Envelope::default(), None, now, ledger.open(), None, outcomes);
        let budget = Duration::from_millis(budget_ms);
        let responder = Responder::new(unanswered, budget);
        Member { responder, received_at: now, deadline: now + budget, priority }
    }

    #[tokio::test(start_paused = true)]
    async fn it_has_the_latest_deadline_and_the_highest_priority_of_its_members() {
        let now = Instant::now();
        let flight = Flight::new(member(100, Priority::Normal));
        assert_eq!(flight.join(&Flight::new(member(300, Priority::Low)), now), Joining::Joined);
        assert_eq!(flight.join(&Flight::new(member(200, Priority::High)), now), Joining::Raised);
        assert_eq!(
            (flight.deadline(), flight.priority()),
            (now + Duration::from_millis(300), Priority::High)
        );

        let at = |ms| now + Duration::from_millis(ms);
        assert!(!flight.is_over(at(299)));
        // The first member has expired, so the one after it is the first.
        let (first, next) = flight.shed_first(at(150));
        assert_eq!((first.unwrap().deadline, next.unwrap().deadline), (at(300), at(200)));
        assert_eq!(flight.priority(), Priority::High);
        let (first, next) = flight.shed_first(at(150));
        assert_eq!((first.unwrap().deadline, next.is_none()), (at(200), true));
        assert_eq!(flight.join(&Flight::new(member(1000, Priority::Normal)), at(150)), Joining::Over);
        assert_eq!(flight.finish().len(), 1, "the expired one is still to be answered");
    }

    #[tokio::test(start_paused = true)]
    async fn once_it_is_over_no_frame_joins() {
        let now = Instant::now();
        let flight = Flight::new(member(100, Priority::Normal));
        let late = now + Duration::from_millis(100);
        assert!(flight.is_over(late));
        let joining = Flight::new(member(1000, Priority::Normal));
        assert_eq!(flight.join(&joining, now), Joining::Over);
        assert!(!joining.is_over(now), "a frame that could not join is still to be computed");
        assert_eq!(joining.finish().len(), 1);
    }

    #[derive(Debug, Default)]
    struct Notified(std::sync::atomic::AtomicUsize);

    impl ExpiryListener for Notified {
        fn waiter_expired(&self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn its_run_is_notified_once_when_the_last_member_expires() {
        let now = Instant::now();
        let notified = Arc::<Notified>::default();
        let count = || notified.0.load(std::sync::atomic::Ordering::Relaxed);
        let listener: Arc<dyn ExpiryListener> = Arc::<Notified>::clone(&notified);
        let run = Run { id: 1, session: 0, batch_size: 1, begun: now, ended: None };
        let members = [100, 200].map(|ms| member(ms, Priority::Normal));
        let responders = members.clone().map(|member| member.responder);
        let [first, second] = members.map(Flight::new);
        first.runs_in(run, &listener);
        assert_eq!(first.join(&second, now), Joining::Joined);
        responders[0].expire();
        assert_eq!(count(), 0, "one still waits");
        responders[1].expire();
        responders[1].expire();
        assert_eq!(count(), 1);
        first.runs_in(run, &listener);
        assert_eq!(count(), 2, "a run that begins when it is over is notified at once");
    }
}
