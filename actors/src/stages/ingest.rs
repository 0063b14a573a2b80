//! Reads frames, takes their permits and passes them to the cache; a frame without a permit is refused at
//! once.
//!
//! Invariant: the source outlives the actor; a restarted ingest continues reading it.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Mutex;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::cache::{CacheMsg, CacheRef};
use crate::account::admission::{Admission, Permit, Refused};
use crate::account::copies::Copies;
use crate::account::gaps::GapWatch;
use crate::account::ledger::Ledger;
use crate::frame::{FrameInfo, Priority};
use crate::gather::{GatherRules, Gathering, Joining};
use crate::job::{Job, JobParts, RawFrame};
use crate::outcome::{Failure, FailureCode, ShedReason};
use crate::ports::{Arrival, Decoded, Decoder, FrameSource, LoadedModel};
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
    /// The sessions that frames of several receivers join.
    pub gathering: Arc<Gathering>,
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
        loop {
            // Asked without the task's budget: to have used that up is not to have caught up.
            let arrival = match unconstrained(source.next()).now_or_never() {
                Some(arrival) => arrival,
                None => {
                    self.gathering.caught_up();
                    source.next().await
                }
            };
            let Some(arrival) = arrival else { return self.gathering.caught_up() };
            self.gathering.reads(arrival.received_at);
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
        // What is gathered has room of its own.
        let may_have_room = |refused: &Refused| {
            refused.is_for_want_of_room() && (self.shed_oldest || unanswered.envelope().session_id.is_some())
        };
        if let Err(refused) = &admitted
            && !may_have_room(refused)
        {
            let info = self.decoder.identify(&payload, unanswered.envelope());
            self.observe(&unanswered, &info, received_at);
            return unanswered.identified(info).answer(Err(refusal(refused)));
        }
        let begun = Instant::now();
        let is_large = payload.len() > LARGE;
        let decode = || self.decoder.decode(&payload, unanswered.envelope());
        let mut decoded = match blocking_if(is_large, decode) {
            Ok(decoded) => decoded,
            Err(rejected) => {
                self.observe(&unanswered, &rejected.info, received_at);
                return unanswered.identified(rejected.info).answer(Err(rejected.failure));
            }
        };
        self.observe(&unanswered, &decoded.info, received_at);
        let mut unanswered = unanswered.identified(std::mem::take(&mut decoded.info));
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
            // A frame of a session alone is nothing that a version could be compared on.
            let shadow = routed.shadow.take().filter(|_| routed.model.gather().is_none());
            trail.copy = shadow.map(|shadow| self.copies.keep(&decoded.content, shadow));
        });
        // Raw tensors are those of a whole session.
        let is_raw = decoded.content.is_raw;
        if let Some(rules) = routed.model.gather().filter(|_| !is_raw) {
            let rules = Arc::clone(rules);
            drop(admitted);
            return self.gather(unanswered, decoded, routed.model, rules, received_at, payload.len());
        }
        let (unanswered, permit) = match admitted {
            Ok(permit) => (unanswered, permit),
            Err(refused) if !self.shed_oldest => return unanswered.answer(Err(refusal(&refused))),
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

    /// Puts a frame into its session, and sends on what is closed by then.
    fn gather(
        &self,
        unanswered: Unanswered,
        decoded: Decoded,
        model: Arc<dyn LoadedModel>,
        rules: Arc<GatherRules>,
        received_at: Instant,
        bytes: usize,
    ) {
        let Decoded { content, budget, priority, session_size: size, .. } = decoded;
        let joining =
            Joining { unanswered, content, model, rules, size, budget, priority, received_at, bytes };
        for frame in self.gathering.join(joining) {
            let _ = self.cache.send_message(CacheMsg::Lookup(Box::new(frame)));
        }
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
