//! The way into the pipeline beside the frames on NATS: for HTTP requests and the frames of a batch.
//!
//! [`Ingress::enter`] gives an [`Entry`], which puts frames in and passes their outcomes back. As long as one
//! is held the source of frames does not end.
//!
//! Invariant: once [`Closing::close`] has returned, nothing comes in any more, and the source has ended.

mod waiter;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use sferic_actors::frame::{Encoding, Envelope, LONGEST_SOURCE, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, ShedReason};
use sferic_actors::ports::{Arrival, FrameSource};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
pub use waiter::Answered;
use waiter::Waiter;

/// Frames that may wait to be read. The pipeline reads at once, and refuses what it has no room for.
const QUEUE: usize = 64;

/// Time for a frame to be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Admits those who put frames in; clones share it.
#[derive(Debug, Clone)]
pub struct Ingress(Arc<Shared>);

/// Puts frames in.
#[derive(Debug, Clone)]
pub struct Entry {
    sender: mpsc::Sender<Arrival>,
    shared: Arc<Shared>,
}

/// Ends the source.
#[derive(Debug)]
pub struct Closing {
    shared: Arc<Shared>,
    cut: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    /// Taken when the daemon stops.
    sender: Mutex<Option<mpsc::Sender<Arrival>>>,
    instance: String,
    next_id: AtomicU64,
    answer_within: Duration,
}

/// A frame to be put in.
#[derive(Debug)]
pub struct Frame {
    /// The frame's message.
    pub payload: Bytes,
    /// How it is written.
    pub encoding: Encoding,
    /// How its outcome shall be written for the one who asks.
    pub answer_in: Encoding,
    /// Its source.
    pub source: String,
    /// The trace it belongs to.
    pub trace: TraceHeaders,
    /// The failure it ends in without being read.
    pub refused: Option<Failure>,
    /// Whether its tensors go into the model as they are, and its outcome has the raw outputs.
    pub is_raw: bool,
}

/// Opens the way in. `instance` is the id of this process; `answer_within` bounds the wait for an outcome, so
/// it must be longer than every budget.
pub fn open(instance: String, answer_within: Duration) -> (Ingress, FrameSource, Closing) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (cut, cutting) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let shared = Arc::new(Shared {
        sender: Mutex::new(Some(sender)),
        instance,
        next_id: AtomicU64::new(1),
        answer_within,
    });
    let reading = Reading { receiver, cutting: Some(cutting), _ending: ending };
    let source = stream::unfold(reading, |mut reading| async move {
        let arrival = reading.next().await?;
        Some((arrival, reading))
    });
    (Ingress(Arc::clone(&shared)), source.boxed(), Closing { shared, cut, ended })
}

struct Reading {
    receiver: mpsc::Receiver<Arrival>,
    cutting: Option<oneshot::Receiver<()>>,
    /// Dropped with the stream, which signals its end.
    _ending: oneshot::Sender<()>,
}

impl Reading {
    async fn next(&mut self) -> Option<Arrival> {
        while let Some(cutting) = &mut self.cutting {
            tokio::select! {
                biased;
                arrival = self.receiver.recv() => return arrival,
                cut = cutting => {
                    if cut.is_ok() {
                        self.receiver.close();
                    }
                    self.cutting = None;
                }
            }
        }
        self.receiver.recv().await
    }
}

impl Ingress {
    /// An entry; `None` once the daemon stops.
    pub fn enter(&self) -> Option<Entry> {
        let sender = self.0.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Entry { sender, shared: Arc::clone(&self.0) })
    }
}

/// Why nothing is put in any more.
pub fn stopping() -> Failure {
    Failure::new(FailureCode::ModelUnavailable, "the daemon is stopping and takes in no more frames")
}

impl Closing {
    /// Admits nobody any more and waits, at most `bound`, for those who are in; then the source ends.
    pub async fn close(mut self, bound: Duration) {
        drop(self.shared.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        if timeout(bound, &mut self.ended).await.is_err() {
            tracing::warn!("batches or HTTP requests were cut: they did not end in time");
            let _ = self.cut.send(());
            let _ = timeout(bound, self.ended).await;
        }
    }
}

impl Entry {
    /// Puts a frame in and waits for its outcome. Where this future is dropped, the frame still ends in its
    /// outcome.
    pub async fn ask(&self, frame: Frame) -> Answered {
        let Frame { payload, encoding, answer_in, source, trace, refused, is_raw } = frame;
        let Shared { instance, next_id, answer_within, .. } = &*self.shared;
        let (waiter, answer) = Waiter::new(answer_in);
        let direct_id = Some(format!("{instance}:{}", next_id.fetch_add(1, Relaxed)));
        let arrival = Arrival {
            payload,
            envelope: Envelope { source, encoding, trace, direct_id, is_raw, ..Envelope::default() },
            origin: Some(Arc::new(waiter)),
            received_at: Instant::now(),
            refused,
        };
        let failure = match timeout(READ_WITHIN, self.sender.send(arrival)).await {
            Ok(Ok(())) => match timeout(*answer_within, answer).await {
                Ok(Ok(answered)) => return answered,
                // Its origin was dropped.
                Ok(Err(_)) => stopping(),
                Err(_) => Failure::new(
                    FailureCode::Internal,
                    format!("there is no outcome after {answer_within:?}"),
                ),
            },
            Ok(Err(_)) => stopping(),
            Err(_) => {
                let message = format!("{QUEUE} frames waited for {READ_WITHIN:?} to be read");
                Failure::overloaded(ShedReason::InFlightFrames, message)
            }
        };
        Answered::unpublished(failure, answer_in)
    }
}

/// The source that a frame names, where it may stand in a subject; else `default`.
pub fn source_or(given: Option<String>, default: &str) -> String {
    given.filter(|source| is_source(source)).unwrap_or_else(|| default.to_owned())
}

/// Tokens of a NATS subject that is no pattern.
fn is_source(text: &str) -> bool {
    let is_token = |token: &str| {
        let refused = |c: char| c.is_whitespace() || c.is_control() || "*>".contains(c);
        !token.is_empty() && !token.contains(refused)
    };
    text.len() <= LONGEST_SOURCE && text.split('.').all(is_token)
}

#[cfg(test)]
mod tests;
