//! Batches: their frames go into the pipeline a few at a time, each with its own budget, and their outcomes
//! make one answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, future, stream};
use sferic_actors::frame::{Encoding, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, ShedReason};
use sferic_actors::task::{LARGE, blocking_if};
use sferic_wire::{self as wire, BatchReply, FrameInBatch, MAX_BATCH};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::concurrency::{ConcurrencyLimit, Ended};
use crate::ingress::{Answered, Entry, Frame, source_or};

/// Batches that are worked off at once; the frames of further ones are refused.
const MAX_RUNNING: usize = 64;

/// Runs batches. How many of their frames are in the pipeline at once, of all batches together, follows how
/// long the last ones took.
#[derive(Debug)]
pub struct Batches {
    running: Semaphore,
    limit: ConcurrencyLimit,
    /// Held by the one whose turn is next.
    turn: Queue,
    slow: Duration,
    patience: Duration,
    /// Whether a model in service gathers.
    gathers: watch::Receiver<bool>,
}

/// A batch as it came.
#[derive(Debug)]
pub struct BatchRequest {
    /// Its message.
    pub payload: Bytes,
    /// How it is written.
    pub encoding: Encoding,
    /// How its answer shall be written.
    pub answer_in: Encoding,
    /// The trace it belongs to.
    pub trace: TraceHeaders,
    /// The source of frames that name none.
    pub source: &'static str,
}

/// Held by the frame of a batch that waits for its turn.
type Queue = tokio::sync::Mutex<()>;

/// What the frames of a batch have in common.
struct Common<'a> {
    request: &'a BatchRequest,
    entry: &'a Entry,
    queue: Queue,
    continue_on_error: bool,
    /// What ends the frames that are not begun.
    refused: Mutex<Option<Failure>>,
}

impl Batches {
    /// At most `most` frames at once; fewer where they take more than a quarter of `budget`. A frame waits
    /// for its turn for `patience`; while a model `gathers`, one of a session does not.
    pub fn new(
        first: usize,
        most: usize,
        budget: Duration,
        patience: Duration,
        gathers: watch::Receiver<bool>,
    ) -> Self {
        Self {
            running: Semaphore::new(MAX_RUNNING),
            limit: ConcurrencyLimit::starting_at(first, first, most),
            turn: Queue::default(),
            slow: budget / 4,
            patience,
            gathers,
        }
    }

    /// Runs a batch and gives its answer.
    ///
    /// # Errors
    /// It is no batch, or the answer cannot be written.
    pub async fn run(&self, entry: &Entry, request: BatchRequest) -> Result<Bytes, Failure> {
        let began = Instant::now();
        let BatchRequest { payload, encoding, answer_in, .. } = &request;
        let batch = blocking_if(payload.len() > LARGE, || wire::read_batch(payload, *encoding));
        let batch = batch.map_err(|error| Failure::new(FailureCode::InvalidFrame, error.to_string()))?;
        let running = self.running.try_acquire();
        let refused = running.is_err().then(|| {
            let message = format!("{MAX_RUNNING} batches are worked off already");
            Failure::overloaded(ShedReason::InFlightFrames, message)
        });
        let common = Common {
            request: &request,
            entry,
            queue: Queue::default(),
            continue_on_error: batch.continue_on_error,
            refused: Mutex::new(refused),
        };
        let frames = stream::iter(batch.frames.into_iter().enumerate());
        let outcomes = frames.map(|(index, frame)| self.run_frame(index, frame, &common));
        let outcomes: Vec<Answered> = outcomes.buffered(MAX_BATCH).collect().await;
        let reply = BatchReply {
            successful: outcomes.iter().filter(|outcome| outcome.result.is_ok()).count(),
            outcomes: outcomes.into_iter().map(|outcome| outcome.body).collect(),
            total_time: began.elapsed(),
        };
        let reply = reply.encode(*answer_in);
        reply.map(Bytes::from).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    }

    async fn run_frame(&self, index: usize, frame: FrameInBatch, common: &Common<'_>) -> Answered {
        let request = common.request;
        let FrameInBatch { payload, source } = frame;
        let frame = |refused| Frame {
            payload: payload.clone(),
            encoding: request.encoding,
            answer_in: request.answer_in,
            source: source_or(source.clone(), request.source),
            trace: request.trace.clone(),
            refused,
            is_raw: false,
        };
        let answered = match common.refused() {
            Some(refused) => common.entry.ask(frame(Some(refused))).await,
            // It waits for the others of its session, which may come behind it.
            None if self.is_gathered(&payload, request.encoding) => common.entry.ask(frame(None)).await,
            None => self.in_turn(common.entry, &common.queue, || frame(common.refused())).await,
        };
        if let Err(failure) = &answered.result
            && !common.continue_on_error
        {
            common.refuse(index, failure);
        }
        answered
    }

    /// Whether a frame may be one of a session that a model gathers.
    fn is_gathered(&self, frame: &Bytes, encoding: Encoding) -> bool {
        let salvaged = || wire::salvage(frame, encoding);
        *self.gathers.borrow() && salvaged().session_id.is_some_and(|id| !id.is_empty())
    }

    /// Puts frames in as those of a batch, each once it is its turn, and waits for their outcomes.
    pub async fn ask_in_turn(&self, entry: &Entry, frames: Vec<Frame>) -> Vec<Answered> {
        let queue = Queue::default();
        let asked = frames.into_iter().map(|frame| self.in_turn(entry, &queue, || frame));
        future::join_all(asked).await
    }

    /// Waits for a turn and puts a frame in, which is made only then.
    async fn in_turn(&self, entry: &Entry, queue: &Queue, frame: impl FnOnce() -> Frame) -> Answered {
        let turn = timeout(self.patience, self.next_turn(queue)).await;
        let mut frame = frame();
        if turn.is_err() {
            frame.refused.get_or_insert_with(|| {
                let message =
                    format!("its turn among the frames of batches did not come within {:?}", self.patience);
                Failure::overloaded(ShedReason::InFlightFrames, message)
            });
        }
        let is_begun = frame.refused.is_none();
        let began = Instant::now();
        let answered = entry.ask(frame).await;
        let ended = match &answered.result {
            _ if !is_begun => Ended::Otherwise,
            Err(failure)
                if matches!(failure.code, FailureCode::Overloaded | FailureCode::DeadlineExceeded) =>
            {
                Ended::Crowded
            }
            _ if began.elapsed() > self.slow => Ended::Crowded,
            _ => Ended::Answered,
        };
        if let Ok(turn) = turn {
            turn.end(ended);
        }
        answered
    }

    /// Batches take turns: of each one frame at a time stands in the line of all.
    async fn next_turn(&self, queue: &Queue) -> Turn<'_> {
        let _first_of_batch = queue.lock().await;
        let _first = self.turn.lock().await;
        while self.limit.free() == 0 {
            self.limit.changed().await;
        }
        self.limit.begin();
        Turn { limit: &self.limit, ended: Ended::Otherwise }
    }
}

/// A place within the limit, held by a frame until its outcome is there.
struct Turn<'a> {
    limit: &'a ConcurrencyLimit,
    ended: Ended,
}

impl Turn<'_> {
    fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.limit.end(self.ended);
    }
}

impl Common<'_> {
    fn refused(&self) -> Option<Failure> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what is not begun, as the frame at `index` ended; the first failure counts.
    fn refuse(&self, index: usize, failure: &Failure) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| {
            let message =
                format!("not begun, because frame {} of the batch failed: {}", index + 1, failure.message);
            Failure { message, ..failure.clone() }
        });
    }
}

#[cfg(test)]
mod tests;
