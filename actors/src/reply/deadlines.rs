//! One timer for the deadlines of all frames.
//!
//! Most frames are answered long before their deadline, so a deadline costs one heap entry: no task, no
//! wake-up. Entries of answered frames stay until their time, or until the heap has doubled since the last
//! sweep.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::slot::Responder;

/// Number of entries below which answered frames are not swept.
const SWEEP_FROM: usize = 1024;

/// Fails each frame at its deadline.
#[derive(Debug)]
pub struct Deadlines {
    timers: Mutex<Timers>,
    sooner: Notify,
}

#[derive(Debug)]
struct Timers {
    entries: BinaryHeap<Reverse<Timer>>,
    /// The next wake-up; `None` while there is no entry.
    wakes_at: Option<Instant>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Timer {
    deadline: Instant,
    responder: Weak<Responder>,
}

impl Default for Deadlines {
    fn default() -> Self {
        let timers = Timers { entries: BinaryHeap::new(), wakes_at: None, sweep_at: SWEEP_FROM };
        Self { timers: Mutex::new(timers), sooner: Notify::new() }
    }
}

impl Deadlines {
    /// Adds a frame.
    pub fn watch(&self, deadline: Instant, responder: &Arc<Responder>) {
        let mut timers = self.lock();
        if timers.entries.len() >= timers.sweep_at {
            timers.entries.retain(|Reverse(entry)| entry.responder.strong_count() > 0);
            timers.sweep_at = SWEEP_FROM.max(2 * timers.entries.len());
        }
        timers.entries.push(Reverse(Timer { deadline, responder: Arc::downgrade(responder) }));
        if timers.wakes_at.is_none_or(|wakes_at| deadline < wakes_at) {
            timers.wakes_at = Some(deadline);
            drop(timers);
            self.sooner.notify_one();
        }
    }

    /// Runs the timer; never returns.
    pub async fn run(&self) {
        loop {
            let (late, next) = self.take_late(Instant::now());
            late.iter().for_each(|responder| responder.expire());
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
    }

    /// Removes the frames whose deadline has passed; also returns the next deadline.
    fn take_late(&self, now: Instant) -> (Vec<Arc<Responder>>, Option<Instant>) {
        let mut timers = self.lock();
        let mut late = Vec::new();
        let next = loop {
            let Some(Reverse(first)) = timers.entries.peek() else { break None };
            match first.responder.upgrade() {
                Some(_) if first.deadline > now => break Some(first.deadline),
                Some(responder) => late.push(responder),
                None => {}
            }
            timers.entries.pop();
        };
        timers.wakes_at = next;
        (late, next)
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::ledger::Ledger;
    use crate::frame::Envelope;
    use crate::reply::outcome_queue::OutcomeQueue;
    use crate::reply::slot::Unanswered;

    fn frame(
        ledger: &Arc<Ledger>,
        outcomes: &Arc<OutcomeQueue>,
        deadlines: &Deadlines,
        budget_ms: u64,
    ) -> Arc<Responder> {
        let now = Instant::now();
        let unanswered =
            Unanswered::new(Envelope::default(), None, now, ledger.open(), None, Arc::clone(outcomes));
        let budget = Duration::from_millis(budget_ms);
        let responder = Responder::new(unanswered, budget);
        deadlines.watch(now + budget, &responder);
        responder
    }

    #[tokio::test(start_paused = true)]
    async fn each_frame_ends_at_its_own_deadline_whatever_the_order() {
        let (ledger, outcomes, deadlines) =
            (Arc::<Ledger>::default(), OutcomeQueue::new(8), Arc::<Deadlines>::default());
        let running = tokio::spawn({
            let deadlines = Arc::clone(&deadlines);
            async move { deadlines.run().await }
        });
        let start = Instant::now();
        let frames: Vec<_> =
            [300, 100, 200].map(|budget| frame(&ledger, &outcomes, &deadlines, budget)).into();
        let answered = || frames.iter().map(|frame| frame.is_answered()).collect::<Vec<_>>();
        for (until, expected) in [
            (99, [false, false, false]),
            (102, [false, true, false]),
            (202, [false, true, true]),
            (302, [true; 3]),
        ] {
            tokio::time::sleep_until(start + Duration::from_millis(until)).await;
            assert_eq!(answered(), expected, "after {until} ms");
        }
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn answered_frames_do_not_pile_up() {
        let (ledger, outcomes, deadlines) =
            (Arc::<Ledger>::default(), OutcomeQueue::new(8), Deadlines::default());
        let kept = frame(&ledger, &outcomes, &deadlines, 60_000);
        for _ in 0..10 * SWEEP_FROM {
            drop(frame(&ledger, &outcomes, &deadlines, 60_000));
        }
        assert!(deadlines.lock().entries.len() <= SWEEP_FROM, "{} entries", deadlines.lock().entries.len());
        assert!(deadlines.take_late(Instant::now() + Duration::from_secs(59)).0.is_empty());
        assert_eq!(deadlines.take_late(Instant::now() + Duration::from_secs(60)).0.len(), 1);
        drop(kept);
    }
}
