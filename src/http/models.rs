//! The models over HTTP.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sferic_actors::frame::Encoding;

use super::answers::written;
use super::encodings::{of_answer, of_body};
use super::errors::{Refusal, invalid, refused};
use super::pages::{Daemon, Pages};
use crate::models::requests;

/// What a query asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    model: Option<String>,
    version: Option<String>,
}

/// `GET /model/info`.
pub(super) async fn info(
    State(pages): State<Arc<Pages>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let answer = of(&pages).and_then(|daemon| {
        let Query(Asked { model, version }) = asked.map_err(|error| invalid(error.body_text()))?;
        let request = json!({"model": model, "version": version}).to_string().into();
        requests::info(&daemon.models, &daemon.recorded, &request).map_err(refused)
    });
    respond(answer, &headers)
}

/// `GET /model/versions`.
pub(super) async fn versions(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    respond(of(&pages).map(|daemon| daemon.models.list()), &headers)
}

/// `GET /model/performance`.
pub(super) async fn performance(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    respond(of(&pages).map(measured), &headers)
}

/// `POST /model/reload`.
pub(super) async fn reload(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = async {
        let encoding = of_body(&parts.headers)?;
        let daemon = of(&pages)?;
        let body = pages.bodies.read(body).await?;
        let request = as_json(&body.bytes, encoding)?;
        requests::change(&daemon.models, "models.reload", &request).await.map_err(refused)
    };
    respond(answer.await, &parts.headers)
}

pub(super) fn of(pages: &Pages) -> Result<&Daemon, Refusal> {
    pages.daemon().ok_or_else(Refusal::starting)
}

pub(super) fn as_json(body: &Bytes, encoding: Encoding) -> Result<Bytes, Refusal> {
    match encoding {
        Encoding::Json => Ok(body.clone()),
        Encoding::MessagePack if body.is_empty() => Ok(Bytes::new()),
        Encoding::MessagePack => rmp_serde::from_slice::<Value>(body)
            .map(|value| value.to_string().into())
            .map_err(|error| invalid(format!("the body is no MessagePack: {error}"))),
    }
}

pub(super) fn respond(answer: Result<Value, Refusal>, headers: &HeaderMap) -> Response {
    let encoding = of_answer(headers, Encoding::Json);
    match answer {
        Ok(answer) => written(StatusCode::OK, &answer, encoding),
        Err(refusal) => refusal.in_encoding(encoding).into_response(),
    }
}

/// Since the start.
pub fn measured(daemon: &Daemon) -> Value {
    let (predictions, failures, times) = daemon.recorded.ended();
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| times.quantile(share).map(|seconds| seconds * 1e3));
    let ended = predictions + failures;
    let uptime = daemon.started.elapsed().unwrap_or_default().as_secs_f64();
    json!({
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "predictions": predictions,
        "failures": failures,
        "success_rate": (ended > 0).then(|| predictions as f64 / ended as f64),
        "cache_hit_rate": daemon.cache.stats().hit_rate,
        "throughput_per_second": ended as f64 / uptime.max(1e-3),
        "uptime_seconds": uptime,
    })
}
