//! Events of frames: each is counted and logged in one place.

use std::sync::Arc;
use std::time::Duration;

use sferic_actors::account::ledger::End;
use sferic_actors::outcome::PublishError;
use sferic_actors::outcome::{FailureCode, Outcome};
use tokio::time::Instant;

use super::metrics::Recorded;
use super::traces::Begun;
use super::traces::context::sender;
use crate::throttle::Throttle;

/// Minimum interval between log lines of the same fault.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts and logs events.
#[derive(Debug)]
pub struct Events {
    recorded: Arc<Recorded>,
    lost: Throttle,
    faults: Throttle,
    retried: Throttle,
}

impl Events {
    /// Counts in `recorded`.
    pub fn new(recorded: Arc<Recorded>) -> Self {
        let [lost, faults, retried] = [(); 3].map(|()| Throttle::new(INTERVAL));
        Self { recorded, lost, faults, retried }
    }

    /// The outcome of a frame was published. A failure of the model or of the daemon itself is logged as a
    /// fault, others at the level `debug`.
    pub fn published(&self, outcome: &Outcome, end: End, published_at: Instant, begun: Option<&Begun>) {
        self.recorded.published(outcome, end, published_at, begun.and_then(Begun::exemplar));
        let Err(failure) = &outcome.result else { return };
        let (frame_id, source, code) =
            (&outcome.info.frame_id, &outcome.envelope.source, failure.code.as_str());
        let is_fault = matches!(failure.code, FailureCode::InferenceFailed | FailureCode::Internal);
        if is_fault && let Some(suppressed) = self.faults.pass(published_at) {
            let model = outcome.trail.model.as_ref().map(ToString::to_string);
            tracing::warn!(
                frame_id,
                source,
                trace_id = trace_id(outcome, begun),
                model,
                code,
                error = failure.message,
                suppressed,
                "frame failed"
            );
        } else {
            tracing::debug!(frame_id, source, trace_id = trace_id(outcome, begun), code, "frame failed");
        }
    }

    /// The frame has no outcome yet: its stream delivers it again after this time.
    pub fn redelivered(&self, outcome: &Outcome, delay: Duration, begun: Option<&Begun>) {
        let (frame_id, source) = (&outcome.info.frame_id, &outcome.envelope.source);
        let failure = outcome.result.as_ref().err();
        let code = failure.map(|failure| failure.code.as_str());
        let error = failure.map(|failure| failure.message.as_str());
        let deliveries = outcome.envelope.delivery.as_ref().map(|delivery| delivery.deliveries);
        let trace_id = trace_id(outcome, begun);
        if let Some(suppressed) = self.retried.pass(Instant::now()) {
            tracing::warn!(
                frame_id,
                source,
                trace_id,
                code,
                error,
                deliveries,
                ?delay,
                suppressed,
                "to be delivered again"
            );
        }
    }

    /// The outcome of a frame could not be published.
    pub fn lost(&self, outcome: &Outcome, publish_error: &PublishError, begun: Option<&Begun>) {
        self.recorded.lost(outcome, publish_error);
        if let Some(suppressed) = self.lost.pass(Instant::now()) {
            let (frame_id, source) = (&outcome.info.frame_id, &outcome.envelope.source);
            let trace_id = trace_id(outcome, begun);
            let (reason, error) = (publish_error.reason, publish_error);
            tracing::warn!(frame_id, source, trace_id, reason, %error, suppressed, "outcome lost");
        }
    }
}

/// The trace of the frame: the one made here, else the one of the sender.
fn trace_id(outcome: &Outcome, begun: Option<&Begun>) -> Option<String> {
    let sent = || Some(sender(&outcome.envelope.trace)?.trace_id());
    Some(begun.map(Begun::trace_id).or_else(sent)?.to_string())
}
