//! A tokio task that belongs to an actor.

use std::future::Future;

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;

/// A task that is aborted when its owner is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Returns when the task has ended, also by a panic.
    pub async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }

    /// Starts a task whose panic is sent to `owner` as a message.
    pub fn spawn_watched<M: Message>(
        work: impl Future<Output = ()> + Send + 'static,
        owner: ActorRef<M>,
        panicked: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        let mut inner = Self::spawn(work);
        Self::spawn(async move {
            if (&mut inner.0).await.is_err_and(|error| error.is_panic()) {
                let _ = owner.send_message(panicked());
            }
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
