//! Queues that are closed while frames come: each frame fails with what is true, in whatever order.

use std::sync::{Arc, Barrier};
use std::thread;

use sferic_samples::Datatype;
use tokio::time::Instant;

use super::*;
use crate::account::admission::Admission;
use crate::account::ledger::Ledger;
use crate::breaker::{self, Circuits};
use crate::frame::{Envelope, IqSamples, Priority};
use crate::job::{Job, JobParts, PreparedFrame, RawFrame, WaitingFrame};
use crate::outcome::{Failure, FailureCode};
use crate::reply::{OutcomeQueue, Responder, Unanswered, dropped};
use crate::routing::{Generation, Sender};
use crate::tensor::Tensor;
use crate::testing::fake_model;

const FRAMES: usize = 64;

/// Makes frames, and has their outcomes.
struct Source {
    ledger: Arc<Ledger>,
    admission: Admission,
    outcomes: Arc<OutcomeQueue>,
    models: Generation,
}

fn samples() -> IqSamples {
    IqSamples { bytes: Default::default(), datatype: Datatype::Ci8, channels: 1, sample_rate: None }
}

impl Source {
    fn new() -> Self {
        let circuits = Circuits::new(breaker::Config::default());
        Self {
            ledger: Arc::default(),
            admission: Admission::new(FRAMES, 0, 1.0),
            outcomes: OutcomeQueue::new(FRAMES),
            models: Generation::new("fake", vec![fake_model("fake", "1")], &[], Vec::new(), &circuits),
        }
    }

    fn job(&self) -> Job {
        let (received_at, budget) = (Instant::now(), std::time::Duration::from_secs(3600));
        let permit = self.admission.admit("", 0).unwrap();
        let (ticket, place) = (self.ledger.open(), Some(Arc::clone(&permit.frame)));
        let outcomes = Arc::clone(&self.outcomes);
        let unanswered = Unanswered::new(Envelope::default(), None, received_at, ticket, place, outcomes);
        let responder = Responder::new(unanswered, budget);
        let routed = self.models.route(None, Sender::default(), &samples().into()).unwrap();
        Job::new(JobParts { responder, routed, received_at, budget, priority: Priority::Normal, permit })
    }

    fn prepared(&self) -> WaitingFrame {
        let tensor = Tensor { shape: [1, 1, 1], data: vec![0.0].into() };
        let (job, inputs) = (self.job(), tensor.into());
        WaitingFrame::Prepared(PreparedFrame { job, inputs, prepared_at: Instant::now() })
    }

    fn raw(&self) -> RawFrame {
        RawFrame { job: self.job(), content: samples().into(), is_cacheable: false }
    }

    /// The failures so far, oldest first.
    fn failures(&self) -> Vec<Failure> {
        let mut receiving = futures::executor::block_on(self.outcomes.receiving());
        std::iter::from_fn(|| receiving.receiver.try_recv().ok()?.result.err()).collect()
    }
}

/// Closes a queue while four threads push into it.
fn race(source: &Source, push: impl Fn() + Sync, close: impl FnOnce() + Send) -> Vec<Failure> {
    let start = Barrier::new(5);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                (0..FRAMES / 4).for_each(|_| push());
            });
        }
        scope.spawn(|| {
            start.wait();
            close();
        });
    });
    source.failures()
}

#[test]
fn a_frame_that_meets_the_closing_of_its_queue_was_dropped_and_not_refused() {
    for _ in 0..100 {
        let source = Source::new();
        // There is room for all of them, so no failure may say that the queue is full.
        let queue = WorkQueue::new(Config { queue: FRAMES, ..Config::default() });
        let push = || {
            let frame = source.prepared();
            match queue.predict_deadline(frame.job()) {
                Ok(()) => queue.push(frame),
                Err(failure) => frame.into_job().fail(failure),
            }
        };
        assert_eq!(race(&source, push, || queue.close()), vec![dropped(); FRAMES]);

        let (source, queue) = (Source::new(), FrameQueue::default());
        assert_eq!(race(&source, || queue.push(source.raw()), || queue.close()), vec![dropped(); FRAMES]);
    }
}

#[test]
fn a_full_queue_that_is_closed_is_not_said_to_be_full() {
    let (source, queue) = (Source::new(), WorkQueue::new(Config { queue: 1, ..Config::default() }));
    queue.push(source.prepared());
    queue.push(source.prepared());
    let [full] = &source.failures()[..] else { panic!("one is refused, one waits") };
    assert_eq!(
        (full.code, full.message.as_str()),
        (FailureCode::Overloaded, "1 of 1 frames wait for a session")
    );
    queue.close();
    queue.push(source.prepared());
    assert_eq!(source.failures(), [dropped(), dropped()], "the one that waited, and the one that came late");
    assert_eq!(queue.stats().not_begun.full, 1);
}
