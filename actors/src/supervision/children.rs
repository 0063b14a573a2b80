//! The children, in the order they are started.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, SpawnErr};

use crate::breaker::Breaker;
use crate::cache::{Cache, CacheArguments, CacheRef};
use crate::ingest::{Ingest, IngestArguments};
use crate::model_pool::ModelPool;
use crate::pipeline::Plant;
use crate::preprocess::{Preprocess, PreprocessArguments};
use crate::publish::{Publish, PublishArguments};

/// How long a child may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// The children's roles, in the order they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Tells outcomes.
    Publish,
    /// Says what the circuits do.
    Breaker,
    /// Guards the sessions.
    ModelPool,
    /// Computes features.
    Preprocess,
    /// Answers from memory.
    Cache,
    /// Reads frames.
    Ingest,
}

impl Stage {
    /// The one started first.
    pub const FIRST: Self = Self::Publish;
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Publish, Self::Breaker, Self::ModelPool, Self::Preprocess, Self::Cache, Self::Ingest];

    /// Its name, as a label says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Breaker => "breaker",
            Self::ModelPool => "model_pool",
            Self::Preprocess => "preprocess",
            Self::Cache => "cache",
            Self::Ingest => "ingest",
        }
    }
}

/// The running children, and the references that those started later are given.
#[derive(Default)]
pub struct Children {
    running: Vec<(Stage, ActorCell)>,
    cache: Option<CacheRef>,
}

impl Children {
    /// Which stage an actor runs.
    pub fn stage_of(&self, id: ActorId) -> Option<Stage> {
        self.running.iter().find(|(_, cell)| cell.get_id() == id).map(|&(stage, _)| stage)
    }

    /// The actor that runs a stage.
    pub fn find(&self, stage: Stage) -> Option<ActorCell> {
        self.running.iter().find(|(running, _)| *running == stage).map(|(_, cell)| cell.clone())
    }

    /// Stops `stage` and all started after it, the last first; one that does not stop in time is killed.
    pub async fn stop_from(&mut self, stage: Stage) {
        while let Some((_, cell)) = self.running.pop_if(|(running, _)| *running >= stage) {
            if cell.stop_and_wait(None, Some(STOP_TIMEOUT)).await.is_err() {
                cell.kill();
            }
        }
    }

    /// Starts `stage` and all after it.
    pub async fn start_from(&mut self, stage: Stage, plant: &Arc<Plant>, supervisor: ActorCell) -> Result<(), SpawnErr> {
        for stage in Stage::ALL.into_iter().filter(|&each| each >= stage) {
            let cell = self.start(stage, plant, supervisor.clone()).await?;
            self.running.push((stage, cell));
        }
        Ok(())
    }

    async fn start(&mut self, stage: Stage, plant: &Arc<Plant>, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
        let missing = |what: &str| SpawnErr::StartupFailed(format!("{what} is not running").into());
        Ok(match stage {
            Stage::Publish => {
                let (outcomes, sink, queue) = (Arc::clone(&plant.outcomes), Arc::clone(&plant.sink), Arc::clone(&plant.queue));
                let arguments = PublishArguments { outcomes, sink, queue };
                Actor::spawn_linked(None, Publish, arguments, supervisor).await?.0.get_cell()
            }
            Stage::Breaker => Actor::spawn_linked(None, Breaker, Arc::clone(&plant.circuits), supervisor).await?.0.get_cell(),
            Stage::ModelPool => Actor::spawn_linked(None, ModelPool, Arc::clone(&plant.queue), supervisor).await?.0.get_cell(),
            Stage::Preprocess => {
                let arguments = PreprocessArguments {
                    workers: plant.workers,
                    extractors: Arc::clone(&plant.extractors),
                    frames: Arc::clone(&plant.frames),
                    queue: Arc::clone(&plant.queue),
                };
                Actor::spawn_linked(None, Preprocess, arguments, supervisor).await?.0.get_cell()
            }
            Stage::Cache => {
                let arguments =
                    CacheArguments { store: Arc::clone(&plant.cache), frames: Arc::clone(&plant.frames), queue: Arc::clone(&plant.queue) };
                let (cache, _) = Actor::spawn_linked(None, Cache, arguments, supervisor).await?;
                self.cache.insert(cache).get_cell()
            }
            Stage::Ingest => {
                let arguments = IngestArguments {
                    gaps: Arc::clone(&plant.gaps),
                    source: Arc::clone(&plant.source),
                    decoder: Arc::clone(&plant.decoder),
                    ledger: Arc::clone(&plant.ledger),
                    admission: Arc::clone(&plant.admission),
                    deadlines: Arc::clone(&plant.deadlines),
                    outcomes: Arc::clone(&plant.outcomes),
                    frames: Arc::clone(&plant.frames),
                    queue: Arc::clone(&plant.queue),
                    shed_oldest: plant.pool.shed_oldest,
                    cache: self.cache.clone().ok_or_else(|| missing("the cache"))?,
                };
                Actor::spawn_linked(None, Ingest, arguments, supervisor).await?.0.get_cell()
            }
        })
    }
}
