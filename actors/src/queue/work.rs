//! The queue of frames that sessions pull from.
//!
//! A session that has finished takes its next batch itself, under the lock, without a message to an actor: no
//! session idles while frames wait. The queue outlives the pool actor, so a restarted pool neither loses
//! frames nor takes a busy session for idle.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::config::Config;
use super::scheduler::{Load, Next, NotQueued, Schedulable, Scheduler};
use super::service_times::ServiceTimes;
use super::stats::{PoolCounters, PoolStats};
use crate::frame::{ModelId, Priority};
use crate::job::{Job, Shed, WaitingFrame, displaced};
use crate::outcome::{Failure, FailureCode, ShedReason};

/// Resolution of the timer.
const TIMER_TICK: Duration = Duration::from_millis(1);

impl Schedulable for WaitingFrame {
    fn can_share_run(&self, other: &Self) -> bool {
        self.can_share_run(other)
    }

    fn max_batch(&self) -> usize {
        self.job().model.max_batch().max(1)
    }

    fn priority(&self) -> Priority {
        self.job().priority()
    }

    fn arrived_at(&self) -> Instant {
        self.job().received_at
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.job().is_settled(now)
    }

    fn can_be_shed(&self) -> bool {
        !self.job().is_session()
    }
}

/// The queue.
#[derive(Debug)]
pub struct WorkQueue {
    config: Config,
    state: Mutex<WorkQueueState>,
    pushed: Condvar,
    to_watch: Notify,
    counters: PoolCounters,
    runs: AtomicU64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// It gave a result for each frame.
    Answered,
    /// It failed as a whole.
    Failed,
    /// It was cancelled because no frame waited for it any more.
    Cancelled,
}

#[derive(Debug)]
struct WorkQueueState {
    scheduler: Scheduler<WaitingFrame>,
    times: ServiceTimes,
    /// Predicted end of the run of each session; `None` between runs.
    busy_until: Vec<Option<Instant>>,
    /// Sessions that wait for a push. Where there is none, no wake-up is sent: that is a system call.
    idle: usize,
    closed: bool,
    /// Whether the watching task knows of the first overdue time.
    watched: bool,
}

impl WorkQueueState {
    fn load(&self, now: Instant) -> Load {
        let busy = self.busy_until.iter().flatten();
        Load {
            sessions: self.busy_until.len(),
            busy: busy.clone().count(),
            left: busy.map(|until| until.saturating_duration_since(now)).sum(),
        }
    }

    fn check(&self, job: &Job, now: Instant) -> Result<Duration, NotQueued> {
        let cost = self.times.of(job.model.id(), job.model.expected_run());
        self.scheduler.check(job.priority(), job.deadline(), cost, self.load(now), now).map(|()| cost)
    }
}

impl WorkQueue {
    /// Nothing waits.
    pub fn new(config: Config) -> Arc<Self> {
        let state = WorkQueueState {
            scheduler: Scheduler::new(config.clone()),
            times: ServiceTimes::default(),
            busy_until: vec![None; config.sessions],
            idle: 0,
            closed: false,
            watched: false,
        };
        let counters = PoolCounters::new(config.sessions, config.max_batch);
        Arc::new(Self {
            config,
            state: Mutex::new(state),
            pushed: Condvar::new(),
            to_watch: Notify::new(),
            counters,
            runs: AtomicU64::new(0),
        })
    }

    /// Checks whether a frame could be queued now and would make its deadline; asked before its features are
    /// computed.
    pub fn predict_deadline(&self, job: &Job) -> Result<(), Failure> {
        let state = self.lock();
        let checked = if state.scheduler.has_room(job.priority()) {
            state.check(job, Instant::now())
        } else {
            Err(NotQueued::Full)
        };
        drop(state);
        checked.map(drop).map_err(|refusal| self.refused(&refusal))
    }

    /// Queues a frame. A frame that is refused, or shed for it, is failed.
    pub fn push(&self, frame: WaitingFrame) {
        let now = Instant::now();
        if frame.job().is_settled(now) {
            return;
        }
        let mut state = self.lock();
        if state.closed {
            // The frame is dropped, and so answered: the daemon is stopping, the queue is not full.
            return drop(state);
        }
        let checked = state.check(frame.job(), now);
        // Frames are answered outside the lock.
        match checked {
            Ok(cost) => match state.scheduler.push(frame, cost, now) {
                Ok(shed) => {
                    let was_watched = std::mem::replace(&mut state.watched, true);
                    let is_awaited = state.idle > 0;
                    drop(state);
                    if is_awaited {
                        self.pushed.notify_one();
                    }
                    if !was_watched {
                        self.to_watch.notify_one();
                    }
                    if let Some(frame) = shed {
                        self.count_shed();
                        frame.into_job().fail(displaced());
                    }
                }
                Err(frame) => {
                    drop(state);
                    frame.into_job().fail(self.refused(&NotQueued::Full));
                }
            },
            Err(refusal) => {
                drop(state);
                frame.into_job().fail(self.refused(&refusal));
            }
        }
    }

    /// Priority and arrival of the frame that would be shed for one of this priority.
    pub fn shed_candidate(&self, priority: Priority) -> Option<(Priority, Reverse<Instant>)> {
        let state = self.lock();
        state
            .scheduler
            .shed_candidate(priority)
            .map(|frame| (frame.job().priority(), Reverse(frame.job().received_at)))
    }

    /// Sheds the oldest frame of the lowest priority, if that is not above `priority`. Where other frames
    /// wait for the same computation, it goes on for them.
    pub fn shed(&self, priority: Priority) -> Option<Shed<WaitingFrame>> {
        let mut state = self.lock();
        let mut entry = state.scheduler.take_oldest(priority)?;
        self.count_shed();
        let (responder, goes_on) = entry.item.job_mut().shed_first(Instant::now());
        if goes_on {
            state.scheduler.put_back(entry);
            return Some(Shed { responder, work: None });
        }
        Some(Shed { responder, work: Some(entry.item) })
    }

    /// Re-sorts after the priority of a queued frame has changed.
    pub fn reorder(&self) {
        self.lock().scheduler.reorder();
    }

    fn count_shed(&self) {
        self.counters.shed.fetch_add(1, Relaxed);
    }

    fn refused(&self, refusal: &NotQueued) -> Failure {
        match refusal {
            NotQueued::Full => {
                self.counters.full.fetch_add(1, Relaxed);
                Failure::overloaded(
                    ShedReason::QueueFull,
                    format!("{0} of {0} frames wait for a session", self.config.queue),
                )
            }
            NotQueued::TooLate { after, budget, ahead } => {
                self.counters.too_late.fetch_add(1, Relaxed);
                let ms = |duration: &Duration| duration.as_secs_f64() * 1e3;
                let (after, budget) = (ms(after), ms(budget));
                let message = format!(
                    "by the measured service time, with {ahead} frames before it, this one would take \
                     {after:.1} ms and has {budget:.1} ms"
                );
                Failure::overloaded(ShedReason::TooLate, message)
            }
        }
    }

    /// Blocks until there is a batch for `session`; `None` once the queue is closed.
    pub fn next_batch(&self, session: usize) -> Option<Vec<WaitingFrame>> {
        let mut dropped = Vec::new();
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let next = state.scheduler.next(now, &mut dropped);
            if let Next::Run(batch) = &next
                && let Some(first) = batch.first()
            {
                batch.iter().for_each(|frame| self.counters.acquired(now - frame.since()));
                let model = &first.job().model;
                let cost = state.times.of(model.id(), model.expected_run());
                if let Some(until) = state.busy_until.get_mut(session) {
                    *until = Some(now + cost * u32::try_from(batch.len()).unwrap_or(u32::MAX));
                }
            }
            if !dropped.is_empty() {
                // Frames are answered outside the lock.
                drop(state);
                self.count_settled(dropped.len());
                dropped.clear();
                if let Next::Run(batch) = next
                    && !batch.is_empty()
                {
                    return Some(batch);
                }
                state = self.lock();
                continue;
            }
            let until = match next {
                Next::Run(batch) => return Some(batch),
                Next::WaitUntil(then) => Some(then),
                Next::Idle => None,
            };
            state.idle += 1;
            state = match until {
                Some(then) => {
                    self.pushed.wait_timeout(state, then - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.idle -= 1;
        }
    }

    /// Counts a run of `frames` frames that kept the session for so long, with the features where it has
    /// computed them.
    pub fn ran(&self, session: usize, model: &Arc<ModelId>, frames: usize, kept: Duration, how: RunEnd) {
        self.counters.ran(session, frames, kept);
        match how {
            RunEnd::Answered => self.lock().times.observe(model, kept, frames),
            // Its time tells nothing about the next run.
            RunEnd::Failed => {}
            RunEnd::Cancelled => drop(self.counters.cancelled.fetch_add(1, Relaxed)),
        }
    }

    /// Returns the number of a run that begins now, from 1.
    pub fn number_run(&self) -> u64 {
        self.runs.fetch_add(1, Relaxed) + 1
    }

    /// Marks a session as idle.
    pub fn free(&self, session: usize) {
        if let Some(until) = self.lock().busy_until.get_mut(session) {
            *until = None;
        }
    }

    /// Counts frames that were settled before their run.
    pub fn count_settled(&self, frames: usize) {
        self.counters.settled.fetch_add(frames as u64, Relaxed);
    }

    /// Fails what has waited for the acquire timeout; never returns.
    pub async fn watch_overdue(&self) {
        loop {
            let (overdue, next) = self.take_overdue();
            for frame in overdue {
                let timeout = self.config.acquire_timeout.as_millis();
                let message = format!("no session was free within pool.acquire_timeout, {timeout} ms");
                frame.into_job().fail(Failure::new(FailureCode::ModelUnavailable, message));
            }
            match next {
                Some(then) => sleep_until(then).await,
                None => self.to_watch.notified().await,
            }
        }
    }

    /// Removes overdue frames; also returns when the next one is overdue.
    fn take_overdue(&self) -> (Vec<WaitingFrame>, Option<Instant>) {
        let mut state = self.lock();
        let overdue = state.scheduler.take_overdue(Instant::now());
        self.counters.timeouts.fetch_add(overdue.len() as u64, Relaxed);
        let next = state.scheduler.next_overdue();
        state.watched = next.is_some();
        (overdue, next)
    }

    /// How long outcomes may be gathered into one batch, at most `longest`: `None` unless several outcomes
    /// will come and no session runs out of frames meanwhile.
    pub fn gathering_pause(&self, longest: Duration) -> Option<Duration> {
        let state = self.lock();
        let frames = u32::try_from(state.scheduler.len()).unwrap_or(u32::MAX);
        let sessions = u32::try_from(state.busy_until.len()).unwrap_or(u32::MAX);
        let work = state.scheduler.cost() / sessions.max(1);
        let pause = longest.min(work / 3);
        (pause >= TIMER_TICK && frames * pause >= 2 * work).then_some(pause)
    }

    /// Frames that wait.
    pub fn depth(&self) -> usize {
        self.lock().scheduler.len()
    }

    /// The statistics.
    pub fn stats(&self) -> PoolStats {
        let (depth, active) = {
            let state = self.lock();
            (state.scheduler.len(), state.busy_until.iter().flatten().count())
        };
        self.counters.read(depth, active)
    }

    /// Closes the queue, which ends the session threads. Queued frames are dropped, and so answered.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let rest = state.scheduler.drain();
        drop(state);
        drop(rest);
        self.pushed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, WorkQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
