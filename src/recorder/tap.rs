//! Between the data path and the recorder.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use sferic_actors::account::ledger::End;
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::{FrameSource, OutcomeSink};
use sferic_wire as wire;

use super::{Finished, Recorder};

/// Keeps the messages of frames that may be recorded with their envelopes: a reference, no copy.
pub fn keep_messages(source: FrameSource, recorder: Arc<Recorder>) -> FrameSource {
    let keep = move |mut arrival: sferic_actors::ports::Arrival| {
        if recorder.wants(&arrival.envelope.source) {
            arrival.envelope.recorded = Some(arrival.payload.clone());
        }
        arrival
    };
    source.map(keep).boxed()
}

/// A sink whose outcomes are recorded once they are published.
pub struct Tapped {
    sink: Arc<dyn OutcomeSink>,
    recorder: Arc<Recorder>,
}

impl Tapped {
    /// Records what `sink` publishes.
    pub fn new(sink: Arc<dyn OutcomeSink>, recorder: Arc<Recorder>) -> Arc<Self> {
        Arc::new(Self { sink, recorder })
    }

    fn record(&self, outcome: &mut Outcome) {
        let Some(payload) = outcome.envelope.recorded.take() else { return };
        // An outcome that cannot be written was published as a failure that says so.
        let Ok(json) = wire::encode_as(outcome, Encoding::Json) else { return };
        self.recorder.take(Finished {
            source: outcome.envelope.source.clone(),
            payload,
            encoding: outcome.envelope.encoding,
            received_at: outcome.timestamp - outcome.settled_at.duration_since(outcome.received_at),
            outcome: json,
        });
    }
}

impl OutcomeSink for Tapped {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move {
            let results = self.sink.publish(outcomes).await;
            for (outcome, result) in outcomes.iter_mut().zip(&results) {
                if matches!(result, Ok(End::Prediction | End::Failure)) {
                    self.record(outcome);
                }
            }
            results
        }
        .boxed()
    }

    fn abandoned(&self, outcome: &Outcome, error: &PublishError) {
        self.sink.abandoned(outcome, error);
    }
}
