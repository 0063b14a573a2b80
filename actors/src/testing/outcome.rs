//! Outcomes for tests of what is published.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sferic_samples::Datatype;
use tokio::time::Instant;

use crate::account::ledger::Ledger;
use crate::account::trail::{Run, Trail};
use crate::frame::{Encoding, Envelope, FrameInfo, ModelId};
use crate::outcome::{Answer, Failure, Label, Outcome, Prediction, Published};

/// Builds an [`Outcome`] whose times are the same relative to each other and to its timestamp in every run.
///
/// By default it is the prediction of a classifier for a frame that has passed every stage: settled 33 ms
/// after its arrival, at 2026-11-25 05:00:00.033 UTC.
#[derive(Debug)]
pub struct OutcomeBuilder(Outcome);

impl Default for OutcomeBuilder {
    fn default() -> Self {
        let received_at = Instant::now();
        let at = |ms| received_at + Duration::from_millis(ms);
        let digest = "5f".repeat(32);
        let model = Arc::new(ModelId {
            name: "modulation".into(),
            version: "2".into(),
            digest,
            ..ModelId::default()
        });
        let label = |label: &str, score| Label { label: label.into(), score: Some(score) };
        Self(Outcome {
            info: FrameInfo {
                frame_id: "f-7".into(),
                session_id: Some("s".into()),
                seq: Some(7),
                datetime: Some("2026-11-25T05:00:00Z".into()),
                frequency: Some(868.3e6),
                geolocation: None,
            },
            envelope: Envelope { source: "north.rx2".into(), ..Envelope::default() },
            origin: None,
            received_at,
            trail: Trail {
                payload_bytes: 600,
                datatype: Some(Datatype::Cf32Le),
                samples: 64,
                model: Some(Arc::clone(&model)),
                decode_begun: Some(at(0)),
                decoded: Some(at(1)),
                looked_up: Some(at(2)),
                features_begun: Some(at(4)),
                features_ended: Some(at(8)),
                queued: Some(at(8)),
                run: Some(Run { id: 1, session: 0, batch_size: 1, begun: at(16), ended: Some(at(32)) }),
                ..Trail::default()
            },
            result: Ok(Prediction {
                answer: Arc::new(Answer::Classification(vec![label("psk", 0.75), label("noise", 0.25)])),
                model,
                batch_size: 1,
                cache_hit: false,
            }),
            settled_at: at(33),
            timestamp: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_582_800_033),
            published: Published::default(),
            ticket: Arc::<Ledger>::default().open(),
            permit: None,
        })
    }
}

impl OutcomeBuilder {
    /// Sets the answer of the prediction.
    pub fn answer(self, answer: Answer) -> Self {
        self.with(|outcome| {
            if let Ok(prediction) = &mut outcome.result {
                prediction.answer = Arc::new(answer);
            }
        })
    }

    /// Makes it a failure.
    pub fn failure(self, failure: Failure) -> Self {
        self.with(|outcome| outcome.result = Err(failure))
    }

    /// Sets the encoding of the frame, and so of its outcome.
    pub fn encoding(self, encoding: Encoding) -> Self {
        self.with(|outcome| outcome.envelope.encoding = encoding)
    }

    /// Changes anything else.
    pub fn with(mut self, change: impl FnOnce(&mut Outcome)) -> Self {
        change(&mut self.0);
        self
    }

    /// The outcome.
    pub fn build(self) -> Outcome {
        self.0
    }
}
