//! Judges every outcome that was published.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::account::ledger::End;
use sferic_actors::outcome::{Outcome, PublishError};
use sferic_actors::ports::OutcomeSink;

use super::state::Canaries;

/// A sink whose outcomes are judged.
pub struct Judged {
    sink: Arc<dyn OutcomeSink>,
    canaries: Arc<Canaries>,
}

impl Judged {
    /// Judges what `sink` publishes.
    pub fn new(sink: Arc<dyn OutcomeSink>, canaries: Arc<Canaries>) -> Arc<Self> {
        Arc::new(Self { sink, canaries })
    }
}

impl OutcomeSink for Judged {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move {
            let results = self.sink.publish(outcomes).await;
            for (outcome, result) in outcomes.iter_mut().zip(&results) {
                // A failure whose frame comes again is one of the version that had it.
                if let Ok(end @ (End::Prediction | End::Failure | End::Redelivered(_))) = result {
                    self.canaries.ended(outcome, *end);
                }
            }
            results
        }
        .boxed()
    }

    fn abandoned(&self, outcome: &Outcome, publish_error: &PublishError) {
        self.sink.abandoned(outcome, publish_error);
    }
}
