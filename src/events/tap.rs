//! Between the data path and the events.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use sferic_actors::account::ledger::End;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::{Arrival, FrameSource, OutcomeSink};

use super::Events;
use super::waterfall::Watched;

/// Shows the spectra of frames of watched sources: a reference, no copy.
pub fn show_frames(source: FrameSource, events: Arc<Events>) -> FrameSource {
    let show = move |mut arrival: Arrival| {
        let envelope = &mut arrival.envelope;
        if events.viewers.want_spectrum(&envelope.source) {
            // A frame without an id gets its own here, so that its row and its outcome are known as one.
            envelope.message_id.get_or_insert_with(|| uuid::Uuid::now_v7().to_string());
            events.frame(Watched {
                source: envelope.source.clone(),
                payload: arrival.payload.clone(),
                encoding: envelope.encoding,
                message_id: envelope.message_id.clone(),
                received_at: SystemTime::now() - arrival.received_at.elapsed(),
            });
        }
        arrival
    };
    source.map(show).boxed()
}

/// A sink whose outcomes are shown once they are published.
pub struct Shown {
    sink: Arc<dyn OutcomeSink>,
    events: Arc<Events>,
}

impl Shown {
    /// Shows what `sink` publishes.
    pub fn new(sink: Arc<dyn OutcomeSink>, events: Arc<Events>) -> Arc<Self> {
        Arc::new(Self { sink, events })
    }
}

impl OutcomeSink for Shown {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move {
            let results = self.sink.publish(outcomes).await;
            for (outcome, result) in outcomes.iter().zip(&results) {
                if matches!(result, Ok(End::Prediction | End::Failure)) {
                    self.events.outcome(outcome);
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
