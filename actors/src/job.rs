//! The answer a frame is owed, carried through the pipeline by value.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::admission::FramePermit;
use crate::breaker::Pass;
use crate::cache::{CacheKey, CacheStore};
use crate::frame::{ModelId, Priority};
use crate::outcome::{Answer, Failure, FailureCode, Prediction};
use crate::responder::{LateRun, Responder, deadline_exceeded, dropped};
use crate::trail::{Run, Trail};

/// One frame's way through the pipeline. It ends in [`Job::succeed`] or [`Job::fail`]; a job dropped before that, by a dying actor
/// say, fails as `internal`, so no frame ends without an outcome.
#[derive(Debug)]
pub struct Job {
    responder: Arc<Responder>,
    /// The model that answers.
    pub model: Arc<ModelId>,
    /// The most frames of this model that may share a run.
    pub max_batch: usize,
    /// What a frame of this model costs a session, as measured before any frame came.
    pub expected_run: Duration,
    /// When the frame arrived.
    pub received_at: Instant,
    /// When its budget ends.
    pub deadline: Instant,
    /// How urgent it is.
    pub priority: Priority,
    /// Where the answer is remembered.
    pub remember: Option<(Arc<CacheStore>, CacheKey)>,
    /// Leave of the model's circuit, which hears of the frame's end; or the failure that the frame gets if it has to be run.
    leave: Result<Pass, Failure>,
    _bytes: OwnedSemaphorePermit,
    /// The frame's permit stays as long as its bytes do, also where the deadline has answered it already.
    _frame: Arc<FramePermit>,
}

/// What a new job is made of.
#[derive(Debug)]
pub struct JobParts {
    /// The reply slot.
    pub responder: Arc<Responder>,
    /// The model that answers.
    pub model: Arc<ModelId>,
    /// Leave of the model's circuit, or the failure that the frame gets if it has to be run.
    pub leave: Result<Pass, Failure>,
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

impl Job {
    /// A job for a decoded frame.
    pub fn new(parts: JobParts) -> Self {
        Self {
            responder: parts.responder,
            model: parts.model,
            max_batch: parts.max_batch.max(1),
            expected_run: parts.expected_run,
            received_at: parts.received_at,
            deadline: parts.received_at + parts.budget,
            priority: parts.priority,
            remember: None,
            leave: parts.leave,
            _bytes: parts.permit.bytes,
            _frame: parts.permit.frame,
        }
    }

    /// Whether work on this frame is work nobody waits for.
    pub fn is_settled(&self, now: Instant) -> bool {
        now >= self.deadline || self.responder.is_answered()
    }

    /// Says where the frame has been.
    pub fn note(&self, what: impl FnOnce(&mut Trail)) {
        self.responder.note(what);
    }

    /// Whether the model's circuit lets it be run. Asked before each part of the work: what waited while the circuit opened is not
    /// begun any more.
    ///
    /// # Errors
    /// The failure the frame gets.
    pub fn check(&self) -> Result<(), Failure> {
        self.leave.as_ref().map_err(Failure::clone).and_then(Pass::check)
    }

    /// The frame is in this run from now on.
    pub fn runs_in(&self, run: Run, late: &Arc<dyn LateRun>) {
        self.responder.runs_in(run, late);
    }

    /// The model answered. Its circuit and the cache hear of it before the outcome is queued.
    pub fn succeed(mut self, answer: Answer, facts: RunFacts) {
        let answer = Arc::new(answer);
        if self.responder.is_answered() {
            self.overran(facts.inference);
        } else if let Ok(pass) = &mut self.leave {
            pass.succeeded(facts.inference);
        }
        if let Some((store, key)) = self.remember.take() {
            store.insert(key, Arc::clone(&answer), Instant::now());
        }
        self.predict(answer, facts.batch_size, false);
    }

    /// The frame's run ended, or was ended, after its deadline had answered it.
    pub fn overran(&mut self, run: Duration) {
        if let Ok(pass) = &mut self.leave {
            pass.overran(run);
        }
    }

    /// The cache answered.
    pub fn answer_from_cache(self, answer: Arc<Answer>) {
        self.predict(answer, 1, true);
    }

    /// The frame failed. Its circuit hears of it first, where the model is to blame.
    pub fn fail(mut self, failure: Failure) {
        if let Ok(pass) = &mut self.leave
            && failure.code == FailureCode::InferenceFailed
            && !self.responder.is_answered()
        {
            pass.failed();
        }
        self.give_back();
        self.responder.answer(Err(failure));
    }

    /// A probe's place is free again before its end is told.
    fn give_back(&mut self) {
        if let Ok(pass) = &mut self.leave {
            pass.abandoned();
        }
    }

    /// The frame gives way to another one: its permits are free at once, its answer waits in the place of a refusal.
    pub fn shed(mut self, failure: Failure, refusal: Option<Arc<FramePermit>>) {
        self.give_back();
        self.responder.answer_from(refusal, failure);
    }

    fn predict(&self, answer: Arc<Answer>, batch_size: usize, cache_hit: bool) {
        self.responder.answer(Ok(Prediction { answer, model: Arc::clone(&self.model), batch_size, cache_hit }));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.give_back();
        if self.responder.is_answered() {
            return;
        }
        // Work on a frame that nobody waits for is dropped, maybe just before its timer says so.
        let budget = self.deadline - self.received_at;
        let failure = if Instant::now() >= self.deadline { deadline_exceeded(budget) } else { dropped() };
        self.responder.answer(Err(failure));
    }
}
