//! How many frames are asked for at once, by how the last ones ended: additive increase, multiplicative
//! decrease, as TCP's congestion control (Chiu and Jain, 1989).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Time in which the limit is halved once at most: frames that were asked for together fail together.
const ROUND: Duration = Duration::from_millis(200);

/// An adaptive limit of the frames in work. A frame that is refused for want of room, of time or of a healthy
/// model spends one of its deliveries; those behind it wait better in their stream.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    state: Mutex<State>,
    most: usize,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    in_work: usize,
    limit: f64,
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
    /// At most `most`, which is also where it begins.
    pub fn new(most: usize) -> Self {
        let state = Mutex::new(State { in_work: 0, limit: most as f64, halved: None });
        Self { state, most, ended: Notify::new() }
    }

    /// Frames that may be asked for now.
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
        state.in_work = state.in_work.saturating_sub(1);
        match ended {
            Ended::Answered => state.limit = (state.limit + 1.0 / state.limit).min(self.most as f64),
            Ended::Crowded if state.halved.is_none_or(|halved| halved.elapsed() >= ROUND) => {
                state.halved = Some(Instant::now());
                state.limit = (state.limit / 2.0).max(1.0);
            }
            Ended::Crowded | Ended::Otherwise => {}
        }
        drop(state);
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
        let limit = ConcurrencyLimit::new(64);
        let end = |count: usize, ended| {
            for _ in 0..count {
                limit.begin();
                limit.end(ended);
            }
        };
        assert_eq!(limit.free(), 64);
        end(50, Ended::Crowded);
        assert_eq!(limit.free(), 32, "once for all that were asked for together");
        for halved in [16, 8, 4, 2, 1, 1] {
            tokio::time::advance(ROUND).await;
            end(1, Ended::Crowded);
            assert_eq!(limit.free(), halved);
        }
        end(1, Ended::Otherwise);
        assert_eq!(limit.free(), 1);
        end(1, Ended::Answered);
        assert_eq!(limit.free(), 2);
        end(3000, Ended::Answered);
        assert_eq!(limit.free(), 64, "never above the most");
        limit.begin();
        assert_eq!(limit.free(), 63);
    }
}
