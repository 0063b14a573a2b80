//! Observes the publication of outcomes, which every frame passes.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::account::ledger::End;
use sferic_actors::outcome::Outcome;
use sferic_actors::outcome::PublishError;
use sferic_actors::ports::OutcomeSink;
use tokio::time::Instant;

use super::events::Events;
use super::metrics::Recorded;
use super::traces::Traces;

/// A sink with metrics, logs and traces around it.
pub struct Observed<S> {
    sink: S,
    events: Events,
    traces: Option<Arc<Traces>>,
}

impl<S: OutcomeSink> Observed<S> {
    /// Records what `sink` publishes, and creates spans where traces are configured; without them, trace
    /// headers are passed on unchanged.
    pub fn new(sink: S, recorded: Arc<Recorded>, traces: Option<Arc<Traces>>) -> Self {
        Self { sink, events: Events::new(recorded), traces }
    }
}

impl<S: OutcomeSink> OutcomeSink for Observed<S> {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move {
            let begin = |outcome| self.traces.as_ref().and_then(|traces| traces.begin(outcome));
            let begun: Vec<_> = outcomes.iter_mut().map(begin).collect();
            let results = self.sink.publish(outcomes).await;
            let published_at = Instant::now();
            for ((outcome, begun), result) in outcomes.iter().zip(begun).zip(&results) {
                match result {
                    Ok(end @ (End::Prediction | End::Failure)) => {
                        self.events.published(outcome, *end, published_at, begun.as_ref());
                    }
                    Ok(End::Redelivered(delay)) => self.events.redelivered(outcome, *delay, begun.as_ref()),
                    // Its first publication was recorded.
                    Ok(End::Duplicate) => {}
                    Err(publish_error) => self.events.lost(outcome, publish_error, begun.as_ref()),
                }
                if let (Some(traces), Some(begun)) = (&self.traces, begun) {
                    traces.end(outcome, begun, result, published_at);
                }
            }
            results
        }
        .boxed()
    }

    fn abandoned(&self, outcome: &Outcome, publish_error: &PublishError) {
        self.events.lost(outcome, publish_error, None);
    }
}
