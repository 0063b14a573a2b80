//! Errors as callers get them.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::Failure;
use sferic_wire as wire;

use super::answers::written;
use crate::nats::ControlError;

/// A call that is not answered as it asks. Its answer has it among its extensions.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    error: &'static str,
    pub(super) message: String,
    request_id: Option<String>,
    timestamp: SystemTime,
    retry_after: Option<Duration>,
    encoding: Encoding,
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether `error` is the message, as the Open Inference Protocol has it.
    in_words: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
    request_id: Option<&'a str>,
    timestamp: String,
}

impl Refusal {
    /// A call that does not come to a frame, with a code and a message.
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            error,
            message: message.into(),
            request_id: None,
            timestamp: SystemTime::now(),
            retry_after: None,
            encoding: Encoding::Json,
            header: None,
            in_words: false,
        }
    }

    /// The failure of a frame or of a batch; its service code is the status.
    pub(super) fn failure(failure: Failure, encoding: Encoding) -> Self {
        let status = StatusCode::from_u16(failure.code.service_code());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = failure.retry_after;
        Self { retry_after, encoding, ..Self::new(status, failure.code.as_str(), failure.message) }
    }

    /// The same, of this frame.
    pub(super) fn of_frame(self, frame_id: Option<String>, timestamp: SystemTime) -> Self {
        Self { request_id: frame_id, timestamp, ..self }
    }

    /// The same with a header.
    pub(super) fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The same in this encoding.
    pub(super) fn in_encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The same in JSON, with the message for its `error`.
    pub(super) fn in_words(self) -> Self {
        Self { in_words: true, ..self.in_encoding(Encoding::Json) }
    }

    /// The daemon cannot answer yet.
    pub(super) fn starting() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting",
            "the daemon is starting: models are being loaded, or there is no NATS server yet",
        )
    }
}

/// A malformed call.
pub(super) fn invalid(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", message)
}

/// A request about models that is refused.
pub(super) fn refused(error: ControlError) -> Refusal {
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = match error.code() {
        400 => "invalid_request",
        404 => "model_not_found",
        409 => "conflict",
        422 => "model_refused",
        _ => "internal",
    };
    Refusal::new(status, code, error.message())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: if self.in_words { &self.message } else { self.error },
            message: &self.message,
            request_id: self.request_id.as_deref(),
            timestamp: wire::timestamp(self.timestamp),
        };
        let mut response = written(self.status, &body, self.encoding);
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name, value.clone());
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, and 0 would mean at once.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}
