//! The Open Inference Protocol, version 2, with binary tensors: a model's own inputs and outputs over HTTP.
//!
//! The tensors of a request become frames, one for each index of the batch, and go the way of all frames.

mod answer;
mod describe;
mod frames;
mod request;
mod tensor;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::task::{LARGE, blocking_if};
use sferic_onnx::{Model, Versions};

use super::answers::written;
use super::encodings;
use super::errors::{Refusal, invalid, refused};
use super::inference::{SOURCE, continue_trace, trace};
use super::pages::{Daemon, Pages};
use crate::ingress::{Answered, Frame, source_or, stopping};
use crate::models::requests;
use crate::nats::HealthStatus;
use request::InferRequest;

/// Attempts of a request whose version is replaced meanwhile.
const ATTEMPTS: usize = 3;

/// The calls of the protocol.
pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(statistics))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/versions/{version}/config", get(config))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
}

/// The model of a path.
#[derive(Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

type Asked = Result<Path<Named>, PathRejection>;

impl Named {
    /// The model as frames name it.
    fn full(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.model),
            None => self.model.clone(),
        }
    }
}

fn daemon(pages: &Pages) -> Result<&Daemon, Refusal> {
    pages.daemon().ok_or_else(Refusal::starting)
}

fn named(asked: Asked) -> Result<Named, Refusal> {
    asked.map(|Path(named)| named).map_err(|rejection| invalid(rejection.body_text()))
}

fn respond(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(answer) => written(StatusCode::OK, &answer, Encoding::Json),
        Err(refusal) => refusal.into_response(),
    }
}

/// What `read` finds of a model that can serve, the active version where none is named.
fn of_model<T>(
    pages: &Pages,
    asked: Asked,
    read: impl FnOnce(&Arc<Model>, &Versions) -> T,
) -> Result<T, Refusal> {
    find(daemon(pages)?, &named(asked)?, read)
}

fn find<T>(
    daemon: &Daemon,
    named: &Named,
    read: impl FnOnce(&Arc<Model>, &Versions) -> T,
) -> Result<T, Refusal> {
    let catalog = daemon.models.catalog();
    let none = |message: String| Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message);
    let versions = catalog.of(&named.model).ok_or_else(|| {
        let there: Vec<_> = catalog.all().map(|(name, _)| name).collect();
        let name = sferic_wire::shortened(&named.model, 100);
        none(format!("no model {name:?}; there are {}", there.join(", ")))
    })?;
    let model = match &named.version {
        None => versions.active_model(),
        Some(version) => versions.get(version).and_then(|known| known.model()),
    };
    let model = model.ok_or_else(|| {
        let full = named.full();
        none(format!(
            "{:?} is not loaded; POST /v2/repository/index lists what is",
            sferic_wire::shortened(&full, 100)
        ))
    })?;
    Ok(read(model, versions))
}

/// `GET /v2`.
async fn server() -> Response {
    let extensions = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
    let version = env!("CARGO_PKG_VERSION");
    respond(Ok(json!({"name": "sferic", "version": version, "extensions": extensions})))
}

/// `GET /v2/health/live`.
async fn live() -> Response {
    respond(Ok(json!({"live": true})))
}

/// `GET /v2/health/ready`.
async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    let health = pages.daemon().map(|daemon| (daemon.health)());
    let is_ready = health.is_some_and(|health| health.status == HealthStatus::Ok);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    written(status, &json!({"ready": is_ready}), Encoding::Json)
}

/// `GET /v2/models/{model}`.
async fn metadata(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    respond(of_model(&pages, asked, |model, versions| describe::metadata(model, versions)))
}

/// `GET …/ready`.
async fn model_ready(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    respond(of_model(&pages, asked, |model, _| json!({"name": model.id().name, "ready": true})))
}

/// `GET …/config`.
async fn config(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    respond(of_model(&pages, asked, |model, versions| describe::config(model, versions)))
}

/// `GET …/stats`.
async fn statistics(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let has_version = matches!(&asked, Ok(Path(Named { version: Some(_), .. })));
    let models = of_model(&pages, asked, |model, versions| {
        if has_version { vec![Arc::clone(model)] } else { versions.ready().cloned().collect() }
    });
    respond(models.and_then(|models| Ok(of_all(daemon(&pages)?, &models))))
}

/// `GET /v2/models/stats`.
async fn all_statistics(State(pages): State<Arc<Pages>>) -> Response {
    respond(daemon(&pages).map(|daemon| {
        let models: Vec<_> = daemon.models.catalog().models().into_iter().cloned().collect();
        of_all(daemon, &models)
    }))
}

fn of_all(daemon: &Daemon, models: &[Arc<Model>]) -> Value {
    let statistics = models.iter().map(|model| describe::statistics(model, &daemon.recorded));
    json!({"model_stats": statistics.collect::<Vec<_>>()})
}

/// `POST …/infer`.
async fn infer(State(pages): State<Arc<Pages>>, asked: Asked, request: Request) -> Response {
    inferred(&pages, asked, request).await.unwrap_or_else(Refusal::into_response)
}

async fn inferred(pages: &Pages, asked: Asked, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let named = named(asked)?;
    check_type(&parts.headers)?;
    let daemon = daemon(pages)?;
    let body = pages.bodies.read(body).await?;
    let mut attempt = 1;
    loop {
        let answered = ask(daemon, &named, &parts.headers, &body.bytes).await?;
        let is_gone = answered.failure().is_some_and(|failure| failure.code == FailureCode::ModelNotFound);
        // Another version became active, and this one was unloaded before all frames were in.
        if !(is_gone && named.version.is_none() && attempt < ATTEMPTS) {
            return answered.into_response();
        }
        attempt += 1;
    }
}

/// The frames of a request, answered.
struct AnsweredRequest {
    request: InferRequest,
    model: Arc<Model>,
    frames: Vec<Answered>,
}

async fn ask(
    daemon: &Daemon,
    named: &Named,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<AnsweredRequest, Refusal> {
    let entry = daemon.ingress.enter().ok_or_else(|| Refusal::failure(stopping(), Encoding::Json))?;
    let model = find(daemon, named, |model, _| Arc::clone(model))?;
    let (request, messages) = blocking_if(body.len() > LARGE, || {
        let request = request::read(headers, body)?;
        // Frames that are answered together are answered by one version.
        let version = if request.frames > 1 { model.id().to_string() } else { named.full() };
        let messages = frames::messages(&request, &version, &describe::names(model.inputs()))?;
        Ok((request, messages))
    })
    .map_err(invalid)?;
    let trace = trace(headers);
    let frame = |payload| Frame {
        payload,
        encoding: Encoding::MessagePack,
        answer_in: Encoding::MessagePack,
        source: source_or(request.parameters.source.clone(), SOURCE),
        trace: trace.clone(),
        refused: None,
        is_raw: true,
    };
    let mut frames: Vec<_> = messages.into_iter().map(frame).collect();
    let batches = Arc::clone(&daemon.batches);
    // They have arrived, so they end in outcomes also where the caller leaves.
    let asking = tokio::spawn(async move {
        match frames.pop() {
            // A request of one frame waits for nobody, as on NATS.
            Some(only) if frames.is_empty() => vec![entry.ask(only).await],
            last => {
                frames.extend(last);
                batches.ask_in_turn(&entry, frames).await
            }
        }
    });
    let panicked = |_| Failure::new(FailureCode::Internal, "the request could not be run: its task panicked");
    let frames =
        asking.await.map_err(panicked).map_err(|failure| Refusal::failure(failure, Encoding::Json))?;
    Ok(AnsweredRequest { request, model, frames })
}

impl AnsweredRequest {
    /// The first one.
    fn failure(&self) -> Option<&Failure> {
        self.frames.iter().find_map(|answered| answered.result.as_ref().err())
    }

    fn into_response(self) -> Result<Response, Refusal> {
        let Self { request, model, frames } = self;
        let mut predictions: Vec<Bytes> = Vec::with_capacity(frames.len());
        let mut continued = None;
        for (index, Answered { result, body, frame_id, timestamp, trace }) in frames.into_iter().enumerate() {
            if let Err(mut failure) = result {
                if request.frames > 1 {
                    failure.message = format!("frame {index} of the batch: {}", failure.message);
                }
                return Err(Refusal::failure(failure, Encoding::Json).of_frame(frame_id, timestamp));
            }
            predictions.push(body);
            continued.get_or_insert(trace);
        }
        let is_large = predictions.iter().map(Bytes::len).sum::<usize>() > LARGE;
        let outputs = describe::names(model.outputs());
        let joined = blocking_if(is_large, || answer::join(&request, &outputs, &predictions));
        let mut response = joined.map_err(invalid)?;
        continue_trace(response.headers_mut(), continued.unwrap_or_default());
        Ok(response)
    }
}

/// JSON, or what binary tensors are sent as.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    encodings::check_uncompressed(headers)?;
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let given = given.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if given.eq_ignore_ascii_case(b"application/octet-stream")
        || encodings::of_body(headers).is_ok_and(|encoding| encoding == Encoding::Json)
    {
        return Ok(());
    }
    let given = String::from_utf8_lossy(given);
    let shown = sferic_wire::shortened(&given, 100);
    let message =
        format!("the content type is {shown:?}, must be application/json or application/octet-stream");
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// The JSON object of a body, which may be empty.
async fn object(pages: &Pages, request: Request) -> Result<Map<String, Value>, Refusal> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let body = pages.bodies.read(body).await?;
    if body.bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&body.bytes).map_err(|error| invalid(format!("the body: {error}")))
}

/// `POST /v2/repository/index`.
async fn index(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let answer = async {
        let only_ready = match object(&pages, request).await?.get("ready") {
            None => false,
            Some(Value::Bool(ready)) => *ready,
            Some(other) => return Err(invalid(format!("ready is {other}, must be a boolean"))),
        };
        let catalog = daemon(&pages)?.models.catalog();
        let versions = catalog.all().flat_map(|(name, versions)| {
            let shown = versions.versions.iter().filter(|version| !only_ready || version.model().is_some());
            shown.map(move |version| describe::entry(name, version))
        });
        Ok(Value::Array(versions.collect()))
    };
    respond(answer.await)
}

/// `POST …/load`: the highest version on disk becomes the active one.
async fn load(State(pages): State<Arc<Pages>>, asked: Asked, request: Request) -> Response {
    change(&pages, asked, request, "models.reload").await
}

/// `POST …/unload`.
async fn unload(State(pages): State<Arc<Pages>>, asked: Asked, request: Request) -> Response {
    change(&pages, asked, request, "models.unload").await
}

async fn change(pages: &Pages, asked: Asked, request: Request, what: &'static str) -> Response {
    let answer = async {
        let model = named(asked)?.model;
        let mut given = object(pages, request).await?;
        let parameters = match given.remove("parameters") {
            None => Map::new(),
            Some(Value::Object(parameters)) => parameters,
            Some(other) => return Err(invalid(format!("parameters is {other}, must be an object"))),
        };
        for (key, value) in &parameters {
            // Clients send it; there are none.
            if !(what == "models.unload" && key == "unload_dependents" && value.is_boolean()) {
                let key = sferic_wire::shortened(key, 100);
                return Err(invalid(format!(
                    "the parameter {key:?} is not taken: a bundle has its own model.toml"
                )));
            }
        }
        let change = json!({"model": model}).to_string().into();
        requests::change(&daemon(pages)?.models, what, &change).await.map_err(refused)
    };
    respond(answer.await)
}
