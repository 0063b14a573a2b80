//! Closes sessions at the end of their windows. Frames join them where they are read.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::cache::{CacheMsg, CacheRef};
use crate::gather::Gathering;
use crate::task::Task;

/// Address of the gatherer.
pub type GatherRef = ActorRef<GatherMsg>;

/// Closes sessions at the end of their windows.
#[derive(Debug)]
pub struct Gather;

/// Arguments of the gatherer.
#[derive(Debug)]
pub struct GatherArguments {
    /// The sessions.
    pub gathering: Arc<Gathering>,
    /// Where closed sessions go.
    pub cache: CacheRef,
}

/// Messages of the gatherer; frames join their sessions without one.
#[derive(Debug)]
pub enum GatherMsg {
    /// The watching task panicked.
    WatchPanicked,
}

impl GatherArguments {
    async fn watch(&self) {
        loop {
            let (closed, next) = self.gathering.look();
            for frame in closed {
                // If the cache actor has ended, the session comes back in the error, is dropped, and so
                // answered.
                let _ = self.cache.send_message(CacheMsg::Lookup(Box::new(frame)));
            }
            self.gathering.wait(next).await;
        }
    }
}

impl Actor for Gather {
    type Msg = GatherMsg;
    type State = Task;
    type Arguments = GatherArguments;

    async fn pre_start(
        &self,
        myself: GatherRef,
        arguments: GatherArguments,
    ) -> Result<Task, ActorProcessingErr> {
        let watching = async move { arguments.watch().await };
        Ok(Task::spawn_watched(watching, myself, || GatherMsg::WatchPanicked))
    }

    async fn handle(&self, _: GatherRef, message: GatherMsg, _: &mut Task) -> Result<(), ActorProcessingErr> {
        match message {
            GatherMsg::WatchPanicked => Err("the task that closes sessions panicked".into()),
        }
    }
}
