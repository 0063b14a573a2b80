//! The outcome of a frame: exactly one prediction or typed failure.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admission::FramePermit;
use crate::frame::{Envelope, FrameInfo, ModelId};
use crate::ledger::{End, Ticket};
use crate::trail::Trail;

/// The outcome of a frame, on its way to NATS, with its ledger ticket.
#[derive(Debug)]
pub struct Outcome {
    /// The echoed part of the frame.
    pub info: FrameInfo,
    /// Where the frame came from and how it wants its answer.
    pub envelope: Envelope,
    /// When the frame arrived.
    pub received_at: Instant,
    /// The stages it has passed, with times.
    pub trail: Trail,
    /// The prediction or the failure.
    pub result: Result<Prediction, Failure>,
    /// When that was settled.
    pub settled_at: Instant,
    /// The same, by the wall clock.
    pub timestamp: SystemTime,
    /// How far its publication has come; kept here so that a restarted publisher does not publish twice.
    pub published: Published,
    pub(crate) ticket: Ticket,
    /// Held until the outcome is published: this is what bounds the queue of outcomes.
    pub(crate) _permit: Option<Arc<FramePermit>>,
}

/// Which destinations of an outcome have been served.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The outcome subject.
    pub subject: bool,
    /// The reply subject.
    pub reply: bool,
    /// How many publications were begun. Bounded, so that an outcome that crashes the publisher does not do
    /// so for ever.
    pub attempts: u8,
}

impl Outcome {
    pub(crate) fn close(self, end: End) {
        // Released first: when the ledger says that nothing is in flight, no permit is held.
        drop(self._permit);
        self.ticket.close(end);
    }
}

/// The answer of a model to one frame, with how it was produced.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The answer; shared with the cache.
    pub answer: Arc<Answer>,
    /// The model that answered.
    pub model: Arc<ModelId>,
    /// How many frames shared the session run.
    pub batch_size: usize,
    /// Whether it was answered without a run of its own.
    pub cache_hit: bool,
}

/// The answer of a model, by the kind of its head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Answer {
    /// Where the emitter is.
    Localization(Localization),
    /// What the signal is; best first.
    Classification(Vec<Label>),
    /// The raw outputs, by name.
    Tensors(Vec<NamedTensor>),
}

/// A place on the Earth with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Localization {
    /// Degrees WGS 84.
    pub position: Position,
    /// 1-sigma, along axes turned by `theta`.
    pub uncertainty: Uncertainty,
    /// The ellipse that covers `uncertainty.confidence_interval`.
    pub ellipse: Ellipse,
    /// 0 to 1 as the model states it; `None` where it states none.
    pub confidence: Option<f64>,
}

/// Degrees WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Degrees north, in [-90, 90].
    pub latitude: f64,
    /// Degrees east, in [-180, 180].
    pub longitude: f64,
}

/// 1-sigma in metres along x (east) and y (north), or along those axes turned by `theta`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Metres.
    pub sigma_x: f64,
    /// Metres.
    pub sigma_y: f64,
    /// Degrees counter-clockwise from east, in [-180, 180].
    pub theta: f64,
    /// The probability that the ellipse covers.
    pub confidence_interval: f64,
}

/// The confidence ellipse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ellipse {
    /// Metres.
    pub semi_major: f64,
    /// Metres.
    pub semi_minor: f64,
    /// Of the major axis, degrees counter-clockwise from east, in [-180, 180].
    pub rotation: f64,
    /// Square metres.
    pub area: f64,
}

/// One class with its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Label {
    /// The class's name, from the bundle.
    pub label: Arc<str>,
    /// After the bundle's activation; `None` where the model gives a label alone.
    pub score: Option<f64>,
}

/// One raw output of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedTensor {
    /// The output's name in the ONNX file.
    pub name: Arc<str>,
    /// With a leading batch axis of 1.
    pub shape: Vec<usize>,
    /// `float32`, or the output's own.
    pub dtype: &'static str,
    /// Little-endian, C order.
    pub data: Vec<u8>,
}

/// Why a frame got no prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The kind of failure.
    pub code: FailureCode,
    /// What was wrong, with the value and the limit.
    pub message: String,
    /// After how long trying again makes sense, where that is known.
    pub retry_after: Option<Duration>,
    /// For `overloaded`: what was full.
    pub shed: Option<ShedReason>,
}

impl Failure {
    /// A failure without a known retry time.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None, shed: None }
    }

    /// The `overloaded` failure of a frame.
    pub fn overloaded(shed: ShedReason, message: impl Into<String>) -> Self {
        Self { shed: Some(shed), ..Self::new(FailureCode::Overloaded, message) }
    }
}

/// Why a frame was refused or shed as overloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShedReason {
    /// `limits.in_flight_frames` were in flight.
    InFlightFrames,
    /// Its bytes did not fit into `limits.in_flight_bytes`.
    InFlightBytes,
    /// Its source had `limits.per_source_share` of the frames in flight.
    SourceShare,
    /// `pool.queue` frames waited for a session.
    QueueFull,
    /// By the measured service time it could not have made its deadline.
    TooLate,
    /// It was shed for an arriving frame.
    Displaced,
}

impl ShedReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::InFlightFrames,
        Self::InFlightBytes,
        Self::SourceShare,
        Self::QueueFull,
        Self::TooLate,
        Self::Displaced,
    ];

    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlightFrames => "in_flight_frames",
            Self::InFlightBytes => "in_flight_bytes",
            Self::SourceShare => "source_share",
            Self::QueueFull => "queue_full",
            Self::TooLate => "too_late",
            Self::Displaced => "displaced",
        }
    }
}

/// The failure codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// The frame can't be decoded, or contradicts itself.
    InvalidFrame,
    /// A datatype outside the list.
    UnsupportedDatatype,
    /// Fewer samples than the `min_samples` of the model.
    NotEnoughSamples,
    /// Channels, rate or width other than the model takes.
    ShapeMismatch,
    /// Over the configured sample limit.
    FrameTooLarge,
    /// No such model or version.
    ModelNotFound,
    /// The pipeline is full, or the frame could not make its deadline.
    Overloaded,
    /// The circuit is open, or no session was free within `pool.acquire_timeout`.
    ModelUnavailable,
    /// The budget ran out.
    DeadlineExceeded,
    /// The model failed on this frame.
    InferenceFailed,
    /// Anything else; a defect.
    Internal,
}

impl FailureCode {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::InvalidFrame,
        Self::UnsupportedDatatype,
        Self::NotEnoughSamples,
        Self::ShapeMismatch,
        Self::FrameTooLarge,
        Self::ModelNotFound,
        Self::Overloaded,
        Self::ModelUnavailable,
        Self::DeadlineExceeded,
        Self::InferenceFailed,
        Self::Internal,
    ];

    /// The code as it is published.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFrame => "invalid_frame",
            Self::UnsupportedDatatype => "unsupported_datatype",
            Self::NotEnoughSamples => "not_enough_samples",
            Self::ShapeMismatch => "shape_mismatch",
            Self::FrameTooLarge => "frame_too_large",
            Self::ModelNotFound => "model_not_found",
            Self::Overloaded => "overloaded",
            Self::ModelUnavailable => "model_unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InferenceFailed => "inference_failed",
            Self::Internal => "internal",
        }
    }

    /// The code a NATS service error carries, after HTTP's.
    pub fn service_code(self) -> u16 {
        match self {
            Self::InvalidFrame | Self::UnsupportedDatatype | Self::NotEnoughSamples | Self::ShapeMismatch => {
                400
            }
            Self::ModelNotFound => 404,
            Self::FrameTooLarge => 413,
            Self::Overloaded => 429,
            Self::InferenceFailed | Self::Internal => 500,
            Self::ModelUnavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// Whether the same frame may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::ModelUnavailable | Self::DeadlineExceeded | Self::Internal)
    }
}
