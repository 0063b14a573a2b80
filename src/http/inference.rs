//! Predictions: the frames of a call go the way of those on NATS, and their outcomes come back.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use sferic_actors::frame::{Encoding, TraceHeaders};
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::task::{LARGE, blocking_if};
use sferic_wire as wire;

use super::answers::{as_it_is, written};
use super::body::Held;
use super::encodings::{of_answer, of_body};
use super::errors::Refusal;
use super::pages::{Daemon, Pages};
use crate::batch::BatchRequest;
use crate::ingress::{Answered, Entry, Frame, source_or, stopping};
use crate::nats::HealthStatus;

/// The source of frames that name none.
const SOURCE: &str = "http";

/// A call that was read: who serves it, the body, and the encodings of both sides.
struct Call {
    entry: Entry,
    body: Held,
    encoding: Encoding,
    answer_in: Encoding,
    trace: TraceHeaders,
}

impl Call {
    async fn read(pages: &Pages, request: Request) -> Result<(Self, &Daemon), Refusal> {
        let (Parts { headers, .. }, body) = request.into_parts();
        let encoding = of_body(&headers)?;
        let answer_in = of_answer(&headers, encoding);
        let refused = |refusal: Refusal| refusal.in_encoding(answer_in);
        let daemon = pages.daemon().ok_or_else(|| refused(Refusal::starting()))?;
        let body = pages.bodies.read(body).await.map_err(refused)?;
        // Only now: a daemon that stops waits for whoever is in, and not for slow clients.
        let entry = daemon.ingress.enter().ok_or_else(|| Refusal::failure(stopping(), answer_in))?;
        Ok((Self { entry, body, encoding, answer_in, trace: trace(&headers) }, daemon))
    }
}

/// `POST /api/v1/inference/predict`.
pub(super) async fn predict(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let call = match Call::read(&pages, request).await {
        Ok((call, _)) => call,
        Err(refusal) => return refusal.into_response(),
    };
    let Call { entry, body, encoding, answer_in, trace } = call;
    let payload = body.bytes.clone();
    let source = blocking_if(payload.len() > LARGE, || wire::read_source(&payload, encoding));
    let source = source_or(source, SOURCE);
    let frame = Frame { payload, encoding, answer_in, source, trace, refused: None, is_raw: false };
    let Answered { result, body, frame_id, timestamp, trace } = entry.ask(frame).await;
    let mut response = match result {
        Ok(()) => as_it_is(StatusCode::OK, body, answer_in),
        Err(failure) => Refusal::failure(failure, answer_in).of_frame(frame_id, timestamp).into_response(),
    };
    continue_trace(response.headers_mut(), trace);
    response
}

/// `POST /api/v1/inference/predict/batch`.
pub(super) async fn predict_batch(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let (call, batches) = match Call::read(&pages, request).await {
        Ok((call, daemon)) => (call, Arc::clone(&daemon.batches)),
        Err(refusal) => return refusal.into_response(),
    };
    let Call { entry, body, encoding, answer_in, trace } = call;
    // Its frames have arrived, so they end in outcomes also where the caller leaves.
    let running = tokio::spawn(async move {
        let request =
            BatchRequest { payload: body.bytes.clone(), encoding, answer_in, trace, source: SOURCE };
        let answer = batches.run(&entry, request).await;
        drop(body);
        answer
    });
    let answer = running.await.unwrap_or_else(|_| Err(panicked()));
    answer.map_or_else(
        |failure| Refusal::failure(failure, answer_in).into_response(),
        |body: Bytes| as_it_is(StatusCode::OK, body, answer_in),
    )
}

fn panicked() -> Failure {
    Failure::new(FailureCode::Internal, "the batch could not be run: its task panicked")
}

#[derive(Serialize)]
struct InferenceHealth {
    status: &'static str,
    service: &'static str,
    version: &'static str,
    model_loaded: bool,
    cache_available: bool,
    timestamp: String,
}

/// `GET /api/v1/inference/health`.
pub(super) async fn health(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let daemon = pages.daemon();
    let is_ok = daemon.is_some_and(|daemon| (daemon.health)().status == HealthStatus::Ok);
    let body = InferenceHealth {
        status: if is_ok { "ok" } else { "degraded" },
        service: "sferic",
        version: env!("CARGO_PKG_VERSION"),
        // A daemon without a version of the default model does not start.
        model_loaded: daemon.is_some(),
        cache_available: daemon.is_some_and(|daemon| daemon.cache_enabled),
        timestamp: wire::timestamp(std::time::SystemTime::now()),
    };
    written(StatusCode::OK, &body, of_answer(&headers, Encoding::Json))
}

/// The trace that a call belongs to.
fn trace(headers: &HeaderMap) -> TraceHeaders {
    let text = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    TraceHeaders {
        traceparent: text("traceparent"),
        tracestate: text("tracestate"),
        baggage: text("baggage"),
    }
}

fn continue_trace(headers: &mut HeaderMap, trace: TraceHeaders) {
    let TraceHeaders { traceparent, tracestate, baggage } = trace;
    for (name, value) in [("traceparent", traceparent), ("tracestate", tracestate), ("baggage", baggage)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
