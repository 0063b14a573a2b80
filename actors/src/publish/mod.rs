//! Tells outcomes, in the order they were settled.
//!
//! Invariant: outcomes wait in a queue that outlives the actor and that the permits bound; the one being told stays in the queue's hand
//! until it is told, so a restarted publisher resumes it.

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

/// A publisher that died this often of one outcome counts it as lost.
const MAX_ATTEMPTS: u8 = 3;

/// Outcomes published together: what leaves the process is waited for once for all of them.
const MAX_BATCH: usize = 64;

/// How long outcomes gather, at most, where that makes nobody wait for work.
const GATHERING: Duration = Duration::from_millis(4);

/// The outcomes that are not told yet.
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

    /// Queues an outcome. There is always room: who pushes holds a permit, of admission or of refusal.
    pub fn push(&self, outcome: Outcome) {
        if let Err(error) = self.sender.try_send(outcome) {
            // A defect if it happens; the dropped ticket counts the frame as lost.
            tracing::error!(%error, "no room for an outcome");
        }
    }

    /// Waits for the right to queue the failure of a frame that was refused admission.
    pub async fn refusal(&self) -> Option<Arc<FramePermit>> {
        Arc::clone(&self.refusals).acquire_owned().await.ok().map(FramePermit::outside)
    }

    /// The most that can wait.
    pub fn limit(&self) -> usize {
        self.sender.max_capacity()
    }

    /// Outcomes waiting.
    pub fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Publishes what comes, as many at once as are there.
    async fn run(&self, sink: &dyn OutcomeSink, queue: &WorkQueue) {
        let mut receiving = self.receiver.lock().await;
        let Receiving { receiver, pending } = &mut *receiving;
        loop {
            if pending.is_empty() && !receive(receiver, pending, queue).await {
                return;
            }
            // After a crash they are taken one by one, so that the one at fault is found and the others do not share its end.
            let batch = if pending[0].published.attempts > 0 { 1 } else { pending.len() };
            if pending[0].published.attempts == MAX_ATTEMPTS {
                let message = format!("the publisher died of it {MAX_ATTEMPTS} times");
                // One that is dropped unclosed counts as lost.
                sink.abandoned(&pending.remove(0), &PublishError { reason: "publisher_died", message });
                continue;
            }
            pending[..batch].iter_mut().for_each(|outcome| outcome.published.attempts += 1);
            let results = sink.publish(&mut pending[..batch]).await;
            for (outcome, result) in pending.drain(..batch).zip(results) {
                // Why not is said by the sink.
                if let Ok(end) = result {
                    outcome.close(end);
                }
            }
        }
    }
}

/// Waits for outcomes and takes all that are there; `false` where there will be none. Waking up takes a core from a session for longer
/// than publishing does, so where many short runs are ahead one wake-up is for many outcomes.
async fn receive(receiver: &mut mpsc::Receiver<Outcome>, into: &mut Vec<Outcome>, queue: &WorkQueue) -> bool {
    if receiver.is_empty()
        && let Some(pause) = queue.gathering_pause(GATHERING)
    {
        tokio::time::sleep(pause).await;
    }
    receiver.recv_many(into, MAX_BATCH).await > 0
}

/// Tells outcomes.
#[derive(Debug)]
pub struct Publish;

/// What the publisher works with.
pub struct PublishArguments {
    /// What is to be told.
    pub outcomes: Arc<OutcomeQueue>,
    /// Whom to tell.
    pub sink: Arc<dyn OutcomeSink>,
    /// What the sessions have before them.
    pub queue: Arc<WorkQueue>,
}

/// What the publisher is told; outcomes come through their queue.
#[derive(Debug)]
pub enum PublishMsg {
    /// The publishing task panicked.
    PublishingPanicked,
}

impl Actor for Publish {
    type Msg = PublishMsg;
    type State = Task;
    type Arguments = PublishArguments;

    async fn pre_start(&self, myself: PublishRef, arguments: PublishArguments) -> Result<Task, ActorProcessingErr> {
        let publishing = async move { arguments.outcomes.run(&*arguments.sink, &arguments.queue).await };
        Ok(Task::spawn_watched(publishing, myself, || PublishMsg::PublishingPanicked))
    }

    async fn handle(&self, _: PublishRef, message: PublishMsg, _: &mut Task) -> Result<(), ActorProcessingErr> {
        match message {
            PublishMsg::PublishingPanicked => Err("the publishing task panicked".into()),
        }
    }
}
