//! Writing an outcome.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sferic_actors::account::trail::Stages;
use sferic_actors::frame::{Delivery, Encoding};
use sferic_actors::outcome::{
    Answer, Ellipse, Failure, Label, NamedTensor, Outcome, Position, Prediction, SessionSummary, Uncertainty,
};

use super::binary;

/// Writes an outcome in the encoding of its frame.
pub fn encode(outcome: &Outcome) -> Result<Vec<u8>, EncodeError> {
    encode_as(outcome, outcome.envelope.encoding)
}

/// Writes an outcome in this encoding.
pub fn encode_as(outcome: &Outcome, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    match &outcome.result {
        Ok(prediction) => write(&PredictionBody::new(outcome, prediction), encoding),
        Err(failure) => write(&FailureBody::new(outcome, failure), encoding),
    }
}

/// Writes a failure that belongs to no published outcome: of a whole batch, or of a frame whose outcome could
/// not be published.
pub fn encode_failure(failure: &Failure, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    let body = FailureBody {
        frame_id: None,
        source: None,
        session_id: None,
        seq: None,
        datetime: None,
        code: failure.code.as_str(),
        message: &failure.message,
        retryable: failure.code.is_retryable(),
        retry_after_ms: retry_after_ms(failure),
        timestamp: timestamp(SystemTime::now()),
        session: None,
        delivery: None,
        payload: None,
    };
    write(&body, encoding)
}

/// An outcome that can't be written: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the outcome could not be encoded: {0}")]
pub struct EncodeError(String);

impl EncodeError {
    pub(super) fn empty() -> Self {
        Self("a map was written as nothing".to_owned())
    }
}

pub(super) fn write(body: &impl Serialize, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    match encoding {
        Encoding::MessagePack => rmp_serde::to_vec_named(body).map_err(|e| EncodeError(e.to_string())),
        Encoding::Json => serde_json::to_vec(body).map_err(|e| EncodeError(e.to_string())),
    }
}

#[derive(Serialize)]
struct PredictionBody<'a> {
    frame_id: &'a str,
    source: &'a str,
    session_id: Option<&'a str>,
    seq: Option<u64>,
    datetime: Option<&'a str>,
    frequency: Option<f64>,
    kind: &'static str,
    #[serde(flatten)]
    answer: AnswerBody<'a>,
    model: &'a str,
    model_version: &'a str,
    model_digest: &'a str,
    inference_time_ms: f64,
    stages_ms: StagesMs,
    batch_size: usize,
    timestamp: String,
    _cache_hit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionSummary>,
    #[serde(flatten)]
    delivery: Option<DeliveryBody>,
}

/// The keys of a frame that came from a stream.
#[derive(Serialize)]
struct DeliveryBody {
    stream_seq: u64,
    deliveries: u64,
}

impl DeliveryBody {
    fn of(outcome: &Outcome) -> Option<Self> {
        let Delivery { stream_seq, deliveries, .. } = outcome.envelope.delivery.as_ref()?;
        Some(Self { stream_seq: *stream_seq, deliveries: *deliveries })
    }
}

/// The keys of each kind of head, beside the others.
#[derive(Serialize)]
#[serde(untagged)]
enum AnswerBody<'a> {
    Localization {
        position: &'a Position,
        uncertainty: &'a Uncertainty,
        ellipse: &'a Ellipse,
        confidence: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        calibrated: Option<bool>,
    },
    Classification {
        labels: &'a [Label],
        confidence: Option<f64>,
    },
    Tensors {
        tensors: Tensors<'a>,
        confidence: Option<f64>,
    },
}

struct Tensors<'a>(&'a [NamedTensor]);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|tensor| {
            let body = TensorBody { shape: &tensor.shape, dtype: tensor.dtype, data: &tensor.data };
            (&*tensor.name, body)
        }))
    }
}

#[derive(Serialize)]
struct TensorBody<'a> {
    shape: &'a [usize],
    dtype: &'static str,
    #[serde(serialize_with = "binary::serialize")]
    data: &'a [u8],
}

/// Milliseconds per stage; a stage that the frame did not complete is left out.
#[derive(Serialize)]
struct StagesMs {
    #[serde(skip_serializing_if = "Option::is_none")]
    decode: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preprocess_wait: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference: Option<f64>,
}

impl From<Stages> for StagesMs {
    fn from(stages: Stages) -> Self {
        let ms = |duration: Option<Duration>| duration.map(milliseconds);
        Self {
            decode: ms(stages.decode),
            preprocess_wait: ms(stages.preprocess_wait),
            features: ms(stages.features),
            queue: ms(stages.queue),
            inference: ms(stages.inference),
        }
    }
}

impl<'a> PredictionBody<'a> {
    fn new(outcome: &'a Outcome, prediction: &'a Prediction) -> Self {
        let (kind, answer) = match &*prediction.answer {
            Answer::Localization(place) => (
                "localization",
                AnswerBody::Localization {
                    position: &place.position,
                    uncertainty: &place.uncertainty,
                    ellipse: &place.ellipse,
                    confidence: place.confidence,
                    calibrated: place.calibrated.then_some(true),
                },
            ),
            Answer::Classification(labels) => {
                ("classification", AnswerBody::Classification { labels, confidence: None })
            }
            Answer::Tensors(tensors) => {
                ("tensors", AnswerBody::Tensors { tensors: Tensors(tensors), confidence: None })
            }
        };
        let model = &prediction.model;
        Self {
            frame_id: &outcome.info.frame_id,
            source: &outcome.envelope.source,
            session_id: outcome.info.session_id.as_deref(),
            seq: outcome.info.seq,
            datetime: outcome.info.datetime.as_deref(),
            frequency: outcome.info.frequency,
            kind,
            answer,
            model: &model.name,
            model_version: &model.version,
            model_digest: &model.digest,
            inference_time_ms: milliseconds(outcome.settled_at - outcome.received_at),
            stages_ms: StagesMs::from(outcome.trail.stages()),
            batch_size: prediction.batch_size,
            timestamp: timestamp(outcome.timestamp),
            _cache_hit: prediction.cache_hit,
            session: outcome.trail.session.as_deref(),
            delivery: DeliveryBody::of(outcome),
        }
    }
}

#[derive(Serialize)]
struct FailureBody<'a> {
    frame_id: Option<&'a str>,
    source: Option<&'a str>,
    session_id: Option<&'a str>,
    seq: Option<u64>,
    datetime: Option<&'a str>,
    code: &'static str,
    message: &'a str,
    retryable: bool,
    retry_after_ms: Option<u64>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionSummary>,
    #[serde(flatten)]
    delivery: Option<DeliveryBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
}

/// The message of a frame whose deliveries end without a prediction.
struct Payload<'a>(&'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        binary::serialize(self.0, serializer)
    }
}

impl<'a> FailureBody<'a> {
    fn new(outcome: &'a Outcome, failure: &'a Failure) -> Self {
        Self {
            frame_id: Some(&outcome.info.frame_id),
            source: Some(&outcome.envelope.source),
            session_id: outcome.info.session_id.as_deref(),
            seq: outcome.info.seq,
            datetime: outcome.info.datetime.as_deref(),
            code: failure.code.as_str(),
            message: &failure.message,
            retryable: failure.code.is_retryable(),
            retry_after_ms: retry_after_ms(failure),
            timestamp: timestamp(outcome.timestamp),
            session: outcome.trail.session.as_deref(),
            delivery: DeliveryBody::of(outcome),
            payload: outcome.envelope.delivery.as_ref().and_then(|of| of.payload.as_deref()).map(Payload),
        }
    }
}

fn retry_after_ms(failure: &Failure) -> Option<u64> {
    failure.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A time as answers have it: RFC 3339, UTC.
pub fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}
