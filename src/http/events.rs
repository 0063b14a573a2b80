//! `GET /api/v1/events`: server-sent events, as the HTML standard has them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::Deserialize;

use super::connections::Patience;
use super::errors::{Refusal, invalid};
use super::pages::Pages;
use crate::events::{Interest, MAX_VIEWERS, ResumeAfter};

/// What a viewer asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    types: Option<String>,
    source: Option<String>,
    waterfall: Option<String>,
}

/// `GET /api/v1/events`.
pub(super) async fn events(
    State(pages): State<Arc<Pages>>,
    patience: Option<Extension<Patience>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Asked { types, source, waterfall }) = asked.map_err(|error| invalid(error.body_text()))?;
    let interest = Interest::read(types.as_deref(), source.as_deref(), waterfall.as_deref());
    let interest = interest.map_err(|error| invalid(error.to_string()))?;
    let resume = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let viewer = pages.events.view(interest, resume.map(|id| ResumeAfter(id.to_owned())));
    let viewer = viewer.ok_or_else(|| {
        let message = format!("{MAX_VIEWERS} viewers are there already, the most at once");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", message)
    })?;
    if let Some(Extension(patience)) = patience {
        patience.lengthen();
    }
    // Something at once, so that a client knows that it is connected.
    let begun = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    let parts = stream::unfold(viewer, async |viewer| viewer.next().await.map(|part| (part, viewer)));
    let body = Body::from_stream(begun.chain(parts).map(Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}
