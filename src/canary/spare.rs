//! The thread on which shadows compute: where nobody else needs the processor.
//!
//! Invariant: it takes no lock that the data path takes, and of its own locks the data path only tries one.
//! It may be kept from running for long, also in the middle of anything.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use sferic_actors::account::admission::Admission;
use sferic_actors::frame::Content;
use sferic_actors::outcome::{Answer, Failure, FailureCode};
use sferic_actors::ports::{FeatureWorker, FeatureWorkers, LoadedModel, RunCanceller, Runner, Runners};
use sferic_actors::routing::Models;
use sferic_settings::available_cores;

use super::in_shadow::Answered;

/// Frames whose ends may wait to be looked at; further ones are not counted.
const ENDED: usize = 1024;

/// Interval at which a waiting frame looks for spare capacity.
const LOOK: Duration = Duration::from_millis(2);

/// How long a frame waits for spare capacity.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread computes in one of so many parts of the time, times the cores. A core that runs it is not
/// idle, so it does not at once take over what waits for another core: with two of them that was a fifth more
/// at the 99th percentile (`ops/bench/shadows`).
const REST: u32 = 20;

/// Time for a run to end when the thread does.
const LAST_RUN: Duration = Duration::from_secs(1);

/// What goes to the thread and comes from it. Others than the thread only try its locks.
#[derive(Default)]
pub(super) struct ShadowQueue {
    /// Those that wait; copies are bounded.
    frames: Mutex<VecDeque<Answered>>,
    ended: Mutex<Vec<Ended>>,
    thread: OnceLock<Thread>,
    is_closed: AtomicBool,
    run: Mutex<CurrentRun>,
}

/// The run that is going on.
#[derive(Default)]
struct CurrentRun {
    began: Option<Instant>,
    is_cancelled: bool,
    canceller: Option<Arc<dyn RunCanceller>>,
}

/// A frame, and what became of it.
pub(super) struct Ended {
    pub(super) frame: Answered,
    /// `None`: no capacity was spare in time.
    pub(super) computed: Option<Computed>,
}

/// What a shadow has made of a frame.
#[derive(Debug)]
pub(super) struct Computed {
    /// The answer; `None` where it has failed.
    pub(super) answer: Option<Arc<Answer>>,
    /// Processor time of features and run on this thread.
    pub(super) cpu: Duration,
}

impl ShadowQueue {
    /// Hands a frame to the thread; gives it back where that is just taking one.
    pub(super) fn push(&self, frame: Answered) -> Option<Answered> {
        let (Ok(mut frames), Some(thread)) = (self.frames.try_lock(), self.thread.get()) else {
            return Some(frame);
        };
        frames.push_back(frame);
        drop(frames);
        thread.unpark();
        None
    }

    /// The frames that have ended since this was asked last; none while one ends.
    pub(super) fn ended(&self) -> Vec<Ended> {
        self.ended.try_lock().map(|mut ended| std::mem::take(&mut *ended)).unwrap_or_default()
    }

    /// Cancels a run that has taken longer than `bound`.
    pub(super) fn cancel_late(&self, bound: Duration) {
        if let Ok(mut run) = self.run.try_lock()
            && run.began.is_some_and(|began| began.elapsed() > bound)
        {
            run.cancel();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CurrentRun {
    fn cancel(&mut self) {
        self.is_cancelled = true;
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }

    fn end(&mut self) {
        self.began = None;
        if std::mem::take(&mut self.is_cancelled)
            && let Some(canceller) = &self.canceller
        {
            canceller.reset();
        }
    }
}

/// What the thread works with.
pub struct ShadowParts {
    /// The models in service.
    pub models: Arc<Models>,
    /// Features in buffers of their own.
    pub workers: FeatureWorkers,
    /// A runner of its own.
    pub runners: Runners,
    /// Says how many frames are in flight.
    pub admission: Arc<Admission>,
}

/// The running thread, which ends when this is dropped.
pub struct ShadowThread {
    queue: Arc<ShadowQueue>,
    /// Ends with the thread.
    ended: Mutex<Receiver<()>>,
}

impl ShadowThread {
    /// Starts it.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(super) fn start(queue: Arc<ShadowQueue>, parts: ShadowParts) -> io::Result<Self> {
        let (ending, ended) = sync_channel(1);
        let serving = Arc::clone(&queue);
        let serve = move || serve(&serving, &parts, &ending);
        let thread = std::thread::Builder::new().name("shadow".to_owned()).spawn(serve)?;
        let _ = queue.thread.set(thread.thread().clone());
        Ok(Self { queue, ended: ended.into() })
    }
}

impl Drop for ShadowThread {
    /// The library must not be unloaded under a run.
    fn drop(&mut self) {
        self.queue.is_closed.store(true, Relaxed);
        if let Ok(mut run) = self.queue.run.try_lock() {
            run.cancel();
        }
        if let Some(thread) = self.queue.thread.get() {
            thread.unpark();
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(LAST_RUN);
    }
}

fn serve(queue: &ShadowQueue, parts: &ShadowParts, _ending: &SyncSender<()>) {
    lower_priority();
    let (mut worker, mut runner) = ((parts.workers)(), (parts.runners)());
    lock(&queue.run).canceller = Some(runner.canceller());
    let cores = u32::try_from(available_cores()).unwrap_or(REST);
    let mut rest_until = Instant::now();
    while !queue.is_closed.load(Relaxed) {
        let next = lock(&queue.frames).pop_front();
        let Some(mut frame) = next else {
            std::thread::park();
            continue;
        };
        let Some(copy) = frame.copy.take() else { continue };
        let has_capacity = parts.has_spare_capacity(queue, rest_until, cores);
        // Not before: who unloads it waits for whoever holds it.
        let Some(model) = parts.models.current().model(&frame.model) else { continue };
        let computed = has_capacity.then(|| {
            let begun = Instant::now();
            let content = copy.content.clone();
            lock(&queue.run).began = Some(begun);
            let cpu = cpu_time();
            let compute = || compute(&mut *worker, &mut *runner, &*model, content);
            let result = catch_unwind(AssertUnwindSafe(compute));
            let cpu = cpu_time().saturating_sub(cpu);
            lock(&queue.run).end();
            if result.is_err() {
                tracing::error!(model = %frame.model, "a shadow version panicked");
                (worker, runner) = ((parts.workers)(), (parts.runners)());
                lock(&queue.run).canceller = Some(runner.canceller());
            }
            rest_until = Instant::now() + begun.elapsed() * (REST / cores).saturating_sub(1);
            Computed { answer: result.ok().and_then(Result::ok).map(Arc::new), cpu }
        });
        let mut ended = lock(&queue.ended);
        if ended.len() < ENDED {
            ended.push(Ended { frame, computed });
        }
    }
}

impl ShadowParts {
    /// Waits, for [`PATIENCE`] at most, until a core is free beside this thread's and those of the frames in
    /// flight; of two cores, until nothing is in flight.
    fn has_spare_capacity(&self, queue: &ShadowQueue, rest_until: Instant, cores: u32) -> bool {
        let most = cores.saturating_sub(2) as usize;
        let give_up = rest_until.max(Instant::now()) + PATIENCE;
        loop {
            let rest = rest_until.saturating_duration_since(Instant::now());
            if rest.is_zero() && self.admission.in_use().0 <= most {
                return true;
            }
            if Instant::now() > give_up || queue.is_closed.load(Relaxed) {
                return false;
            }
            std::thread::park_timeout(rest.max(LOOK));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use sferic_actors::account::copies::Copies;
    use sferic_actors::breaker::Circuits;
    use sferic_actors::frame::ModelId;
    use sferic_actors::ports::RunError;
    use sferic_actors::routing::Generation;
    use sferic_actors::tensor::{Inputs, Tensor};
    use sferic_actors::testing::fake_model;

    use super::*;

    struct Worker;

    impl FeatureWorker for Worker {
        fn extract(&mut self, _: &dyn LoadedModel, _: Content) -> Result<Inputs, Failure> {
            Ok(Tensor { shape: [1, 1, 1], data: vec![0.0].into() }.into())
        }
    }

    #[derive(Default)]
    struct Cancelled(AtomicBool);

    impl RunCanceller for Cancelled {
        fn cancel(&self) {
            self.0.store(true, Relaxed);
        }
        fn reset(&self) {
            self.0.store(false, Relaxed);
        }
    }

    /// Panics in its first run of all, does not end by itself in the second, and answers from then on.
    struct Fake {
        runs: Arc<AtomicUsize>,
        cancelled: Arc<Cancelled>,
    }

    impl Runner for Fake {
        fn run(
            &mut self,
            _: &dyn LoadedModel,
            _: &[&Inputs],
        ) -> Result<Vec<Result<Answer, Failure>>, RunError> {
            match self.runs.fetch_add(1, Relaxed) {
                0 => panic!("as asked"),
                1 => {
                    while !self.cancelled.0.load(Relaxed) {
                        std::thread::yield_now();
                    }
                    Err(RunError("cancelled".into()))
                }
                _ => Ok(vec![Ok(Answer::Tensors(Vec::new()))]),
            }
        }

        fn canceller(&self) -> Arc<dyn RunCanceller> {
            Arc::<Cancelled>::clone(&self.cancelled)
        }
    }

    #[test]
    fn a_version_that_panics_or_hangs_fails_and_the_thread_goes_on() {
        let circuits = Circuits::new(Default::default());
        let model = fake_model("m", "1");
        let generation = Generation::new("m", vec![Arc::clone(&model)], &[], Vec::new(), &circuits);
        let runs = Arc::<AtomicUsize>::default();
        let runners: Runners =
            Arc::new(move || Box::new(Fake { runs: Arc::clone(&runs), cancelled: Arc::default() }));
        let queue = Arc::<ShadowQueue>::default();
        let parts = ShadowParts {
            models: Models::new(generation),
            workers: Arc::new(|| Box::new(Worker)),
            runners,
            admission: Arc::new(Admission::new(1, 1, 1.0)),
        };
        let thread = ShadowThread::start(Arc::clone(&queue), parts).unwrap();
        let (copies, id) = (Copies::new(100), Arc::clone(model.id()));
        let frame = |id: &Arc<ModelId>| Answered {
            copy: copies.keep(&Content::default(), Arc::clone(id)).ok(),
            model: Arc::clone(id),
            active: Arc::clone(id),
            answer: None,
            compute: Duration::ZERO,
            source: "rx".into(),
            frame_id: "7".into(),
        };
        let begun = Instant::now();
        let mut answers = Vec::new();
        while answers.len() < 3 {
            // One after the other: a hanging run is cancelled once it has taken too long.
            let mut left = Some(frame(&id));
            while let Some(frame) = left {
                left = queue.push(frame);
            }
            let ended = loop {
                queue.cancel_late(Duration::from_millis(50));
                if let Some(ended) = queue.ended().pop() {
                    break ended;
                }
                assert!(begun.elapsed() < Duration::from_secs(30), "{} have ended", answers.len());
                std::thread::yield_now();
            };
            answers.push(ended.computed.unwrap().answer.is_some());
        }
        assert_eq!(answers, [false, false, true]);
        drop(thread);
        assert!(queue.frames.lock().unwrap().is_empty());
    }
}
