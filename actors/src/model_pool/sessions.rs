//! The session threads: each owns a runner and pulls batches.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::time::Instant;

use super::queue::WorkQueue;
use crate::frame::{PreparedFrame, Tensor};
use crate::job::RunFacts;
use crate::outcome::{Failure, FailureCode};
use crate::ports::{RunError, Runner, Runners};

/// The threads. They outlive the pool actor, so that a restart does not reload models.
#[derive(Debug)]
pub struct Sessions {
    queue: Arc<WorkQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl Sessions {
    /// Starts `count` threads that pull from `queue`.
    pub fn spawn(count: usize, queue: &Arc<WorkQueue>, runners: &Runners) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let threads = (0..count)
            .map(|id| {
                let (queue, runners, runtime) = (Arc::clone(queue), Arc::clone(runners), runtime.clone());
                std::thread::Builder::new().name(format!("session-{id}")).spawn(move || {
                    let _clock = runtime.enter();
                    serve(&queue, &runners);
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue: Arc::clone(queue), threads })
    }

    /// Closes the queue and waits for the runs under way.
    pub fn join(self) {
        self.queue.close();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn serve(queue: &WorkQueue, runners: &Runners) {
    let mut runner = runners();
    while let Some(batch) = queue.next_batch() {
        // A panic is a defect of the runner: its frames are dropped, and so answered, and a new runner takes over.
        if catch_unwind(AssertUnwindSafe(|| run(&mut *runner, batch))).is_err() {
            tracing::error!("a session panicked; it is replaced");
            runner = runners();
        }
    }
}

/// Runs a batch. One that fails is halved until only the frames at fault fail.
fn run(runner: &mut dyn Runner, mut batch: Vec<PreparedFrame>) {
    let begun = Instant::now();
    let Some(first) = batch.first() else { return };
    let model = Arc::clone(&first.job.model);
    let tensors: Vec<&Tensor> = batch.iter().map(|frame| &frame.tensor).collect();
    let result = runner.run(&model, &tensors).and_then(|answers| match answers.len() == batch.len() {
        true => Ok(answers),
        false => Err(RunError(format!("the model gave {} answers for {} frames", answers.len(), batch.len()))),
    });
    let inference = begun.elapsed();
    match result {
        Ok(answers) => {
            let batch_size = batch.len();
            for (mut frame, answer) in batch.into_iter().zip(answers) {
                frame.job.stages.queue = Some(begun - frame.prepared_at);
                match answer {
                    Ok(answer) => frame.job.succeed(answer, RunFacts { batch_size, inference }),
                    Err(failure) => frame.job.fail(failure),
                }
            }
        }
        Err(error) if batch.len() == 1 => {
            for frame in batch {
                frame.job.fail(Failure::new(FailureCode::InferenceFailed, error.to_string()));
            }
        }
        Err(_) => {
            let rest = batch.split_off(batch.len() / 2);
            run(runner, batch);
            run(runner, rest);
        }
    }
}
