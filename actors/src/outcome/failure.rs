//! Why a frame got no prediction: codes, and messages with the value and the limit.

use std::time::Duration;

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
    /// `gather.max_sessions` were open.
    Sessions,
    /// Its bytes did not fit into `gather.max_bytes`.
    SessionBytes,
}

impl ShedReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::InFlightFrames,
        Self::InFlightBytes,
        Self::SourceShare,
        Self::QueueFull,
        Self::TooLate,
        Self::Displaced,
        Self::Sessions,
        Self::SessionBytes,
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
            Self::Sessions => "sessions",
            Self::SessionBytes => "session_bytes",
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
    /// Its session was closed before it came, or has a frame of its source already.
    Late,
    /// Its session ended with fewer receivers than the model needs.
    TooFewReceivers,
    /// What the receivers measured does not agree.
    InconsistentMeasurements,
    /// Anything else; a defect.
    Internal,
}

impl FailureCode {
    /// All of them.
    pub const ALL: [Self; 14] = [
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
        Self::Late,
        Self::TooFewReceivers,
        Self::InconsistentMeasurements,
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
            Self::Late => "late",
            Self::TooFewReceivers => "too_few_receivers",
            Self::InconsistentMeasurements => "inconsistent_measurements",
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
            Self::Late | Self::TooFewReceivers => 409,
            Self::InconsistentMeasurements => 422,
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
