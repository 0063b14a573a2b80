//! A tokio task that belongs to an actor.

use std::future::Future;

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;

/// A task that is aborted when its owner goes, however its owner goes.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task.
    pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Returns when it has ended, by a panic too.
    pub async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }

    /// Starts a task whose panic is told to `owner`.
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
