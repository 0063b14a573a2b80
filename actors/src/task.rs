//! Tokio tasks that belong to an actor, and work that blocks.

use std::future::Future;

use ractor::{ActorRef, Message};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// Size in bytes above which reading or hashing a frame takes more than half a millisecond and leaves the
/// async threads.
pub const LARGE: usize = 256 << 10;

/// Does `work` here; where it is `long`, without blocking the other tasks of this thread.
pub fn blocking_if<R>(long: bool, work: impl FnOnce() -> R) -> R {
    let has_other_threads =
        || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if long && has_other_threads() { tokio::task::block_in_place(work) } else { work() }
}

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
