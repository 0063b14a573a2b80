//! The ports: the traits through which the actors reach the outside.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::time::Instant;

use crate::account::ledger::End;
use crate::frame::{CacheKey, Content, Envelope, FrameInfo, ModelId, Priority};
use crate::gather::GatherRules;
use crate::outcome::{Answer, Failure, Origin, Outcome, PublishError};
use crate::tensor::Inputs;

/// A message as it came from the broker.
#[derive(Debug)]
pub struct Arrival {
    /// The frame's encoding.
    pub payload: Bytes,
    /// Where it came from and how it is written.
    pub envelope: Envelope,
    /// Who waits for its outcome, beside the outcome subject.
    pub origin: Option<Arc<dyn Origin>>,
    /// When it was read.
    pub received_at: Instant,
    /// The failure it ends in without being read, where its stream has delivered it too often or too late.
    pub refused: Option<Failure>,
}

/// Frames as they arrive. The stream ends when reading was stopped and every frame read has been delivered.
///
/// Invariant: waiting for the next item can be cancelled without losing one.
pub type FrameSource = BoxStream<'static, Arrival>;

/// Reads the encoding of frames.
pub trait Decoder: Send + Sync + 'static {
    /// Decodes a frame without copying its samples.
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected>;

    /// Extracts what an outcome echoes, as far as it can be read; an id in any case. For a frame that is
    /// refused without being decoded.
    fn identify(&self, payload: &Bytes, envelope: &Envelope) -> FrameInfo;
}

/// A decoded frame: what it holds, and what it asks for.
#[derive(Debug)]
pub struct Decoded {
    /// The part of the frame that its outcome echoes.
    pub info: FrameInfo,
    /// What its model is to get.
    pub content: Content,
    /// The model it names, as `name` or `name@version`.
    pub model: Option<String>,
    /// The frame's time budget, clamped to `limits.max_timeout`.
    pub budget: Duration,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether its answer may come from the cache and be kept there.
    pub is_cacheable: bool,
    /// How many frames its session will have.
    pub session_size: Option<u64>,
}

/// A frame that could not be decoded.
#[derive(Debug)]
pub struct Rejected {
    /// The part of the frame that its outcome echoes, as far as it could be read.
    pub info: FrameInfo,
    /// Why it was rejected.
    pub failure: Failure,
}

/// A loaded version of a model. A frame carries it from its routing to its run, so that a version that is
/// replaced meanwhile still serves the frames it has accepted.
pub trait LoadedModel: Any + fmt::Debug + Send + Sync {
    /// Name, version and digest.
    fn id(&self) -> &Arc<ModelId>;

    /// Checks a frame before anything is computed.
    ///
    /// # Errors
    /// The failure of the frame: what the model does not take, with the value and the limit.
    fn accepts(&self, content: &Content) -> Result<(), Failure>;

    /// How it gathers the frames of several receivers; `None` where it answers each frame alone.
    fn gather(&self) -> Option<&Arc<GatherRules>> {
        None
    }

    /// Maximum batch size.
    fn max_batch(&self) -> usize;

    /// Session time per frame, as measured before any frame came.
    fn expected_run(&self) -> Duration;

    /// SHA-256 digests of everything that determines its answers beside the samples.
    fn digests(&self) -> [&[u8; 32]; 2];

    /// Rebinds an answer from elsewhere to the names of this model; `None` where it cannot be one of its
    /// answers.
    fn rebind(&self, answer: Answer) -> Option<Answer>;
}

/// Computes features. Each worker has its own thread, FFT plans and scratch memory.
pub trait FeatureWorker: Send + 'static {
    /// Computes the inputs of `model` from what a frame holds.
    fn extract(&mut self, model: &dyn LoadedModel, content: Content) -> Result<Inputs, Failure>;
}

/// Makes feature workers.
pub type FeatureWorkers = Arc<dyn Fn() -> Box<dyn FeatureWorker> + Send + Sync>;

/// Runs models. Each session thread owns one runner.
pub trait Runner: Send + 'static {
    /// Runs `model` once on a batch of frames that [can share a run](Inputs::can_share_run); one result per
    /// frame, in order. `Err` fails the whole batch.
    fn run(
        &mut self,
        model: &dyn LoadedModel,
        batch: &[&Inputs],
    ) -> Result<Vec<Result<Answer, Failure>>, RunError>;

    /// The handle that cancels runs of this runner from another thread.
    fn canceller(&self) -> Arc<dyn RunCanceller>;
}

/// Cancels runs from another thread, at the next point where the library checks (ONNX Runtime: between
/// kernels).
pub trait RunCanceller: Send + Sync + 'static {
    /// Makes the current run fail, and every run begun before [`reset`](Self::reset).
    fn cancel(&self);

    /// Lets runs begun from now on complete.
    fn reset(&self);
}

/// Makes runners.
pub type Runners = Arc<dyn Fn() -> Box<dyn Runner> + Send + Sync>;

/// A run that failed as a whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Publishes outcomes.
pub trait OutcomeSink: Send + Sync + 'static {
    /// Publishes each outcome on its outcome subject and passes it to its origin. Marks in
    /// `outcome.published` what is done, so that an interrupted publication can be resumed. Returns when all
    /// have been sent, with how each frame ended as its subscribers see it (an outcome too large for the
    /// server ends as a failure). `Err`: it could not be published within the bound of the sink.
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>>;

    /// Called once for an outcome abandoned because it crashed the publisher three times.
    fn abandoned(&self, _outcome: &Outcome, _error: &PublishError) {}
}

/// A cache shared by several daemons: the second level behind the cache of each. It may be slow and may fail;
/// the caller bounds both.
pub trait SharedCache: Send + Sync + 'static {
    /// Looks up the answer under this key. `Err`: the cache could not be read, or holds something that is no
    /// answer.
    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<Remembered>, SharedCacheError>>;

    /// Stores an answer.
    fn put(&self, key: CacheKey, answer: Arc<Answer>) -> BoxFuture<'_, Result<(), SharedCacheError>>;
}

/// An answer of the shared cache, with its age.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// The answer.
    pub answer: Answer,
    /// Time since the model gave it.
    pub age: Duration,
}

/// Why the shared cache could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SharedCacheError(pub String);
