//! Reads frames, takes their permits and passes them to the cache; a frame without a permit is refused at
//! once.
//!
//! Invariant: the source outlives the actor; a restarted ingest continues reading it.

use std::sync::Arc;

use futures::StreamExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cache::{CacheMsg, CacheRef};
use crate::account::admission::{Admission, Permit, Refused};
use crate::account::copies::Copies;
use crate::account::gaps::GapWatch;
use crate::account::ledger::Ledger;
use crate::frame::{FrameInfo, Priority};
use crate::job::{Job, JobParts, RawFrame};
use crate::outcome::{Failure, FailureCode, ShedReason};
use crate::ports::{Arrival, Decoder, FrameSource};
use crate::queue::{FrameQueue, WorkQueue};
use crate::reply::{Deadlines, OutcomeQueue, Responder, Unanswered};
use crate::routing::Models;
use crate::task::{LARGE, Task, blocking_if};

/// Address of ingest.
pub type IngestRef = ActorRef<IngestMsg>;

/// Reads frames.
#[derive(Debug)]
pub struct Ingest;

/// Arguments of ingest.
#[derive(Clone)]
pub struct IngestArguments {
    /// Where frames come from.
    pub source: Arc<Mutex<FrameSource>>,
    /// Decodes them.
    pub decoder: Arc<dyn Decoder>,
    /// Selects their models.
    pub models: Arc<Models>,
    /// Counts them.
    pub ledger: Arc<Ledger>,
    /// Bounds copies for versions that only watch.
    pub copies: Arc<Copies>,
    /// Looks for frames that never came.
    pub gaps: Arc<GapWatch>,
    /// Bounds them.
    pub admission: Arc<Admission>,
    /// Times their deadlines.
    pub deadlines: Arc<Deadlines>,
    /// Where the failures of refused frames go.
    pub outcomes: Arc<OutcomeQueue>,
    /// Frames that wait for a worker and may be shed.
    pub frames: Arc<FrameQueue>,
    /// Frames that wait for a session and may be shed.
    pub queue: Arc<WorkQueue>,
    /// Whether a waiting frame is shed where there is no permit; else the arriving frame is refused.
    pub shed_oldest: bool,
    /// Where admitted frames go.
    pub cache: CacheRef,
}

/// Messages of ingest; frames come through their source.
#[derive(Debug)]
pub enum IngestMsg {
    /// The reading task panicked.
    ReadingPanicked,
}

impl IngestArguments {
    async fn read(&self) {
        let mut source = self.source.lock().await;
        while let Some(arrival) = source.next().await {
            self.take(arrival).await;
        }
    }

    async fn take(&self, arrival: Arrival) {
        let Arrival { payload, envelope, origin, received_at, refused } = arrival;
        let ticket = self.ledger.open();
        let admitted = self.admission.admit(&envelope.source, payload.len());
        let place = match &admitted {
            Ok(permit) => Some(Arc::clone(&permit.frame)),
            Err(_) => self.outcomes.refusal().await,
        };
        let mut unanswered =
            Unanswered::new(envelope, origin, received_at, ticket, place, Arc::clone(&self.outcomes));
        unanswered.note(|trail| trail.payload_bytes = payload.len());
        if let Some(failure) = refused {
            let info = self.decoder.identify(&payload, unanswered.envelope());
            return unanswered.identified(info).answer(Err(failure));
        }
        if let Err(refused) = &admitted
            && !(self.shed_oldest && refused.is_for_want_of_room())
        {
            let info = self.decoder.identify(&payload, unanswered.envelope());
            self.observe(&unanswered, &info, received_at);
            return unanswered.identified(info).answer(Err(refusal(refused)));
        }
        let begun = Instant::now();
        let is_large = payload.len() > LARGE;
        let decode = || self.decoder.decode(&payload, unanswered.envelope());
        let decoded = match blocking_if(is_large, decode) {
            Ok(decoded) => decoded,
            Err(rejected) => {
                self.observe(&unanswered, &rejected.info, received_at);
                return unanswered.identified(rejected.info).answer(Err(rejected.failure));
            }
        };
        self.observe(&unanswered, &decoded.info, received_at);
        let mut unanswered = unanswered.identified(decoded.info);
        let sender = unanswered.sender();
        let mut routed = match self.models.current().route(decoded.model.as_deref(), sender, &decoded.content)
        {
            Ok(routed) => routed,
            Err(failure) => return unanswered.answer(Err(failure)),
        };
        unanswered.note(|trail| {
            (trail.decode_begun, trail.decoded) = (Some(begun), Some(Instant::now()));
            if let Some(samples) = &decoded.content.samples {
                (trail.datatype, trail.samples) = (Some(samples.datatype), samples.len());
            }
            trail.model = Some(Arc::clone(routed.model.id()));
            (trail.split, trail.declined) = (routed.split, routed.declined.take());
            trail.copy = routed.shadow.take().map(|shadow| self.copies.keep(&decoded.content, shadow));
        });
        let (unanswered, permit) = match admitted {
            Ok(permit) => (unanswered, permit),
            Err(refused) => {
                match self.make_room(decoded.priority, &unanswered.envelope().source, payload.len()).await {
                    Some(permit) => (unanswered.moved_to(Some(Arc::clone(&permit.frame))), permit),
                    None => return unanswered.answer(Err(refusal(&refused))),
                }
            }
        };
        let responder = Responder::new(unanswered, decoded.budget);
        self.deadlines.watch(received_at + decoded.budget, &responder);
        let job = Job::new(JobParts {
            responder,
            routed,
            received_at,
            budget: decoded.budget,
            priority: decoded.priority,
            permit,
        });
        let frame = RawFrame { job, content: decoded.content, is_cacheable: decoded.is_cacheable };
        // If the cache actor has ended, the frame comes back in the error, is dropped, and so answered.
        let _ = self.cache.send_message(CacheMsg::Lookup(Box::new(frame)));
    }

    fn observe(&self, unanswered: &Unanswered, info: &FrameInfo, received_at: Instant) {
        let envelope = unanswered.envelope();
        // A stream delivers to several daemons, and again; who asks directly knows what was not answered.
        if envelope.delivery.is_none() && envelope.direct_id.is_none() {
            self.gaps.observe(&envelope.source, info.seq, received_at);
        }
    }

    /// Sheds waiting frames of a priority not above this one until there is room; `None` where no frame is
    /// left to shed.
    async fn make_room(&self, priority: Priority, source: &str, bytes: usize) -> Option<Permit> {
        loop {
            let refusal = self.outcomes.refusal().await;
            if self.frames.shed_candidate(priority) > self.queue.shed_candidate(priority) {
                self.frames.shed(priority)?.fail(refusal);
            } else {
                self.queue.shed(priority)?.fail(refusal);
            }
            if let Ok(permit) = self.admission.admit(source, bytes) {
                return Some(permit);
            }
        }
    }
}

fn refusal(refused: &Refused) -> Failure {
    let message = refused.to_string();
    match refused {
        Refused::NeverFits { .. } => Failure::new(FailureCode::FrameTooLarge, message),
        Refused::Frames { .. } => Failure::overloaded(ShedReason::InFlightFrames, message),
        Refused::Bytes { .. } => Failure::overloaded(ShedReason::InFlightBytes, message),
        Refused::Source { .. } => Failure::overloaded(ShedReason::SourceShare, message),
    }
}

impl Actor for Ingest {
    type Msg = IngestMsg;
    type State = Task;
    type Arguments = IngestArguments;

    async fn pre_start(
        &self,
        myself: IngestRef,
        arguments: IngestArguments,
    ) -> Result<Task, ActorProcessingErr> {
        let reading = async move { arguments.read().await };
        Ok(Task::spawn_watched(reading, myself, || IngestMsg::ReadingPanicked))
    }

    async fn handle(&self, _: IngestRef, message: IngestMsg, _: &mut Task) -> Result<(), ActorProcessingErr> {
        match message {
            IngestMsg::ReadingPanicked => Err("the reading task panicked".into()),
        }
    }
}
