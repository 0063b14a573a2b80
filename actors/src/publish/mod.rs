//! Publishes outcomes in the order in which they were settled.
//!
//! Invariant: outcomes wait in a queue that outlives the actor and that the permits bound. An outcome stays
//! in `pending` until it is published, so a restarted publisher resumes it.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::admission::FramePermit;
use crate::model_pool::WorkQueue;
use crate::outcome::Outcome;
use crate::ports::{OutcomeSink, PublishError};
use crate::supervision::Task;

/// Address of the publisher.
pub type PublishRef = ActorRef<PublishMsg>;

/// An outcome that crashed the publisher this often counts as lost.
const MAX_ATTEMPTS: u8 = 3;

/// Maximum number of outcomes published together, with one flush for all of them.
const MAX_BATCH: usize = 64;

/// Maximum time for which outcomes are gathered, and only where no session has to wait for it.
const GATHERING: Duration = Duration::from_millis(4);

/// The outcomes that are not published yet.
#[derive(Debug)]
pub struct OutcomeQueue {
    sender: mpsc::Sender<Outcome>,
    receiver: Mutex<Receiving>,
    refusals: Arc<Semaphore>,
}

#[derive(Debug)]
struct Receiving {
    receiver: mpsc::Receiver<Outcome>,
    pending: Vec<Outcome>,
}

impl OutcomeQueue {
    /// A queue for the outcomes of `max_frames` admitted frames and as many refused ones.
    pub fn new(max_frames: usize) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(2 * max_frames);
        Arc::new(Self {
            sender,
            receiver: Mutex::new(Receiving { receiver, pending: Vec::with_capacity(MAX_BATCH) }),
            refusals: Arc::new(Semaphore::new(max_frames)),
        })
    }

    /// Queues an outcome. There is always room, because every outcome holds a permit of admission or of
    /// refusal.
    pub fn push(&self, outcome: Outcome) {
        if let Err(error) = self.sender.try_send(outcome) {
            // A defect; the dropped ticket counts the frame as lost.
            tracing::error!(%error, "no room for an outcome");
        }
    }

    /// Waits for a permit to queue the failure of a frame that was refused.
    pub async fn refusal(&self) -> Option<Arc<FramePermit>> {
        Arc::clone(&self.refusals).acquire_owned().await.ok().map(FramePermit::outside)
    }

    /// Capacity of the queue.
    pub fn limit(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Number of queued outcomes.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Publishes outcomes as they come, all that are queued at once.
    async fn run(&self, sink: &dyn OutcomeSink, queue: &WorkQueue) {
        let mut receiving = self.receiver.lock().await;
        let Receiving { receiver, pending } = &mut *receiving;
        loop {
            if pending.is_empty() && !receive(receiver, pending, queue).await {
                return;
            }
            // After a crash outcomes are published one by one, so that the one at fault is found and the
            // others are not lost with it.
            let batch = if pending[0].published.attempts > 0 { 1 } else { pending.len() };
            if pending[0].published.attempts == MAX_ATTEMPTS {
                let message = format!("it crashed the publisher {MAX_ATTEMPTS} times");
                // Dropped unclosed, it counts as lost.
                sink.abandoned(&pending.remove(0), &PublishError { reason: "publisher_died", message });
                continue;
            }
            pending[..batch].iter_mut().for_each(|outcome| outcome.published.attempts += 1);
            let results = sink.publish(&mut pending[..batch]).await;
            for (outcome, result) in pending.drain(..batch).zip(results) {
                // The sink logs the reason.
                if let Ok(end) = result {
                    outcome.close(end);
                }
            }
        }
    }
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
        let publishing = async move { arguments.outcomes.run(&*arguments.sink, &arguments.queue).await };
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
