//! What outlives the actors.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::account::admission::Admission;
use crate::account::copies::Copies;
use crate::account::gaps::GapWatch;
use crate::account::ledger::Ledger;
use crate::breaker::Circuits;
use crate::cache::CacheStore;
use crate::gather::Gathering;
use crate::ports::{Decoder, FeatureWorkers, FrameSource, OutcomeSink};
use crate::queue::{self, FrameQueue, WorkQueue};
use crate::reply::{Deadlines, OutcomeQueue};
use crate::routing::Models;
use crate::stages::Restarts;

/// State that outlives the actors. Every restarted actor is given the same.
pub struct SharedState {
    /// The outcome law.
    pub ledger: Arc<Ledger>,
    /// Finds frames that never came by the sources' `seq`.
    pub gaps: Arc<GapWatch>,
    /// The permits.
    pub admission: Arc<Admission>,
    /// Copies for versions that only watch.
    pub copies: Arc<Copies>,
    /// The timer of all deadlines.
    pub deadlines: Arc<Deadlines>,
    /// The outcomes that are not published yet.
    pub outcomes: Arc<OutcomeQueue>,
    /// The cache's entries.
    pub cache: Arc<CacheStore>,
    /// The sessions that wait for their frames.
    pub gathering: Arc<Gathering>,
    /// The models in service.
    pub models: Arc<Models>,
    /// The circuits.
    pub circuits: Arc<Circuits>,
    /// The queue of the feature workers.
    pub frames: Arc<FrameQueue>,
    /// The queue of the sessions.
    pub queue: Arc<WorkQueue>,
    /// Restarts of the actors.
    pub restarts: Restarts,
    pub(crate) pool: queue::Config,
    pub(crate) workers: usize,
    pub(crate) source: Arc<Mutex<FrameSource>>,
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) extractors: FeatureWorkers,
    pub(crate) sink: Arc<dyn OutcomeSink>,
}
