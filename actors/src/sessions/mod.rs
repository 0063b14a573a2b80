//! The session threads: each owns a runner and pulls batches.

mod canceller;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use canceller::SessionCanceller;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::account::trail::Run;
use crate::job::{PreparedFrame, RunFacts, WaitingFrame};
use crate::outcome::{Answer, Failure, FailureCode};
use crate::ports::{FeatureWorker, FeatureWorkers, LoadedModel, RunError, Runner, Runners};
use crate::queue::{RunEnd, WorkQueue};
use crate::reply::ExpiryListener;
use crate::tensor::Inputs;

/// The session threads. They outlive the pool actor, so that a restart does not reload models.
#[derive(Debug)]
pub struct Sessions {
    queue: Arc<WorkQueue>,
    cancellers: Vec<Arc<SessionCanceller>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sessions {
    /// Starts `count` threads that pull from `queue`.
    pub fn spawn(
        count: usize,
        queue: &Arc<WorkQueue>,
        runners: &Runners,
        extractors: &FeatureWorkers,
    ) -> io::Result<Self> {
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
                    extractors: Arc::clone(extractors),
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
    extractors: FeatureWorkers,
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
        let mut extractor = (self.extractors)();
        while let Some(batch) = self.queue.next_batch(self.id) {
            let acquired = Instant::now();
            let mut batch = self.prepare(&mut extractor, batch);
            let features = acquired.elapsed();
            refuse(&mut batch);
            // A panic is a defect of the runner: its frames are dropped, and so answered, and the runner is
            // replaced.
            if catch_unwind(AssertUnwindSafe(|| self.run(&mut *runner, batch, features))).is_err() {
                tracing::error!("a session panicked; it is replaced");
                self.canceller.end();
                runner = self.new_runner();
            }
            self.queue.free(self.id);
        }
    }

    fn new_runner(&self) -> Box<dyn Runner> {
        let runner = (self.runners)();
        self.canceller.attach(runner.canceller());
        runner
    }

    /// Computes the features that no worker has computed.
    fn prepare(
        &self,
        extractor: &mut Box<dyn FeatureWorker>,
        batch: Vec<WaitingFrame>,
    ) -> Vec<PreparedFrame> {
        let mut prepare = |frame| match frame {
            WaitingFrame::Prepared(frame) => Some(frame),
            WaitingFrame::Raw { frame, .. } => {
                // A panic is a defect of the extractor: its frame is dropped, and so answered, and the
                // extractor is replaced.
                catch_unwind(AssertUnwindSafe(|| frame.prepare(&mut **extractor))).unwrap_or_else(|_| {
                    tracing::error!("the extractor of a session panicked; it is replaced");
                    *extractor = (self.extractors)();
                    None
                })
            }
        };
        batch.into_iter().filter_map(&mut prepare).collect()
    }

    /// Runs a batch whose features have taken so long. One that fails is halved until only the frames at
    /// fault fail.
    fn run(&self, runner: &mut dyn Runner, mut batch: Vec<PreparedFrame>, features: Duration) {
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
        let Some(ended) = self.run_watched(runner, &*model, &batch, run) else { return };
        let over = Instant::now();
        let inference = over - begun;
        batch.iter().for_each(|frame| frame.job.note(|trail| trail.ran(over)));
        let how = match ended {
            Ended::Answered(_) => RunEnd::Answered,
            Ended::Failed(_) => RunEnd::Failed,
            Ended::Cancelled => RunEnd::Cancelled,
        };
        self.queue.ran(self.id, model.id(), batch.len(), features + inference, how);
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
                self.run(runner, batch, Duration::ZERO);
                self.run(runner, rest, Duration::ZERO);
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
        model: &dyn LoadedModel,
        batch: &[PreparedFrame],
        run: Run,
    ) -> Option<Ended> {
        let inputs: Vec<&Inputs> = batch.iter().map(|frame| &frame.inputs).collect();
        let run_number = self.canceller.begin()?;
        // The deadline timer notifies the run of each expired frame; after the last one it is cancelled.
        let listener: Arc<dyn ExpiryListener> = Arc::new(Watched {
            canceller: Arc::clone(&self.canceller),
            run: run_number,
            awaited: AtomicUsize::new(batch.len()),
        });
        batch.iter().for_each(|frame| frame.job.runs_in(run, &listener));
        let result = runner.run(model, &inputs);
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
