//! The answer a frame is owed, carried through the pipeline by value.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::admission::FramePermit;
use crate::breaker::CircuitPermit;
use crate::cache::{CacheKey, CacheStore};
use crate::flight::{Flight, Member};
use crate::frame::{ModelId, Priority};
use crate::outcome::{Answer, Failure, FailureCode, Prediction};
use crate::responder::{ExpiryListener, Responder, deadline_exceeded, dropped};
use crate::trail::{Run, Trail};

/// One computation's way through the pipeline, for a frame and those equal ones that wait for it. It ends in [`Job::succeed`] or
/// [`Job::fail`]; a job dropped before that, by a dying actor say, fails as `internal`, so no frame ends without an outcome.
#[derive(Debug)]
pub struct Job {
    flight: Arc<Flight>,
    /// The model that answers.
    pub model: Arc<ModelId>,
    /// The most frames of this model that may share a run.
    pub max_batch: usize,
    /// What a frame of this model costs a session, as measured before any frame came.
    pub expected_run: Duration,
    /// When the frame arrived that it is done for.
    pub received_at: Instant,
    /// Where the answer is remembered.
    pub remember: Option<(Arc<CacheStore>, CacheKey)>,
    /// Leave of the model's circuit, which hears of the frame's end; or the failure that the frame gets if it has to be run.
    circuit_permit: Result<CircuitPermit, Failure>,
    /// Its bytes, and the frame's place, which stays as long as they do, also where the deadline has answered it already.
    permits: Option<(OwnedSemaphorePermit, Arc<FramePermit>)>,
}

/// What a new job is made of.
#[derive(Debug)]
pub struct JobParts {
    /// The reply slot.
    pub responder: Arc<Responder>,
    /// The model that answers.
    pub model: Arc<ModelId>,
    /// Leave of the model's circuit, or the failure that the frame gets if it has to be run.
    pub circuit_permit: Result<CircuitPermit, Failure>,
    /// The most frames of this model that may share a run.
    pub max_batch: usize,
    /// What a frame of this model costs a session, as measured before any frame came.
    pub expected_run: Duration,
    /// When the frame arrived.
    pub received_at: Instant,
    /// The frame's time budget.
    pub budget: Duration,
    /// How urgent it is.
    pub priority: Priority,
    /// Its place in the pipeline.
    pub permit: crate::admission::Permit,
}

/// How a run went for one frame of it.
#[derive(Debug)]
pub struct RunFacts {
    /// How many frames shared the run.
    pub batch_size: usize,
    /// How long the run took.
    pub inference: Duration,
}

/// A frame that gives way to another one.
#[derive(Debug)]
pub struct Shed<T> {
    /// Its reply slot.
    pub responder: Option<Arc<Responder>>,
    /// What was to be computed, where nobody else waits for it; its permits are free when this is dropped.
    pub work: Option<T>,
}

impl<T> Shed<T> {
    /// Answers it; the answer waits in the place of a refusal, and its own place is free.
    pub fn answer(self, failure: Failure, refusal: Option<Arc<FramePermit>>) {
        if let Some(responder) = self.responder {
            responder.answer_from(refusal, failure);
        }
    }
}

impl Job {
    /// A job for a decoded frame.
    pub fn new(parts: JobParts) -> Self {
        let JobParts { responder, received_at, budget, priority, .. } = parts;
        Self {
            flight: Flight::new(Member { responder, received_at, deadline: received_at + budget, priority }),
            model: parts.model,
            max_batch: parts.max_batch.max(1),
            expected_run: parts.expected_run,
            received_at,
            remember: None,
            circuit_permit: parts.circuit_permit,
            permits: Some((parts.permit.bytes, parts.permit.frame)),
        }
    }

    /// Whether work on it is work nobody waits for.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.flight.is_over(now)
    }

    /// Those who wait for it.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// When the last budget of those who wait for it ends.
    pub fn deadline(&self) -> Instant {
        self.flight.deadline()
    }

    /// How urgent the most urgent of those is.
    pub fn priority(&self) -> Priority {
        self.flight.priority()
    }

    /// Says where the frame has been that it is done for.
    pub fn note(&self, what: impl FnOnce(&mut Trail)) {
        self.flight.note(what);
    }

    /// Whether the model's circuit lets it be run. Asked before each part of the work: what waited while the circuit opened is not
    /// begun any more.
    ///
    /// # Errors
    /// The failure the frame gets.
    pub fn check(&self) -> Result<(), Failure> {
        self.circuit_permit.as_ref().map_err(Failure::clone).and_then(CircuitPermit::check)
    }

    /// It is in this run from now on.
    pub fn runs_in(&self, run: Run, listener: &Arc<dyn ExpiryListener>) {
        self.flight.runs_in(run, listener);
    }

    /// The model answered. Its circuit and the cache hear of it before the outcomes are queued.
    pub fn succeed(mut self, answer: Answer, facts: RunFacts) {
        let answer = Arc::new(answer);
        if self.flight.is_answered() {
            self.timed_out(facts.inference);
        } else if let Ok(permit) = &mut self.circuit_permit {
            permit.succeeded(facts.inference);
        }
        if let Some((store, key)) = self.remember.take() {
            store.finish(key, &self.flight, &self.model, &answer, Instant::now());
        }
        self.predict(&answer, facts.batch_size, false);
    }

    /// The frame's run ended, or was ended, after its deadline had answered it.
    pub fn timed_out(&mut self, run: Duration) {
        if let Ok(permit) = &mut self.circuit_permit {
            permit.timed_out(run);
        }
    }

    /// The cache answered.
    pub fn answer_from_cache(mut self, answer: &Arc<Answer>) {
        self.predict(answer, 1, true);
    }

    /// It failed, and all who waited with it. The circuit hears of it first, where the model is to blame.
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

    /// A probe's place is free again before its end is told.
    fn release_probe(&mut self) {
        if let Ok(permit) = &mut self.circuit_permit {
            permit.abandoned();
        }
    }

    /// The first of those who wait gives way to another frame. Whether there is a next one, in whose place the work goes on.
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

    /// Those who waited for the one it was done for are answered without a run of their own. Whoever hears of the answer finds the
    /// permits back.
    fn predict(&mut self, answer: &Arc<Answer>, batch_size: usize, cache_hit: bool) {
        self.permits = None;
        let mut is_first = !cache_hit;
        for member in self.flight.finish() {
            if !is_first {
                // It was with the cache until now, unless that knew the answer at once.
                member.responder.note(|trail| trail.looked_up = trail.looked_up.or_else(|| Some(Instant::now())));
            }
            let (answer, model) = (Arc::clone(answer), Arc::clone(&self.model));
            if member.responder.answer(Ok(Prediction { answer, model, batch_size, cache_hit: !is_first })) {
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
            // Work that nobody waits for is dropped, maybe just before the watch over the deadlines says so.
            let budget = member.deadline - member.received_at;
            member.responder.answer(Err(if now >= member.deadline { deadline_exceeded(budget) } else { dropped() }));
        }
    }
}
