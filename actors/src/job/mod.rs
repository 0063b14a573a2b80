//! A frame in work, carried through the pipeline by value and named by its state: [`RawFrame`] →
//! [`PreparedFrame`] → outcome; either may wait for a session, as a [`WaitingFrame`].

mod session;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use session::SessionParts;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::account::admission::{FramePermit, Permit};
use crate::account::trail::{Run, Trail};
use crate::breaker::CircuitPermit;
use crate::cache::{CacheKey, CacheStore};
use crate::frame::{Content, Priority};
use crate::gather::SourceBook;
use crate::outcome::{Answer, Failure, FailureCode, Prediction, ShedReason};
use crate::ports::{FeatureWorker, LoadedModel};
use crate::reply::{ExpiryListener, Flight, Member, Responder, deadline_exceeded, dropped};
use crate::routing::Routed;
use crate::tensor::Inputs;

/// One computation, for a frame and the equal frames that wait for it. It ends in [`Job::succeed`] or
/// [`Job::fail`]; a job dropped before that, by a failing actor for example, fails as `internal`, so every
/// frame gets an outcome.
#[derive(Debug)]
pub struct Job {
    flight: Arc<Flight>,
    /// The model that answers.
    pub model: Arc<dyn LoadedModel>,
    /// Arrival of the first frame that still waits.
    pub received_at: Instant,
    /// Where the answer is to be cached.
    pub remember: Option<(Arc<CacheStore>, CacheKey)>,
    /// Permit of the model's circuit, to which the result is reported; or the failure of the frame if it has
    /// to be run.
    circuit_permit: Result<CircuitPermit, Failure>,
    /// The permits of its bytes and of the frame. The frame's permit is held as long as the bytes are, even
    /// where the deadline has answered the frame already.
    permits: Option<(OwnedSemaphorePermit, Arc<FramePermit>)>,
    /// Of a session: where it is noted who was left out.
    book: Option<Arc<Mutex<SourceBook>>>,
}

/// A decoded frame: what it holds, and the [`Job`] that will be answered.
#[derive(Debug)]
pub struct RawFrame {
    /// The job that will be answered.
    pub job: Job,
    /// What its model is to get.
    pub content: Content,
    /// Whether its answer may come from the cache and be kept there.
    pub is_cacheable: bool,
}

/// A frame whose features are computed.
#[derive(Debug)]
pub struct PreparedFrame {
    /// The job that will be answered.
    pub job: Job,
    /// The inputs of the model.
    pub inputs: Inputs,
    /// When it was ready.
    pub prepared_at: Instant,
}

/// A frame that waits for a session.
#[derive(Debug)]
pub enum WaitingFrame {
    /// The session computes its features too.
    Raw {
        /// The frame.
        frame: RawFrame,
        /// Since when it waits.
        since: Instant,
    },
    /// A feature worker has computed them.
    Prepared(PreparedFrame),
}

/// Parts of a new job.
#[derive(Debug)]
pub struct JobParts {
    /// The reply slot.
    pub responder: Arc<Responder>,
    /// The model that answers, with the permit of its circuit.
    pub routed: Routed,
    /// When the frame arrived.
    pub received_at: Instant,
    /// The frame's time budget.
    pub budget: Duration,
    /// How urgent it is.
    pub priority: Priority,
    /// Its admission permit.
    pub permit: Permit,
}

/// How a run went.
#[derive(Debug)]
pub struct RunFacts {
    /// How many frames shared the run.
    pub batch_size: usize,
    /// How long the run took.
    pub inference: Duration,
}

/// A frame that was shed for an arriving one.
#[derive(Debug)]
pub struct Shed<T> {
    /// Its reply slot.
    pub responder: Option<Arc<Responder>>,
    /// The work, where no other frame waits for it; dropping it releases its permits.
    pub work: Option<T>,
}

impl<T> Shed<T> {
    /// Fails the frame. Its outcome takes the given refusal permit, so its admission permit is released at
    /// once.
    pub fn fail(self, refusal: Option<Arc<FramePermit>>) {
        if let Some(responder) = self.responder {
            responder.answer_from(refusal, displaced());
        }
    }
}

impl RawFrame {
    /// Computes the inputs of its model. `None`: no frame waits for it any more, its circuit has opened, or
    /// it fails.
    pub fn prepare(self, extractor: &mut dyn FeatureWorker) -> Option<PreparedFrame> {
        let Self { job, content, .. } = self;
        let begun = Instant::now();
        if job.is_settled(begun) {
            return None;
        }
        if let Err(failure) = job.check() {
            job.fail(failure);
            return None;
        }
        job.note(|trail| trail.features_begun = Some(begun));
        match extractor.extract(&*job.model, content) {
            Ok(inputs) => {
                job.note_found(&inputs.left_out, &inputs.clocks);
                let prepared_at = Instant::now();
                job.note(|trail| {
                    trail.features_ended = Some(prepared_at);
                    trail.queued.get_or_insert(prepared_at);
                });
                Some(PreparedFrame { job, inputs, prepared_at })
            }
            Err(failure) => {
                job.fail(failure);
                None
            }
        }
    }
}

impl WaitingFrame {
    /// The job that will be answered.
    pub fn job(&self) -> &Job {
        match self {
            Self::Raw { frame, .. } => &frame.job,
            Self::Prepared(frame) => &frame.job,
        }
    }

    /// The job that will be answered, to change it.
    pub fn job_mut(&mut self) -> &mut Job {
        match self {
            Self::Raw { frame, .. } => &mut frame.job,
            Self::Prepared(frame) => &mut frame.job,
        }
    }

    /// The job alone; what it holds is dropped.
    pub fn into_job(self) -> Job {
        match self {
            Self::Raw { frame, .. } => frame.job,
            Self::Prepared(frame) => frame.job,
        }
    }

    /// Since when it waits.
    pub fn since(&self) -> Instant {
        match self {
            Self::Raw { since, .. } => *since,
            Self::Prepared(frame) => frame.prepared_at,
        }
    }

    /// Whether both can be in one run: the same model, and inputs of equal shapes.
    pub fn can_share_run(&self, other: &Self) -> bool {
        self.job().model.id() == other.job().model.id()
            && match (self, other) {
                (Self::Raw { frame, .. }, Self::Raw { frame: other, .. }) => {
                    frame.content.can_share_run(&other.content)
                }
                (Self::Prepared(frame), Self::Prepared(other)) => frame.inputs.can_share_run(&other.inputs),
                _ => false,
            }
    }
}

/// The failure of a frame that was shed.
pub fn displaced() -> Failure {
    Failure::overloaded(
        ShedReason::Displaced,
        "the pipeline is full, and this frame was the oldest waiting one of the lowest priority",
    )
}

impl Job {
    /// A job for a decoded frame.
    pub fn new(parts: JobParts) -> Self {
        let JobParts { responder, received_at, budget, priority, .. } = parts;
        Self {
            flight: Flight::new(Member { responder, received_at, deadline: received_at + budget, priority }),
            model: parts.routed.model,
            received_at,
            remember: None,
            circuit_permit: parts.routed.circuit_permit,
            permits: Some((parts.permit.bytes, parts.permit.frame)),
            book: None,
        }
    }

    /// Whether no frame waits for it any more.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.flight.is_over(now)
    }

    /// The frames that wait for it.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// The latest deadline of the frames that wait for it.
    pub fn deadline(&self) -> Instant {
        self.flight.deadline()
    }

    /// The highest priority of the frames that wait for it.
    pub fn priority(&self) -> Priority {
        self.flight.priority()
    }

    /// Records progress in the trail of the first frame that waits, and in those of all frames of a session.
    pub fn note(&self, what: impl Fn(&mut Trail)) {
        self.flight.note(what);
    }

    /// Checks the circuit permit. Called before each part of the work: work that waited while the circuit
    /// opened is not begun.
    ///
    /// # Errors
    /// The failure the frame gets.
    pub fn check(&self) -> Result<(), Failure> {
        self.circuit_permit.as_ref().map_err(Failure::clone).and_then(CircuitPermit::check)
    }

    /// Enters a run; `listener` is notified when the last frame that waits for this job expires.
    pub fn runs_in(&self, run: Run, listener: &Arc<dyn ExpiryListener>) {
        self.flight.runs_in(run, listener);
    }

    /// Ends with a prediction. The circuit and the cache are updated before the outcomes are queued.
    pub fn succeed(mut self, answer: Answer, facts: RunFacts) {
        let answer = Arc::new(answer);
        if self.flight.is_answered() {
            self.timed_out(facts.inference);
        } else if let Ok(permit) = &mut self.circuit_permit {
            permit.succeeded(facts.inference);
        }
        if let Some((store, key)) = self.remember.take() {
            store.finish(key, &self.flight, self.model.id(), &answer, Instant::now());
        }
        self.predict(&answer, facts.batch_size, false);
    }

    /// Reports to the circuit a run that ended after all deadlines had passed.
    pub fn timed_out(&mut self, run: Duration) {
        if let Ok(permit) = &mut self.circuit_permit {
            permit.timed_out(run);
        }
    }

    /// Ends with an answer from the cache.
    pub fn answer_from_cache(mut self, answer: &Arc<Answer>) {
        self.predict(answer, 1, true);
    }

    /// Fails every frame that waits. Where the model is at fault, its circuit is updated first.
    pub fn fail(mut self, failure: Failure) {
        if let Ok(permit) = &mut self.circuit_permit
            && failure.code == FailureCode::InferenceFailed
            && !self.flight.is_answered()
        {
            permit.failed();
        }
        self.release_probe();
        self.permits = None;
        for member in self.flight.finish() {
            member.responder.answer(Err(failure.clone()));
        }
    }

    /// Releases the place of a probe before the outcome is published.
    fn release_probe(&mut self) {
        if let Ok(permit) = &mut self.circuit_permit {
            permit.abandoned();
        }
    }

    /// Sheds the first frame that waits. Returns it, and whether another frame waits, for which the work goes
    /// on.
    pub fn shed_first(&mut self, now: Instant) -> (Option<Arc<Responder>>, bool) {
        let (first, next) = self.flight.shed_first(now);
        match &next {
            Some(next) => {
                self.received_at = next.received_at;
                if let (Some((_, place)), Some(next)) = (&mut self.permits, next.responder.permit()) {
                    *place = next;
                }
            }
            None => self.release_probe(),
        }
        (first.map(|first| first.responder), next.is_some())
    }

    /// Answers every frame of the flight; all but the first count as cache hits. Permits are released first,
    /// so a client that has its answer is not refused for its next frame.
    fn predict(&mut self, answer: &Arc<Answer>, batch_size: usize, cache_hit: bool) {
        self.permits = None;
        let is_session = self.flight.is_session();
        let mut is_first = !cache_hit;
        for member in self.flight.finish() {
            if !is_first && !is_session {
                // A frame that joined a flight was in the cache stage until now.
                member
                    .responder
                    .note(|trail| trail.looked_up = trail.looked_up.or_else(|| Some(Instant::now())));
            }
            let (answer, model) = (Arc::clone(answer), Arc::clone(self.model.id()));
            let cache_hit = !is_first && !is_session;
            if member.responder.answer(Ok(Prediction { answer, model, batch_size, cache_hit })) {
                is_first = false;
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.release_probe();
        if let Some((store, key)) = self.remember.take() {
            store.abandon(&key, &self.flight);
        }
        self.permits = None;
        let now = Instant::now();
        for member in self.flight.finish() {
            // Expired work may be dropped just before the deadline timer fires.
            let budget = member.deadline - member.received_at;
            member.responder.answer(Err(if now >= member.deadline {
                deadline_exceeded(budget)
            } else {
                dropped()
            }));
        }
    }
}
