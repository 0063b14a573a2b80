//! Cancels the run of a session from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::RunCanceller;

/// Cancels the run of one session: the run it is meant for and no other.
#[derive(Default)]
pub struct SessionCanceller(Mutex<CancelState>);

#[derive(Default)]
struct CancelState {
    canceller: Option<Arc<dyn RunCanceller>>,
    /// Number of the current run, or of the last one.
    run: u64,
    is_running: bool,
    was_cancelled: bool,
    /// No new run may begin.
    refuses_new: bool,
}

impl SessionCanceller {
    /// Begins a run and returns its number; `None` where new runs are refused.
    pub fn begin(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.refuses_new {
            return None;
        }
        if std::mem::take(&mut state.was_cancelled)
            && let Some(canceller) = &state.canceller
        {
            canceller.reset();
        }
        state.is_running = true;
        state.run += 1;
        Some(state.run)
    }

    /// Ends the run; `false` where it was cancelled.
    pub fn end(&self) -> bool {
        let mut state = self.lock();
        state.is_running = false;
        !state.was_cancelled
    }

    /// Cancels this run if it is still the current one.
    pub fn cancel(&self, run: u64) {
        let mut state = self.lock();
        if run == state.run {
            state.cancel();
        }
    }

    /// Cancels the current run and refuses new ones: a session may have taken a batch that it has not begun,
    /// or be between the halves of one.
    pub fn refuse_new(&self) {
        let mut state = self.lock();
        state.refuses_new = true;
        state.cancel();
    }

    /// Takes the handle of a new runner.
    pub fn attach(&self, canceller: Arc<dyn RunCanceller>) {
        let mut state = self.lock();
        state.canceller = Some(canceller);
        state.was_cancelled = false;
    }

    fn lock(&self) -> MutexGuard<'_, CancelState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelState {
    fn cancel(&mut self) {
        if self.is_running
            && let Some(canceller) = &self.canceller
        {
            canceller.cancel();
            self.was_cancelled = true;
        }
    }
}

impl std::fmt::Debug for SessionCanceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCanceller").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_one_run_leaves_others_alone_and_none_begins_once_new_runs_are_refused() {
        let session = SessionCanceller::default();
        let canceller = Arc::new(FakeCanceller::default());
        session.attach(Arc::<FakeCanceller>::clone(&canceller) as _);
        let first = session.begin().unwrap();
        assert!(session.end(), "not cancelled");
        let second = session.begin().unwrap();
        session.cancel(first);
        assert!(session.end(), "a late cancellation of the first run leaves the second alone");
        session.cancel(second);
        assert!(!canceller.was_cancelled(), "a run that is over is not cancelled");
        session.refuse_new();
        assert_eq!(session.begin(), None, "a batch taken before new runs were refused is not begun after");
    }

    #[derive(Default)]
    struct FakeCanceller(std::sync::atomic::AtomicBool);

    impl FakeCanceller {
        fn was_cancelled(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    impl RunCanceller for FakeCanceller {
        fn cancel(&self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        fn reset(&self) {
            self.0.store(false, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
