//! The queue in front of the sessions: which frames may wait, for how long, and in what order.
//!
//! Invariant: frames enter the queue and sessions pull them without waking an actor; the actor only fails
//! those that wait too long.

mod config;
mod core;
mod lane;
mod queue;
mod service_times;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use config::Config;
pub use core::{Load, Next, Refusal, Schedulable, Scheduler};
pub use queue::WorkQueue;
use ractor::{Actor, ActorProcessingErr, ActorRef};
pub use sessions::Sessions;
pub use stats::{NotBegun, PoolStats, WAIT_BUCKETS_MS};

use crate::supervision::Task;

/// Address of the model pool.
pub type ModelPoolRef = ActorRef<ModelPoolMsg>;

/// Fails frames that have waited too long for a session.
#[derive(Debug)]
pub struct ModelPool;

/// Messages of the pool; frames go through its queue.
#[derive(Debug)]
pub enum ModelPoolMsg {
    /// The watching task panicked.
    WatchPanicked,
}

impl Actor for ModelPool {
    type Msg = ModelPoolMsg;
    type State = Task;
    type Arguments = Arc<WorkQueue>;

    async fn pre_start(
        &self,
        myself: ModelPoolRef,
        queue: Arc<WorkQueue>,
    ) -> Result<Task, ActorProcessingErr> {
        let watching = async move { queue.watch_overdue().await };
        Ok(Task::spawn_watched(watching, myself, || ModelPoolMsg::WatchPanicked))
    }

    async fn handle(
        &self,
        _: ModelPoolRef,
        message: ModelPoolMsg,
        _: &mut Task,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ModelPoolMsg::WatchPanicked => Err("the task that fails overdue frames panicked".into()),
        }
    }
}
