//! How many frames are in work at once, by how the last ones ended: slow start, additive increase and
//! multiplicative decrease, as TCP's congestion control (RFC 5681).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Time in which the limit is halved once at most: frames that were asked for together fail together.
const ROUND: Duration = Duration::from_millis(200);

/// The limit at first: few enough that a model which takes seconds does not refuse most of them.
const FIRST: usize = 16;

/// An adaptive limit of the frames in work. A frame that is refused for want of room, of time or of a healthy
/// model spends one of its deliveries; those behind it wait better in their stream.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    state: Mutex<State>,
    /// Lower bound of the limit.
    least: f64,
    /// Upper bound of the limit.
    most: f64,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    in_work: usize,
    limit: f64,
    /// Below it the limit grows by one an answer, above it by one a round of answers.
    threshold: f64,
    halved: Option<Instant>,
}

/// How a frame ended, for the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an outcome.
    Answered,
    /// It goes back, because there was no room or time for it.
    Crowded,
    /// It goes back for another reason.
    Otherwise,
}

impl ConcurrencyLimit {
    /// From `least`, as many as are worked on whatever becomes of them, to `most`.
    pub fn new(least: usize, most: usize) -> Self {
        Self::starting_at(FIRST, least, most)
    }

    /// From `least` to `most`, and `first` at first.
    pub fn starting_at(first: usize, least: usize, most: usize) -> Self {
        let most = most.max(1) as f64;
        let least = (least.max(1) as f64).min(most);
        let limit = (first as f64).clamp(least, most);
        let state = Mutex::new(State { in_work: 0, limit, threshold: most, halved: None });
        Self { state, least, most, ended: Notify::new() }
    }

    /// The number of further frames that fit within the limit.
    pub fn free(&self) -> usize {
        let state = self.state();
        (state.limit as usize).saturating_sub(state.in_work)
    }

    /// Waits until a frame has ended.
    pub async fn changed(&self) {
        self.ended.notified().await;
    }

    /// A frame was delivered.
    pub fn begin(&self) {
        self.state().in_work += 1;
    }

    /// A frame ended.
    pub fn end(&self, ended: Ended) {
        let mut state = self.state();
        let used = state.in_work as f64;
        state.in_work = state.in_work.saturating_sub(1);
        match ended {
            // A limit that is not reached has not been tried: it does not grow.
            Ended::Answered if used >= state.limit / 2.0 => {
                let more = if state.limit < state.threshold { 1.0 } else { 1.0 / state.limit };
                state.limit = (state.limit + more).min(self.most);
            }
            Ended::Crowded if state.halved.is_none_or(|halved| halved.elapsed() >= ROUND) => {
                state.halved = Some(Instant::now());
                state.limit = (state.limit.min(used) / 2.0).max(self.least);
                state.threshold = state.limit;
            }
            Ended::Answered | Ended::Crowded | Ended::Otherwise => {}
        }
        drop(state);
        // Who waits may have no use for it: all of them look.
        self.ended.notify_waiters();
        self.ended.notify_one();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_halves_once_a_round_and_grows_by_one_a_round_of_answers() {
        let limit = ConcurrencyLimit::new(1, 64);
        let fill = || {
            let free = limit.free();
            (0..free).for_each(|_| limit.begin());
        };
        assert_eq!(limit.free(), 16);
        // Slow start: as many more as were answered.
        fill();
        (0..4).for_each(|_| limit.end(Ended::Answered));
        assert_eq!(limit.free(), 8);
        (0..100).for_each(|_| {
            fill();
            limit.end(Ended::Answered);
        });
        assert_eq!(limit.free(), 1, "never above the most, 63 of which are in work");
        fill();
        (0..10).for_each(|_| limit.end(Ended::Crowded));
        assert_eq!(limit.free(), 0, "32, once for all that were asked for together; 54 are in work");
        tokio::time::advance(ROUND).await;
        (0..53).for_each(|_| limit.end(Ended::Otherwise));
        assert_eq!(limit.free(), 31);
        fill();
        (0..34).for_each(|_| {
            limit.end(Ended::Answered);
            fill();
        });
        (0..33).for_each(|_| limit.end(Ended::Otherwise));
        assert_eq!(limit.free(), 33, "one more after a round of answers");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_neither_grows_nor_hides_a_crowd() {
        let limit = ConcurrencyLimit::new(1, 256);
        for _ in 0..1000 {
            limit.begin();
            limit.end(Ended::Answered);
        }
        assert_eq!(limit.free(), 16);
        (0..6).for_each(|_| limit.begin());
        limit.end(Ended::Crowded);
        assert_eq!(limit.free(), 0, "3 of which 5 are in work");
        for _ in 0..5 {
            tokio::time::advance(ROUND).await;
            limit.end(Ended::Crowded);
        }
        assert_eq!(limit.free(), 1, "never less");
        let limit = ConcurrencyLimit::new(4, 256);
        for _ in 0..9 {
            tokio::time::advance(ROUND).await;
            limit.begin();
            limit.end(Ended::Crowded);
        }
        assert_eq!(limit.free(), 4);
    }
}
