//! The session threads: each owns a runner and pulls batches.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::queue::{RunEnd, WorkQueue};
use crate::frame::{ModelId, PreparedFrame, Tensor};
use crate::job::RunFacts;
use crate::outcome::{Answer, Failure, FailureCode};
use crate::ports::{RunCanceller, RunError, Runner, Runners};
use crate::responder::ExpiryListener;
use crate::trail::Run;

/// The session threads. They outlive the pool actor, so that a restart does not reload models.
#[derive(Debug)]
pub struct Sessions {
    queue: Arc<WorkQueue>,
    cancellers: Vec<Arc<SessionCanceller>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sessions {
    /// Starts `count` threads that pull from `queue`.
    pub fn spawn(count: usize, queue: &Arc<WorkQueue>, runners: &Runners) -> io::Result<Self> {
        let cancellers: Vec<_> =
            std::iter::repeat_with(Arc::<SessionCanceller>::default).take(count).collect();
        let threads = cancellers
            .iter()
            .enumerate()
            .map(|(id, canceller)| {
                let session = Session {
                    id,
                    queue: Arc::clone(queue),
                    runners: Arc::clone(runners),
                    canceller: Arc::clone(canceller),
                    runtime: Handle::current(),
                };
                std::thread::Builder::new().name(format!("session-{id}")).spawn(move || session.serve())
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue: Arc::clone(queue), cancellers, threads })
    }

    /// Closes the queue and cancels the current runs; their frames are dropped, and so answered.
    pub fn end_runs(&self) {
        self.queue.close();
        for canceller in &self.cancellers {
            canceller.refuse_new();
        }
    }

    /// Closes the queue and waits for the current runs.
    pub fn join(self) {
        self.queue.close();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Cancels the run of one session: the run it is meant for and no other.
#[derive(Default)]
struct SessionCanceller(Mutex<CancelState>);

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
    fn begin(&self) -> Option<u64> {
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
    fn end(&self) -> bool {
        let mut state = self.lock();
        state.is_running = false;
        !state.was_cancelled
    }

    /// Cancels this run if it is still the current one.
    fn cancel(&self, run: u64) {
        let mut state = self.lock();
        if run == state.run {
            state.cancel();
        }
    }

    /// Cancels the current run and refuses new ones: a session may have taken a batch that it has not begun,
    /// or be between the halves of one.
    fn refuse_new(&self) {
        let mut state = self.lock();
        state.refuses_new = true;
        state.cancel();
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

/// A run and the number of its frames that are still waited for.
#[derive(Debug)]
struct Watched {
    canceller: Arc<SessionCanceller>,
    run: u64,
    awaited: AtomicUsize,
}

impl ExpiryListener for Watched {
    fn waiter_expired(&self) {
        if self.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.canceller.cancel(self.run);
        }
    }
}

struct Session {
    id: usize,
    queue: Arc<WorkQueue>,
    runners: Runners,
    canceller: Arc<SessionCanceller>,
    runtime: Handle,
}

/// Result of a run.
enum Ended {
    /// One result per frame.
    Answered(Vec<Result<Answer, Failure>>),
    /// It failed as a whole.
    Failed(RunError),
    /// It was cancelled.
    Cancelled,
}

impl Session {
    fn serve(&self) {
        let _clock = self.runtime.enter();
        let mut runner = self.new_runner();
        while let Some(mut batch) = self.queue.next_batch(self.id) {
            refuse(&mut batch);
            // A panic is a defect of the runner: its frames are dropped, and so answered, and the runner is
            // replaced.
            if catch_unwind(AssertUnwindSafe(|| self.run(&mut *runner, batch))).is_err() {
                tracing::error!("a session panicked; it is replaced");
                self.canceller.end();
                runner = self.new_runner();
            }
            self.queue.free(self.id);
        }
    }

    fn new_runner(&self) -> Box<dyn Runner> {
        let runner = (self.runners)();
        let mut state = self.canceller.lock();
        state.canceller = Some(runner.canceller());
        state.was_cancelled = false;
        runner
    }

    /// Runs a batch. One that fails is halved until only the frames at fault fail.
    fn run(&self, runner: &mut dyn Runner, mut batch: Vec<PreparedFrame>) {
        let begun = Instant::now();
        let waiting = batch.len();
        // Frames of a batch that is being halved may have expired meanwhile.
        batch.retain(|frame| !frame.job.is_settled(begun));
        self.queue.count_settled(waiting - batch.len());
        let Some(first) = batch.first() else { return };
        let model = Arc::clone(&first.job.model);
        let run = Run {
            id: self.queue.number_run(),
            session: self.id,
            batch_size: batch.len(),
            begun,
            ended: None,
        };
        let Some(ended) = self.run_watched(runner, &model, &batch, run) else { return };
        let over = Instant::now();
        let inference = over - begun;
        batch.iter().for_each(|frame| frame.job.note(|trail| trail.ran(over)));
        let how = match ended {
            Ended::Answered(_) => RunEnd::Answered,
            Ended::Failed(_) => RunEnd::Failed,
            Ended::Cancelled => RunEnd::Cancelled,
        };
        self.queue.ran(self.id, &model, batch.len(), inference, how);
        match ended {
            Ended::Answered(answers) => {
                let facts = |batch_size| RunFacts { batch_size, inference };
                let batch_size = batch.len();
                for (frame, answer) in batch.into_iter().zip(answers) {
                    match answer {
                        Ok(answer) => frame.job.succeed(answer, facts(batch_size)),
                        Err(failure) => frame.job.fail(failure),
                    }
                }
            }
            Ended::Failed(error) if batch.len() == 1 => {
                for frame in batch {
                    frame.job.fail(Failure::new(FailureCode::InferenceFailed, error.to_string()));
                }
            }
            Ended::Failed(_) => {
                let rest = batch.split_off(batch.len() / 2);
                self.run(runner, batch);
                self.run(runner, rest);
            }
            // Its frames are answered already, or will be by their drop.
            Ended::Cancelled => batch.iter_mut().for_each(|frame| frame.job.timed_out(inference)),
        }
    }

    /// Runs a batch; `None` where new runs are refused. The run is cancelled when the last of its frames
    /// expires.
    fn run_watched(
        &self,
        runner: &mut dyn Runner,
        model: &ModelId,
        batch: &[PreparedFrame],
        run: Run,
    ) -> Option<Ended> {
        let tensors: Vec<&Tensor> = batch.iter().map(|frame| &frame.tensor).collect();
        let run_number = self.canceller.begin()?;
        // The deadline timer notifies the run of each expired frame; after the last one it is cancelled.
        let listener: Arc<dyn ExpiryListener> = Arc::new(Watched {
            canceller: Arc::clone(&self.canceller),
            run: run_number,
            awaited: AtomicUsize::new(batch.len()),
        });
        batch.iter().for_each(|frame| frame.job.runs_in(run, &listener));
        let result = runner.run(model, &tensors);
        Some(match result {
            _ if !self.canceller.end() => Ended::Cancelled,
            Ok(answers) if answers.len() == batch.len() => Ended::Answered(answers),
            Ok(answers) => Ended::Failed(RunError(format!(
                "the model gave {} answers for {} frames",
                answers.len(),
                batch.len()
            ))),
            Err(error) => Ended::Failed(error),
        })
    }
}

/// Fails the frames whose circuit opened while they waited.
fn refuse(batch: &mut Vec<PreparedFrame>) {
    let mut at = 0;
    while let Some(frame) = batch.get(at) {
        // Asked once: by a second time the circuit may have closed again.
        match frame.job.check() {
            Ok(()) => at += 1,
            Err(failure) => batch.remove(at).job.fail(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_one_run_leaves_others_alone_and_none_begins_once_new_runs_are_refused() {
        let session = SessionCanceller::default();
        let canceller = Arc::new(FakeCanceller::default());
        session.lock().canceller = Some(Arc::<FakeCanceller>::clone(&canceller));
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
