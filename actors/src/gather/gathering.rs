//! The sessions with their frames: what outlives the actor.
//!
//! Invariant: no frame is answered while a lock is held.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::book::SourceBook;
use super::config::Config;
use super::core::{Arriving, Closed, SessionKey, Sessions};
use super::failures::{check, no_room, not_joined, not_taken, summary, too_few};
use super::heard::{Heard, level_db};
use super::judge::{Seat, distinct, judge};
use super::rules::{GatherRules, MAX_RECEIVERS};
use crate::account::admission::Admission;
use crate::breaker::Circuits;
use crate::frame::{Content, Priority, Slot};
use crate::job::{Job, RawFrame, SessionParts};
use crate::outcome::{Failure, FailureCode, LeftOutReason};
use crate::ports::LoadedModel;
use crate::reply::{Deadlines, Member, Responder, Unanswered};

/// How soon to look again while frames that have arrived are not looked at yet.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The sessions with their frames.
#[derive(Debug)]
pub struct Gathering {
    config: Config,
    room: Arc<Admission>,
    sessions: Mutex<Sessions<Waiting>>,
    book: Arc<Mutex<SourceBook>>,
    /// Arrival of the frame that is being read; `None` while every frame that arrived was read.
    reading: Mutex<Option<Instant>>,
    sooner: Notify,
    deadlines: Arc<Deadlines>,
    circuits: Arc<Circuits>,
    complete: AtomicU64,
    ended: AtomicU64,
}

/// A frame that asks for its session.
#[derive(Debug)]
pub struct Joining {
    /// The frame.
    pub unanswered: Unanswered,
    /// What it holds.
    pub content: Content,
    /// The version it was routed to.
    pub model: Arc<dyn LoadedModel>,
    /// How that gathers.
    pub rules: Arc<GatherRules>,
    /// How many frames it says the session will have.
    pub size: Option<u64>,
    /// Its time budget, from the close of the session.
    pub budget: Duration,
    /// How urgent it is.
    pub priority: Priority,
    /// When it arrived.
    pub received_at: Instant,
    /// Size of its message.
    pub bytes: usize,
}

/// A frame in its session.
#[derive(Debug)]
struct Waiting {
    joining: Joining,
    bytes: OwnedSemaphorePermit,
}

/// What is gathered now, and what was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatherStats {
    /// Open sessions.
    pub sessions: usize,
    /// Frames that wait in them.
    pub waiting: usize,
    /// Bytes of these, and of sessions that are being answered.
    pub bytes: usize,
    /// Sessions that were closed because all their frames were there.
    pub complete: u64,
    /// Sessions that were closed because their window had ended.
    pub ended: u64,
}

impl Gathering {
    /// What bounds the frames in sessions.
    pub fn room_for(config: &Config) -> Admission {
        Admission::new(Self::most_frames(config), config.max_bytes, 1.0)
    }

    /// No session yet.
    pub fn new(
        config: Config,
        room: Arc<Admission>,
        deadlines: Arc<Deadlines>,
        circuits: Arc<Circuits>,
    ) -> Self {
        Self {
            room,
            sessions: Mutex::new(Sessions::new(config.max_sessions, config.remember)),
            book: Arc::default(),
            reading: Mutex::default(),
            sooner: Notify::new(),
            deadlines,
            circuits,
            complete: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            config,
        }
    }

    /// The most frames that can be in sessions.
    pub fn most_frames(config: &Config) -> usize {
        config.max_sessions.saturating_mul(MAX_RECEIVERS)
    }

    /// Notes that a frame which arrived then is being read.
    pub fn reads(&self, received_at: Instant) {
        *lock(&self.reading) = Some(received_at);
    }

    /// Notes that every frame that has arrived was read.
    pub fn caught_up(&self) {
        *lock(&self.reading) = None;
    }

    /// Puts a frame into its session, or answers it. Returns the sessions that are closed by then, to be
    /// computed.
    pub fn join(&self, joining: Joining) -> Vec<RawFrame> {
        let at = joining.received_at;
        let mut sessions = lock(&self.sessions);
        let mut closed = sessions.close_ended(at);
        let (refused, opened) = match self.place(&mut sessions, joining) {
            Ok((complete, opened)) => {
                closed.extend(complete);
                (None, opened)
            }
            Err(refused) => (Some(refused), false),
        };
        drop(sessions);
        if opened {
            self.sooner.notify_one();
        }
        if let Some((joining, failure)) = refused.map(|refused| *refused) {
            joining.unanswered.answer(Err(failure));
        }
        closed.into_iter().filter_map(|session| self.conclude(session)).collect()
    }

    /// Returns the session that the frame completes, and whether it has opened one that waits.
    #[expect(clippy::type_complexity, reason = "named where it is taken apart")]
    fn place(
        &self,
        sessions: &mut Sessions<Waiting>,
        mut joining: Joining,
    ) -> Result<(Option<Closed<Waiting>>, bool), Box<(Joining, Failure)>> {
        let source = joining.unanswered.envelope().source.clone();
        let id = joining.unanswered.info().session_id.clone().unwrap_or_default();
        let key = SessionKey { model: joining.model.id().name.as_str().into(), id: id.into() };
        // The version that the first frame went to answers the whole session.
        let pinned = sessions.first(&key).map(|first| &first.joining);
        if let Some(pinned) = pinned.filter(|pinned| pinned.model.id() != joining.model.id()) {
            let (model, rules) = (Arc::clone(&pinned.model), Arc::clone(&pinned.rules));
            if let Err(failure) = model.accepts(&joining.content) {
                let failure = not_taken(model.id(), &key, &failure.message);
                return refuse(joining, failure);
            }
            joining.unanswered.note(|trail| {
                (trail.model, trail.split) = (Some(Arc::clone(model.id())), None);
            });
            (joining.model, joining.rules) = (model, rules);
        }
        let size = match check(&joining.rules, &source, joining.unanswered.info(), joining.size) {
            Ok(size) => size,
            Err(message) => return refuse(joining, Failure::new(FailureCode::InvalidFrame, message)),
        };
        let arriving = Arriving { key: &key, source: &source, at: joining.received_at, size };
        if let Err(why) = sessions.check(arriving) {
            let failure = not_joined(why, &key, &source, self.config.max_sessions);
            return refuse(joining, failure);
        }
        let permit = match self.room.admit(&source, joining.bytes) {
            Ok(permit) => permit,
            Err(refused) => {
                let failure = no_room(&refused, self.config.max_bytes);
                return refuse(joining, failure);
            }
        };
        joining.unanswered = joining.unanswered.moved_to(Some(Arc::clone(&permit.frame)));
        let rules = Arc::clone(&joining.rules);
        let before = sessions.next_end();
        let complete = sessions.join(arriving, &rules, Waiting { joining, bytes: permit.bytes });
        Ok((complete, sessions.next_end() != before))
    }

    /// Closes the sessions whose window has ended. Also returns when to look again.
    pub fn look(&self) -> (Vec<RawFrame>, Option<Instant>) {
        let now = Instant::now();
        // A frame that has arrived but was not read yet may belong to a session whose window ends meanwhile.
        let through = lock(&self.reading).map_or(now, |reading| reading.min(now));
        let mut sessions = lock(&self.sessions);
        let closed = sessions.close_ended(through);
        let next = sessions.next_end();
        drop(sessions);
        let next = next.map(|end| if end <= now { now + LOOK_AGAIN } else { end });
        (closed.into_iter().filter_map(|session| self.conclude(session)).collect(), next)
    }

    /// Waits until that time, or until a session is opened.
    pub async fn wait(&self, next: Option<Instant>) {
        match next {
            None => self.sooner.notified().await,
            Some(then) => {
                tokio::select! {
                    () = sleep_until(then) => {}
                    () = self.sooner.notified() => {}
                }
            }
        }
    }

    /// Drops the frames of all open sessions, which answers them.
    pub fn close(&self) {
        let dropped = lock(&self.sessions).drain();
        drop(dropped);
    }

    /// What is gathered now, and what was.
    pub fn stats(&self) -> GatherStats {
        let (sessions, waiting) = lock(&self.sessions).waiting();
        let (_, bytes) = self.room.in_use();
        GatherStats {
            sessions,
            waiting,
            bytes,
            complete: self.complete.load(Relaxed),
            ended: self.ended.load(Relaxed),
        }
    }

    /// What was seen of the sources.
    pub fn book(&self) -> MutexGuard<'_, SourceBook> {
        lock(&self.book)
    }

    /// Makes one job of a closed session; `None` where its frames fail.
    fn conclude(&self, session: Closed<Waiting>) -> Option<RawFrame> {
        let Closed { key, rules, mut members, is_complete } = session;
        if is_complete { &self.complete } else { &self.ended }.fetch_add(1, Relaxed);
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let seats = self.judge(&rules, &members);
        let sources: Vec<&str> = members.iter().map(|(source, _)| source.as_str()).collect();
        let slots = rules.slots_of(&sources);
        let used = distinct(seats.iter().flatten().map(|seat| seat.place.as_ref()));
        let summary = Arc::new(summary(&key.id, &sources, &seats, &slots));
        for (_, member) in &mut members {
            member.joining.unanswered.note(|trail| trail.session = Some(Arc::clone(&summary)));
        }
        if used < rules.min_receivers {
            let failure = too_few(&rules, &summary, used, is_complete);
            for (_, member) in members {
                member.joining.unanswered.answer(Err(failure.clone()));
            }
            return None;
        }
        self.job(&rules, members, seats, &slots)
    }

    fn judge(&self, rules: &GatherRules, members: &[(String, Waiting)]) -> Vec<Result<Seat, LeftOutReason>> {
        let heard: Vec<_> = members.iter().map(|(source, member)| member.heard(source)).collect();
        judge(&heard, rules.needs, &self.config, &mut lock(&self.book))
    }

    fn job(
        &self,
        rules: &GatherRules,
        members: Vec<(String, Waiting)>,
        seats: Vec<Result<Seat, LeftOutReason>>,
        slots: &[usize],
    ) -> Option<RawFrame> {
        let now = Instant::now();
        let model = members.first().map(|(_, member)| Arc::clone(&member.joining.model))?;
        let mut content = Content { slots: (0..rules.slots()).map(|_| None).collect(), ..Content::default() };
        let (mut frames, mut bytes) = (Vec::with_capacity(members.len()), None::<OwnedSemaphorePermit>);
        let mut permit = None;
        for (((source, Waiting { joining, bytes: held }), seat), &slot) in
            members.into_iter().zip(seats).zip(slots)
        {
            let Joining { unanswered, content: own, budget, priority, received_at, .. } = joining;
            match &mut bytes {
                Some(bytes) => bytes.merge(held),
                None => bytes = Some(held),
            }
            if let (Ok(seat), Some(slot)) = (seat, content.slots.get_mut(slot)) {
                *slot = Some(occupied(source, own, seat));
            }
            let responder = Responder::new(unanswered, budget);
            permit = permit.or_else(|| responder.permit());
            self.deadlines.watch(now + budget, &responder);
            frames.push(Member { responder, received_at, deadline: now + budget, priority });
        }
        let circuit_permit = self.circuits.of(model.id()).admit();
        let parts = SessionParts {
            frames,
            model,
            circuit_permit,
            closed_at: now,
            permits: bytes.zip(permit),
            book: Arc::clone(&self.book),
        };
        Some(RawFrame { job: Job::of_session(parts)?, content, is_cacheable: false })
    }
}

impl Waiting {
    fn heard<'a>(&'a self, source: &'a str) -> Heard<'a> {
        let Joining { content, unanswered, .. } = &self.joining;
        let samples = content.samples.as_ref();
        Heard {
            source,
            place: unanswered.info().geolocation.as_ref(),
            begun_ns: content.begun_ns,
            arrival_ns: content.arrival_ns,
            samples: samples.map_or(0, |samples| samples.len()),
            rate_hz: samples.and_then(|samples| samples.sample_rate),
            frequency_hz: unanswered.info().frequency,
            level_db: samples.and_then(level_db),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse<T>(joining: Joining, failure: Failure) -> Result<T, Box<(Joining, Failure)>> {
    Err(Box::new((joining, failure)))
}

/// The frame of a slot, its times less the delay of its receiver.
fn occupied(source: String, content: Content, seat: Seat) -> Slot {
    let less = |ns: Option<i64>| ns.map(|ns| ns.saturating_sub(seat.delay_ns));
    let (arrival_ns, begun_ns) = (less(content.arrival_ns), less(content.begun_ns));
    Slot {
        source,
        content: Content { arrival_ns, begun_ns, ..content },
        place: seat.place,
        sigma: seat.sigma,
        clock_s: seat.clock_s,
        clock: seat.clock,
        expected_s: seat.expected_s,
    }
}
