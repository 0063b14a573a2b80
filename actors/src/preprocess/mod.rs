//! Computes features, off the async threads.
//!
//! Invariant: workers pull, each on an OS thread of its own with an extractor of its own; the actor hires them, and when it ends they go
//! home after the frame they have.

mod queue;
mod worker;

use std::sync::Arc;

pub use queue::FrameQueue;
use queue::WorkerGeneration;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::model_pool::WorkQueue;
use crate::ports::FeatureWorkers;

/// Address of the preprocess actor.
pub type PreprocessRef = ActorRef<PreprocessMsg>;

/// Hires the workers.
#[derive(Debug)]
pub struct Preprocess;

/// What it works with.
#[derive(Clone)]
pub struct PreprocessArguments {
    /// How many workers.
    pub workers: usize,
    /// Makes a worker's extractor.
    pub extractors: FeatureWorkers,
    /// Where frames wait for a worker.
    pub frames: Arc<FrameQueue>,
    /// Where prepared frames go.
    pub queue: Arc<WorkQueue>,
}

/// What it is told: nothing, frames go through their queue.
#[derive(Debug)]
pub enum PreprocessMsg {}

impl Actor for Preprocess {
    type Msg = PreprocessMsg;
    type State = WorkerGeneration;
    type Arguments = PreprocessArguments;

    async fn pre_start(&self, _: PreprocessRef, arguments: PreprocessArguments) -> Result<WorkerGeneration, ActorProcessingErr> {
        let generation = WorkerGeneration::begin(&arguments.frames);
        for id in 0..arguments.workers {
            worker::spawn(id, generation.number(), &arguments)?;
        }
        Ok(generation)
    }
}

impl std::fmt::Debug for PreprocessArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreprocessArguments").field("workers", &self.workers).finish_non_exhaustive()
    }
}
