//! The children, in the order they are started.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, SpawnErr};

use crate::shared_state::SharedState;
use crate::stages::ActorRole;
use crate::stages::breaker::Breaker;
use crate::stages::cache::{Cache, CacheArguments, CacheRef};
use crate::stages::gather::{Gather, GatherArguments};
use crate::stages::ingest::{Ingest, IngestArguments};
use crate::stages::model_pool::ModelPool;
use crate::stages::preprocess::{Preprocess, PreprocessArguments};
use crate::stages::publish::{Publish, PublishArguments};

/// How long a child may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// The running children, and the references given to those started later.
#[derive(Default)]
pub struct Children {
    running: Vec<(ActorRole, ActorCell)>,
    cache: Option<CacheRef>,
}

impl Children {
    /// The role of an actor.
    pub fn role_of(&self, id: ActorId) -> Option<ActorRole> {
        self.running.iter().find(|(_, cell)| cell.get_id() == id).map(|&(role, _)| role)
    }

    /// The actor with this role.
    pub fn find(&self, role: ActorRole) -> Option<ActorCell> {
        self.running.iter().find(|(running, _)| *running == role).map(|(_, cell)| cell.clone())
    }

    /// Stops `role` and all started after it, in reverse order; a child that does not stop in time is killed.
    pub async fn stop_from(&mut self, role: ActorRole) {
        while let Some((_, cell)) = self.running.pop_if(|(running, _)| *running >= role) {
            if cell.stop_and_wait(None, Some(STOP_TIMEOUT)).await.is_err() {
                cell.kill();
            }
        }
    }

    /// Starts `role` and all after it.
    pub async fn start_from(
        &mut self,
        role: ActorRole,
        shared_state: &Arc<SharedState>,
        supervisor: ActorCell,
    ) -> Result<(), SpawnErr> {
        for role in ActorRole::ALL.into_iter().filter(|&each| each >= role) {
            let cell = self.start(role, shared_state, supervisor.clone()).await?;
            self.running.push((role, cell));
        }
        Ok(())
    }

    async fn start(
        &mut self,
        role: ActorRole,
        shared_state: &Arc<SharedState>,
        supervisor: ActorCell,
    ) -> Result<ActorCell, SpawnErr> {
        let missing = |what: &str| SpawnErr::StartupFailed(format!("{what} is not running").into());
        Ok(match role {
            ActorRole::Publish => {
                let (outcomes, sink, queue) = (
                    Arc::clone(&shared_state.outcomes),
                    Arc::clone(&shared_state.sink),
                    Arc::clone(&shared_state.queue),
                );
                let arguments = PublishArguments { outcomes, sink, queue };
                Actor::spawn_linked(None, Publish, arguments, supervisor).await?.0.get_cell()
            }
            ActorRole::Breaker => {
                Actor::spawn_linked(None, Breaker, Arc::clone(&shared_state.circuits), supervisor)
                    .await?
                    .0
                    .get_cell()
            }
            ActorRole::ModelPool => {
                Actor::spawn_linked(None, ModelPool, Arc::clone(&shared_state.queue), supervisor)
                    .await?
                    .0
                    .get_cell()
            }
            ActorRole::Preprocess => {
                let arguments = PreprocessArguments {
                    workers: shared_state.workers,
                    extractors: Arc::clone(&shared_state.extractors),
                    frames: Arc::clone(&shared_state.frames),
                    queue: Arc::clone(&shared_state.queue),
                };
                Actor::spawn_linked(None, Preprocess, arguments, supervisor).await?.0.get_cell()
            }
            ActorRole::Cache => {
                let arguments = CacheArguments {
                    store: Arc::clone(&shared_state.cache),
                    frames: Arc::clone(&shared_state.frames),
                    has_workers: shared_state.workers > 0,
                    queue: Arc::clone(&shared_state.queue),
                };
                let (cache, _) = Actor::spawn_linked(None, Cache, arguments, supervisor).await?;
                self.cache.insert(cache).get_cell()
            }
            ActorRole::Gather => {
                let gathering = Arc::clone(&shared_state.gathering);
                let cache = self.cache.clone().ok_or_else(|| missing("the cache"))?;
                let arguments = GatherArguments { gathering, cache };
                Actor::spawn_linked(None, Gather, arguments, supervisor).await?.0.get_cell()
            }
            ActorRole::Ingest => {
                let arguments = IngestArguments {
                    gathering: Arc::clone(&shared_state.gathering),
                    copies: Arc::clone(&shared_state.copies),
                    gaps: Arc::clone(&shared_state.gaps),
                    source: Arc::clone(&shared_state.source),
                    decoder: Arc::clone(&shared_state.decoder),
                    models: Arc::clone(&shared_state.models),
                    ledger: Arc::clone(&shared_state.ledger),
                    admission: Arc::clone(&shared_state.admission),
                    deadlines: Arc::clone(&shared_state.deadlines),
                    outcomes: Arc::clone(&shared_state.outcomes),
                    frames: Arc::clone(&shared_state.frames),
                    queue: Arc::clone(&shared_state.queue),
                    shed_oldest: shared_state.pool.shed_oldest,
                    cache: self.cache.clone().ok_or_else(|| missing("the cache"))?,
                };
                Actor::spawn_linked(None, Ingest, arguments, supervisor).await?.0.get_cell()
            }
        })
    }
}
