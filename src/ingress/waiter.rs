//! The one who waits for the outcome of a frame that was put in.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use sferic_actors::account::ledger::End;
use sferic_actors::frame::{Encoding, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode, Origin, Outcome, Prediction, PublishError};
use sferic_wire as wire;
use tokio::sync::oneshot;

/// The outcome of a frame that was put in, as the one who asked sees it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Whether it is a prediction, else the failure.
    pub result: Result<(), Failure>,
    /// The outcome as it is written.
    pub body: Bytes,
    /// The frame's id, where it got one.
    pub frame_id: Option<String>,
    /// When the outcome was settled.
    pub timestamp: SystemTime,
    /// The headers that continue the frame's trace.
    pub trace: TraceHeaders,
}

impl Answered {
    /// A failure that was published nowhere.
    pub(super) fn unpublished(failure: Failure, encoding: Encoding) -> Self {
        let body = wire::encode_failure(&failure, encoding).unwrap_or_default().into();
        let (timestamp, trace) = (SystemTime::now(), TraceHeaders::default());
        Self { result: Err(failure), body, frame_id: None, timestamp, trace }
    }
}

/// The origin of such a frame. It hears of the outcome only once that is published.
#[derive(Debug)]
pub(super) struct Waiter {
    encoding: Encoding,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answer: Option<Answered>,
    waiting: Option<oneshot::Sender<Answered>>,
}

impl Waiter {
    /// One who wants the outcome in this encoding.
    pub(super) fn new(encoding: Encoding) -> (Self, oneshot::Receiver<Answered>) {
        let (waiting, answer) = oneshot::channel();
        let state = Mutex::new(State { answer: None, waiting: Some(waiting) });
        (Self { encoding, state }, answer)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin for Waiter {
    fn answer<'a>(&'a self, outcome: &'a Outcome, payload: &'a Bytes) -> BoxFuture<'a, ()> {
        let body = match outcome.envelope.encoding == self.encoding {
            true => Ok(payload.clone()),
            false => wire::encode_as(outcome, self.encoding).map(Bytes::from),
        };
        let answered = match body {
            Ok(body) => Answered {
                result: outcome.result.as_ref().map(|_| ()).map_err(Failure::clone),
                body,
                frame_id: Some(outcome.info.frame_id.clone()),
                timestamp: outcome.timestamp,
                trace: outcome.envelope.trace.clone(),
            },
            Err(error) => {
                let failure = Failure::new(FailureCode::Internal, error.to_string());
                Answered::unpublished(failure, self.encoding)
            }
        };
        self.state().answer = Some(answered);
        future::ready(()).boxed()
    }

    fn ended(&self, end: Result<End, &PublishError>, _: &Result<Prediction, Failure>) {
        let (answer, waiting) = {
            let mut state = self.state();
            (state.answer.take(), state.waiting.take())
        };
        let unpublished = |why: &str| {
            let message = format!("the outcome could not be published: {why}");
            Answered::unpublished(Failure::new(FailureCode::Internal, message), self.encoding)
        };
        let answer = match end {
            Ok(_) => answer.unwrap_or_else(|| unpublished("it was not written")),
            Err(error) => unpublished(&error.message),
        };
        if let Some(waiting) = waiting {
            // Whoever asked may have left.
            let _ = waiting.send(answer);
        }
    }
}
