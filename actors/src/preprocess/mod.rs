//! Computes features, off the async threads.
//!
//! A factory of workers; each worker actor owns one OS thread with an extractor of its own, so that a worker can be killed while its
//! thread is busy, and the factory never waits for a thread.

mod lane;

use std::sync::Arc;

use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job as FactoryJob, JobOptions, Worker, WorkerBuilder, WorkerId, queues, routing,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::Instant;

use crate::frame::RawFrame;
use crate::model_pool::WorkQueue;
use crate::ports::FeatureWorkers;
use lane::Lane;

/// Address of the preprocess factory.
pub type PreprocessRef = ActorRef<FactoryMessage<(), Waiting>>;

/// A frame that waits for a worker.
#[derive(Debug)]
pub struct Waiting {
    frame: Box<RawFrame>,
}

/// What the factory works with.
#[derive(Clone)]
pub struct PreprocessArguments {
    /// How many workers.
    pub workers: usize,
    /// Makes a worker's extractor.
    pub extractors: FeatureWorkers,
    /// Where prepared frames go.
    pub queue: Arc<WorkQueue>,
}

/// Sends a frame to the next free worker.
pub fn dispatch(preprocess: &PreprocessRef, frame: RawFrame) {
    let waiting = Waiting { frame: Box::new(frame) };
    let job = FactoryJob { key: (), msg: waiting, options: JobOptions::default(), accepted: None };
    // Where the factory has died, the frame comes back in the error, is dropped, and so answered.
    let _ = preprocess.send_message(FactoryMessage::Dispatch(job));
}

/// Starts the factory, linked to its supervisor.
pub async fn spawn(arguments: PreprocessArguments, supervisor: ActorCell) -> Result<PreprocessRef, SpawnErr> {
    type Preprocess = Factory<
        (),
        Waiting,
        PreprocessArguments,
        FeatureWorkerActor,
        routing::QueuerRouting<(), Waiting>,
        queues::DefaultQueue<(), Waiting>,
    >;
    let workers = arguments.workers;
    let factory_arguments = FactoryArguments::builder()
        .num_initial_workers(workers)
        .worker_builder(Box::new(Builder(arguments)))
        .queue(queues::DefaultQueue::default())
        .router(routing::QueuerRouting::default())
        .build();
    let (factory, _) = Actor::spawn_linked(None, Preprocess::default(), factory_arguments, supervisor).await?;
    Ok(factory)
}

struct Builder(PreprocessArguments);

impl WorkerBuilder<FeatureWorkerActor, PreprocessArguments> for Builder {
    fn build(&mut self, _: WorkerId) -> (FeatureWorkerActor, PreprocessArguments) {
        (FeatureWorkerActor, self.0.clone())
    }
}

/// Hands frames to its thread, one at a time.
#[derive(Debug)]
struct FeatureWorkerActor;

impl Worker for FeatureWorkerActor {
    type Key = ();
    type Message = Waiting;
    type Arguments = PreprocessArguments;
    type State = Lane;

    async fn pre_start(
        &self,
        id: WorkerId,
        _: &ActorRef<FactoryMessage<(), Waiting>>,
        arguments: PreprocessArguments,
    ) -> Result<Lane, ActorProcessingErr> {
        Ok(Lane::spawn(id, &arguments)?)
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Waiting>>,
        job: FactoryJob<(), Waiting>,
        lane: &mut Lane,
    ) -> Result<(), ActorProcessingErr> {
        let Waiting { frame } = job.msg;
        if frame.job.is_settled(Instant::now()) {
            return Ok(());
        }
        lane.extract(frame).await?;
        Ok(())
    }
}

impl std::fmt::Debug for PreprocessArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreprocessArguments").field("workers", &self.workers).finish_non_exhaustive()
    }
}
