//! Answers in either encoding.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use sferic_actors::frame::Encoding;
use sferic_wire as wire;

/// An answer in this encoding.
pub(super) fn written(status: StatusCode, body: &impl Serialize, encoding: Encoding) -> Response {
    let body = match encoding {
        Encoding::Json => serde_json::to_vec(body).map_err(|error| error.to_string()),
        Encoding::MessagePack => rmp_serde::to_vec_named(body).map_err(|error| error.to_string()),
    };
    match body {
        Ok(body) => as_it_is(status, body.into(), encoding),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// An answer that is written already.
pub(super) fn as_it_is(status: StatusCode, body: Bytes, encoding: Encoding) -> Response {
    let content_type = HeaderValue::from_static(wire::content_type(encoding));
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}
