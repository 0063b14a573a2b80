//! Publishes outcomes in the order in which they were settled.
//!
//! The queue outlives the actor, so a restarted publisher resumes what it had begun.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use crate::outcome::{Outcome, PublishError};
use crate::ports::OutcomeSink;
use crate::queue::WorkQueue;
use crate::reply::{MAX_BATCH, OutcomeQueue, Receiving};
use crate::task::Task;

/// Address of the publisher.
pub type PublishRef = ActorRef<PublishMsg>;

/// An outcome that crashed the publisher this often counts as lost.
const MAX_ATTEMPTS: u8 = 3;

/// Maximum time for which outcomes are gathered, and only where no session has to wait for it.
const GATHERING: Duration = Duration::from_millis(4);

/// Publishes outcomes as they come, all that are queued at once.
async fn run(outcomes: &OutcomeQueue, sink: &dyn OutcomeSink, queue: &WorkQueue) {
    let mut receiving = outcomes.receiving().await;
    let Receiving { receiver, pending } = &mut *receiving;
    loop {
        if pending.is_empty() && !receive(receiver, pending, queue).await {
            return;
        }
        // After a crash outcomes are published one by one, so that the one at fault is found and the others
        // are not lost with it.
        let batch = if pending[0].published.attempts > 0 { 1 } else { pending.len() };
        if pending[0].published.attempts == MAX_ATTEMPTS {
            let message = format!("it crashed the publisher {MAX_ATTEMPTS} times");
            let error = PublishError { reason: "publisher_died", message };
            let outcome = pending.remove(0);
            sink.abandoned(&outcome, &error);
            outcome.close(Err(&error));
            continue;
        }
        pending[..batch].iter_mut().for_each(|outcome| outcome.published.attempts += 1);
        let mut results = sink.publish(&mut pending[..batch]).await.into_iter();
        for outcome in pending.drain(..batch) {
            // The sink logs the reason.
            let result = results.next().unwrap_or_else(|| Err(unreported()));
            outcome.close(result.as_ref().map(|end| *end));
        }
    }
}

/// A defect of the sink: it gave fewer results than it got outcomes.
fn unreported() -> PublishError {
    PublishError { reason: "unreported", message: "the sink did not say how it ended".into() }
}

/// Waits for outcomes and takes all that are queued; `false` where none will come. Batches wake-ups: each
/// pre-empts a session for longer than publishing takes.
async fn receive(receiver: &mut mpsc::Receiver<Outcome>, into: &mut Vec<Outcome>, queue: &WorkQueue) -> bool {
    if receiver.is_empty()
        && let Some(pause) = queue.gathering_pause(GATHERING)
    {
        tokio::time::sleep(pause).await;
    }
    receiver.recv_many(into, MAX_BATCH).await > 0
}

/// Publishes outcomes.
#[derive(Debug)]
pub struct Publish;

/// Arguments of the publisher.
pub struct PublishArguments {
    /// The outcomes to publish.
    pub outcomes: Arc<OutcomeQueue>,
    /// Where they are published.
    pub sink: Arc<dyn OutcomeSink>,
    /// The queue of the sessions, which decides how long outcomes may be gathered.
    pub queue: Arc<WorkQueue>,
}

/// Messages of the publisher; outcomes come through their queue.
#[derive(Debug)]
pub enum PublishMsg {
    /// The publishing task panicked.
    PublishingPanicked,
}

impl Actor for Publish {
    type Msg = PublishMsg;
    type State = Task;
    type Arguments = PublishArguments;

    async fn pre_start(
        &self,
        myself: PublishRef,
        arguments: PublishArguments,
    ) -> Result<Task, ActorProcessingErr> {
        let publishing = async move { run(&arguments.outcomes, &*arguments.sink, &arguments.queue).await };
        Ok(Task::spawn_watched(publishing, myself, || PublishMsg::PublishingPanicked))
    }

    async fn handle(
        &self,
        _: PublishRef,
        message: PublishMsg,
        _: &mut Task,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PublishMsg::PublishingPanicked => Err("the publishing task panicked".into()),
        }
    }
}
