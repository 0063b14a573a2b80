//! Computes features, off the async threads.
//!
//! Invariant: workers pull frames, each on an OS thread of its own with an extractor of its own. The actor
//! spawns them; when it ends, they exit after their current frame.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::feature_worker;
use crate::ports::FeatureWorkers;
use crate::queue::{FrameQueue, WorkQueue, WorkerGeneration};

/// Address of the preprocess actor.
pub type PreprocessRef = ActorRef<PreprocessMsg>;

/// Spawns the workers.
#[derive(Debug)]
pub struct Preprocess;

/// Arguments of the actor.
#[derive(Clone)]
pub struct PreprocessArguments {
    /// Number of workers.
    pub workers: usize,
    /// Creates the extractor of a worker.
    pub extractors: FeatureWorkers,
    /// Where frames wait for a worker.
    pub frames: Arc<FrameQueue>,
    /// Where prepared frames go.
    pub queue: Arc<WorkQueue>,
}

/// It has no messages: frames go through their queue.
#[derive(Debug)]
pub enum PreprocessMsg {}

impl Actor for Preprocess {
    type Msg = PreprocessMsg;
    type State = WorkerGeneration;
    type Arguments = PreprocessArguments;

    async fn pre_start(
        &self,
        _: PreprocessRef,
        arguments: PreprocessArguments,
    ) -> Result<WorkerGeneration, ActorProcessingErr> {
        let generation = WorkerGeneration::begin(&arguments.frames);
        for id in 0..arguments.workers {
            feature_worker::spawn(
                id,
                generation.number(),
                &arguments.extractors,
                &arguments.frames,
                &arguments.queue,
            )?;
        }
        Ok(generation)
    }
}

impl std::fmt::Debug for PreprocessArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreprocessArguments").field("workers", &self.workers).finish_non_exhaustive()
    }
}
