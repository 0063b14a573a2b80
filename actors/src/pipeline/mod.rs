//! The pipeline as a whole: its configuration, start and shutdown.

#[cfg(test)]
mod flight_tests;
#[cfg(test)]
mod gather_tests;
#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, SpawnErr};
use tokio::sync::Mutex;

use crate::account::admission::Admission;
use crate::account::copies::Copies;
use crate::account::ledger::Ledger;
use crate::breaker::Circuits;
use crate::cache::{self, CacheStore, Shared};
use crate::gather::{self, Gathering};
use crate::ports::{Decoder, FeatureWorkers, FrameSource, OutcomeSink, Runners, SharedCache};
use crate::queue::{self, WorkQueue};
use crate::reply::{Deadlines, OutcomeQueue};
use crate::routing::Models;
use crate::sessions::Sessions;
pub use crate::shared_state::SharedState;
use crate::stages::{ActorRole, Restarts};
use crate::supervision::{self, Supervisor, SupervisorArguments, SupervisorMsg, SupervisorRef};
use crate::task::Task;

/// One of so many parts of the bytes in flight may be held by copies beside them.
const COPIED_PART: usize = 4;

/// Configuration of the pipeline.
#[derive(Debug, Clone)]
pub struct Config {
    /// Maximum number of frames in flight.
    pub in_flight_frames: usize,
    /// Maximum number of payload bytes in flight.
    pub in_flight_bytes: usize,
    /// The share of the frames in flight that one source may hold.
    pub per_source_share: f64,
    /// Number of threads that compute features; none: the sessions compute them.
    pub workers: usize,
    /// Sessions and their queue.
    pub pool: queue::Config,
    /// Bounds of the cache.
    pub cache: cache::Config,
    /// Bounds of sessions.
    pub gather: gather::Config,
    /// Restarts.
    pub supervision: supervision::Config,
}

/// What frames are counted and bounded by. Made before the pipeline, because a source may ask for as many
/// frames as there is room for.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// Counts them.
    pub ledger: Arc<Ledger>,
    /// Bounds them.
    pub admission: Arc<Admission>,
    /// Bounds those that wait in sessions.
    pub gathered: Arc<Admission>,
}

impl Config {
    /// New accounts with these bounds.
    pub fn accounts(&self) -> Accounts {
        let admission = Admission::new(self.in_flight_frames, self.in_flight_bytes, self.per_source_share);
        let gathered = Arc::new(Gathering::room_for(&self.gather));
        Accounts { ledger: Arc::default(), admission: Arc::new(admission), gathered }
    }
}

/// The implementations behind the ports.
pub struct Ports {
    /// Where frames come from.
    pub source: FrameSource,
    /// Decodes them.
    pub decoder: Arc<dyn Decoder>,
    /// The models in service.
    pub models: Arc<Models>,
    /// The circuits of the models.
    pub circuits: Arc<Circuits>,
    /// Creates feature workers.
    pub extractors: FeatureWorkers,
    /// Creates runners.
    pub runners: Runners,
    /// Publishes outcomes.
    pub sink: Arc<dyn OutcomeSink>,
    /// The cache's second level, where there is one.
    pub shared_cache: Option<Arc<dyn SharedCache>>,
}

/// Why the pipeline could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The session threads could not be spawned.
    #[error("the session threads could not be started: {0}")]
    Sessions(#[from] io::Error),
    /// An actor did not start.
    #[error("the actors could not be started: {0}")]
    Actors(#[from] SpawnErr),
}

/// A running pipeline.
pub struct Pipeline {
    shared_state: Arc<SharedState>,
    sessions: Sessions,
    supervisor: SupervisorRef,
    supervising: JoinHandle<()>,
    _watch: Task,
}

impl Pipeline {
    /// Starts sessions and actors.
    pub async fn start(config: Config, ports: Ports) -> Result<Self, StartError> {
        let accounts = config.accounts();
        Self::start_with(accounts, config, ports).await
    }

    /// [`start`](Self::start) with accounts that a part outside uses too.
    pub async fn start_with(accounts: Accounts, config: Config, ports: Ports) -> Result<Self, StartError> {
        let queue = WorkQueue::new(config.pool.clone());
        let shared = ports.shared_cache.map(|port| Shared::start(port, config.cache.shared_timeout));
        let cache = CacheStore::with_shared(shared, &config.cache);
        let deadlines = Arc::<Deadlines>::default();
        let shared_state = Arc::new(SharedState {
            ledger: accounts.ledger,
            gaps: Arc::default(),
            admission: accounts.admission,
            copies: Arc::new(Copies::new(config.in_flight_bytes / COPIED_PART)),
            outcomes: OutcomeQueue::with_sessions(
                config.in_flight_frames,
                Gathering::most_frames(&config.gather),
            ),
            gathering: Arc::new(Gathering::new(
                config.gather,
                accounts.gathered,
                Arc::clone(&deadlines),
                Arc::clone(&ports.circuits),
            )),
            deadlines,
            cache,
            models: ports.models,
            circuits: ports.circuits,
            frames: Arc::default(),
            queue: Arc::clone(&queue),
            workers: config.workers,
            source: Arc::new(Mutex::new(ports.source)),
            decoder: ports.decoder,
            extractors: ports.extractors,
            sink: ports.sink,
            pool: config.pool,
            restarts: Restarts::default(),
        });
        let sessions =
            Sessions::spawn(shared_state.pool.sessions, &queue, &ports.runners, &shared_state.extractors)?;
        let arguments =
            SupervisorArguments { config: config.supervision, shared_state: Arc::clone(&shared_state) };
        let (supervisor, supervising) = Actor::spawn(None, Supervisor, arguments).await?;
        let deadlines = Arc::clone(&shared_state.deadlines);
        let watch = Task::spawn(async move { deadlines.run().await });
        Ok(Self { shared_state, sessions, supervisor, supervising, _watch: watch })
    }

    /// State that outlives the actors: the ledger, the queues, the statistics.
    pub fn shared_state(&self) -> &Arc<SharedState> {
        &self.shared_state
    }

    /// Returns when the supervisor has given up.
    pub async fn failed(&mut self) {
        let _ = (&mut self.supervising).await;
    }

    /// The actor that runs a stage now; for tests that kill it.
    pub async fn find(&self, role: ActorRole) -> Option<ActorCell> {
        self.ask(|reply| SupervisorMsg::Find(role, reply), Duration::from_secs(1)).await.flatten()
    }

    /// Ends the pipeline: waits, at most `bound`, for every frame in flight, then stops actor after actor.
    /// Frames unfinished by then are failed, and their outcomes are published before the publisher stops. The
    /// source must have been stopped before.
    pub async fn shut_down(self, bound: Duration) {
        if tokio::time::timeout(bound, self.shared_state.ledger.idle()).await.is_err() {
            tracing::warn!(
                in_flight = self.shared_state.ledger.counts().in_flight,
                "frames still in flight are dropped"
            );
            self.sessions.end_runs();
        }
        self.shared_state.gathering.close();
        self.ask(|reply| SupervisorMsg::Stop(ActorRole::ModelPool, reply), bound).await;
        self.shared_state.frames.close();
        let sessions = self.sessions;
        let joined = tokio::task::spawn_blocking(move || sessions.join());
        if tokio::time::timeout(bound, joined).await.is_err() {
            tracing::warn!("a session is still running");
        }
        // The publisher runs until every outcome is published.
        let _ = tokio::time::timeout(bound, self.shared_state.ledger.idle()).await;
        let supervisor = self.supervisor;
        let _ = supervisor.stop_and_wait(None, Some(bound)).await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(ractor::RpcReplyPort<T>) -> SupervisorMsg,
        timeout: Duration,
    ) -> Option<T> {
        match self.supervisor.call(message, Some(timeout)).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => Some(answer),
            _ => None,
        }
    }
}
