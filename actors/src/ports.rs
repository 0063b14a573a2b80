//! The ports: what the actors need from the outside, and nothing of how it is done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::breaker::CircuitPermit;
use crate::frame::{Arrival, CacheKey, Envelope, FrameInfo, IqSamples, ModelId, Priority, Tensor};
use crate::ledger::End;
use crate::outcome::{Answer, Failure, Outcome};

/// Frames as they arrive. It ends when reading has been stopped and all that was read has been given out.
///
/// Invariant: waiting for the next item can be cancelled without losing one.
pub type FrameSource = BoxStream<'static, Arrival>;

/// Reads the encoding of frames.
pub trait Decoder: Send + Sync + 'static {
    /// Reads a frame without copying its samples and finds the model it is for.
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected>;

    /// As much of the echoed part as can be had, with an id in any case; for a frame that is refused unread.
    fn identify(&self, payload: &Bytes, envelope: &Envelope) -> FrameInfo;
}

/// A frame that was read and fits its model.
#[derive(Debug)]
pub struct Decoded {
    /// The echoed part.
    pub info: FrameInfo,
    /// The samples.
    pub samples: IqSamples,
    /// The model that answers.
    pub model: Arc<ModelId>,
    /// Leave of the model's circuit, or the failure that the frame gets if it has to be run.
    pub circuit_permit: Result<CircuitPermit, Failure>,
    /// The most frames of this model that may share a run.
    pub max_batch: usize,
    /// What a frame of this model costs a session, as far as was measured before any frame came.
    pub expected_run: Duration,
    /// The frame's time budget, clamped to what the daemon allows.
    pub budget: Duration,
    /// How urgent it is.
    pub priority: Priority,
    /// Where its answer is remembered; `None` where the frame does not want that.
    pub cache_key: Option<CacheKey>,
}

/// A frame that could not be read, or that no model takes.
#[derive(Debug)]
pub struct Rejected {
    /// What could be salvaged.
    pub info: FrameInfo,
    /// What is wrong with it.
    pub failure: Failure,
}

/// Computes features on a thread of its own, with plans and scratch of its own.
pub trait FeatureWorker: Send + 'static {
    /// The tensor `model` gets for these samples.
    fn extract(&mut self, model: &Arc<ModelId>, samples: &IqSamples) -> Result<Tensor, Failure>;
}

/// Makes feature workers.
pub type FeatureWorkers = Arc<dyn Fn() -> Box<dyn FeatureWorker> + Send + Sync>;

/// Runs models on a thread of its own.
pub trait Runner: Send + 'static {
    /// Runs `model` once on a batch of tensors of one shape; one result per tensor, in order. `Err` fails the whole batch.
    fn run(&mut self, model: &ModelId, batch: &[&Tensor]) -> Result<Vec<Result<Answer, Failure>>, RunError>;

    /// What ends this runner's runs from another thread.
    fn canceller(&self) -> Arc<dyn RunCanceller>;
}

/// Ends a run under way, as soon as the library comes to a place where it can: between two kernels, say.
pub trait RunCanceller: Send + Sync + 'static {
    /// The run under way, and each one begun before the release, fails.
    fn cancel(&self);

    /// Runs begun from now on go through.
    fn reset(&self);
}

/// Makes runners.
pub type Runners = Arc<dyn Fn() -> Box<dyn Runner> + Send + Sync>;

/// A run that failed as a whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Tells outcomes to whoever asked.
pub trait OutcomeSink: Send + Sync + 'static {
    /// Publishes each on its outcome subject and to its reply subject, marking in `outcome.told` what is done, so that a
    /// publication that was cut off can be taken up again. Returns once all have left, with how each frame ended as its subscribers
    /// see it (an outcome too large for the server ends as a failure). `Err`: it could not be published within the sink's bound.
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>>;

    /// Hears of an outcome that will not be given to it again, because of what it does to the publisher.
    fn abandoned(&self, _outcome: &Outcome, _error: &PublishError) {}
}

/// Why an outcome could not be told. A sink says so itself, where it can say more of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PublishError {
    /// In a word, as a label says it.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// A cache that daemons share: the second level behind each one's own. It may take its time and may fail; its callers bound both.
pub trait SharedCache: Send + Sync + 'static {
    /// What is kept under this key for this model. `Err`: it could not be asked, or what it holds is no answer of this model.
    fn get(&self, key: CacheKey, model: Arc<ModelId>) -> BoxFuture<'_, Result<Option<Remembered>, SharedCacheError>>;

    /// Keeps an answer.
    fn put(&self, key: CacheKey, model: Arc<ModelId>, answer: Arc<Answer>) -> BoxFuture<'_, Result<(), SharedCacheError>>;
}

/// An answer kept outside, with its age.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// The answer.
    pub answer: Answer,
    /// How long ago the model gave it.
    pub age: Duration,
}

/// Why the shared cache did not serve.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SharedCacheError(pub String);
