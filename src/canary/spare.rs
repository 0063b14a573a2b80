//! A thread that computes where nobody else needs the processor.
//!
//! It takes no lock that the data path takes: it could be kept from running while it has one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sferic_actors::frame::Content;
use sferic_actors::outcome::{Answer, Failure, FailureCode};
use sferic_actors::ports::{FeatureWorker, FeatureWorkers, LoadedModel, RunCanceller, Runner, Runners};
use tokio::sync::oneshot;

/// Time for a run to end when the thread does.
const LAST_RUN: Duration = Duration::from_secs(2);

/// The thread.
pub struct SpareThread {
    work: Option<SyncSender<Work>>,
    canceller: Arc<dyn RunCanceller>,
    /// Ends with the thread.
    ended: Mutex<Receiver<()>>,
}

/// A frame for it.
struct Work {
    model: Arc<dyn LoadedModel>,
    content: Content,
    reply: oneshot::Sender<Computed>,
}

/// What became of a frame.
#[derive(Debug)]
pub struct Computed {
    /// The answer.
    pub result: Result<Answer, Failure>,
    /// Processor time of features and run on this thread.
    pub cpu: Duration,
}

impl SpareThread {
    /// Starts it, with features and a runner of its own.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(workers: &FeatureWorkers, runners: &Runners) -> io::Result<Self> {
        let (work, frames) = sync_channel::<Work>(1);
        let (ready, canceller) = sync_channel(1);
        let (workers, runners) = (Arc::clone(workers), Arc::clone(runners));
        let (ending, ended) = sync_channel::<()>(1);
        let serve = move || {
            let _ending = ending;
            lower_priority();
            let (mut worker, mut runner) = (workers(), runners());
            let _ = ready.send(runner.canceller());
            while let Ok(Work { model, content, reply }) = frames.recv() {
                let begun = cpu_time();
                let compute = || compute(&mut *worker, &mut *runner, &*model, content);
                // A panic is a defect of the version; who waits hears of it by the end of the thread.
                let Ok(result) = catch_unwind(AssertUnwindSafe(compute)) else { return };
                let cpu = cpu_time().saturating_sub(begun);
                let _ = reply.send(Computed { result, cpu });
            }
        };
        std::thread::Builder::new().name("shadow".to_owned()).spawn(serve)?;
        let canceller = canceller.recv().map_err(|_| io::Error::other("the thread ended at once"))?;
        Ok(Self { work: Some(work), canceller, ended: ended.into() })
    }

    /// Hands a frame to it; the receiver gets what became of it, or an error where the thread has ended.
    pub fn compute(&self, model: Arc<dyn LoadedModel>, content: Content) -> oneshot::Receiver<Computed> {
        let (reply, computed) = oneshot::channel();
        if let Some(work) = &self.work {
            let _ = work.try_send(Work { model, content, reply });
        }
        computed
    }

    /// Cancels the current run, and every one before [`reset`](Self::reset).
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// Lets runs begun from now on complete.
    pub fn reset(&self) {
        self.canceller.reset();
    }
}

impl Drop for SpareThread {
    /// The library must not be unloaded under a run.
    fn drop(&mut self) {
        self.work = None;
        self.cancel();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LAST_RUN);
    }
}

fn compute(
    worker: &mut dyn FeatureWorker,
    runner: &mut dyn Runner,
    model: &dyn LoadedModel,
    content: Content,
) -> Result<Answer, Failure> {
    model.accepts(&content)?;
    let inputs = worker.extract(model, content)?;
    let failed = |error: String| Failure::new(FailureCode::InferenceFailed, error);
    let answers = runner.run(model, &[&inputs]).map_err(|error| failed(error.to_string()))?;
    answers.into_iter().next().unwrap_or_else(|| Err(failed("the model gave no answer".to_owned())))
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// On Linux the thread runs only where a core has nothing else to do, elsewhere with the least priority.
fn lower_priority() {
    use thread_priority::ThreadPriority;
    #[cfg(target_os = "linux")]
    let lowered = {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle)
    };
    #[cfg(not(target_os = "linux"))]
    let lowered = ThreadPriority::Min.set_for_current();
    if let Err(error) = lowered {
        tracing::warn!(?error, "the thread of shadow versions has the priority of others");
    }
}
