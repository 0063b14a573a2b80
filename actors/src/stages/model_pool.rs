//! Fails frames that have waited too long for a session.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::queue::WorkQueue;
use crate::task::Task;

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
