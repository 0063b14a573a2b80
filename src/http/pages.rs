//! The pages about the daemon, and what all of them know of it.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sferic_actors::cache::CacheStore;
use sferic_actors::frame::Encoding;
use sferic_settings::{Settings, given};
use sferic_telemetry::metrics::prometheus::{self, Format};
use sferic_telemetry::metrics::{ReadMetrics, Recorded};

use super::answers::written;
use super::body::Bodies;
use super::calls::Calls;
use super::errors::Refusal;
use crate::batch::Batches;
use crate::events::{Events, STARTING};
use crate::ingress::Ingress;
use crate::models::ModelService;
use crate::nats::{Endpoint, Health, HealthStatus};

/// The pages. They are served before the daemon runs, so that a supervisor sees it start.
pub struct Pages {
    daemon: OnceLock<Daemon>,
    pub(super) bodies: Bodies,
    pub(super) events: Arc<Events>,
    pub(super) page: PageOptions,
    calls: Arc<Calls>,
}

/// What the operator's page has to know of the daemon before it connects.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageOptions {
    /// Whether callers need a token. Without one nobody may control the daemon from the page.
    pub(super) has_token: bool,
    /// Whether there are streets.
    pub(super) has_basemap: bool,
}

/// The running daemon.
pub struct Daemon {
    /// The answer of `sferic.health`.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Reads the metrics.
    pub metrics: ReadMetrics,
    /// Takes frames in.
    pub ingress: Ingress,
    /// Runs batches.
    pub batches: Arc<Batches>,
    /// Whether answers are kept for equal frames.
    pub cache_enabled: bool,
    /// The cache.
    pub cache: Arc<CacheStore>,
    /// The models in service.
    pub models: Arc<ModelService>,
    /// What is recorded when an outcome is published.
    pub recorded: Arc<Recorded>,
    /// The control endpoints.
    pub control: Vec<Endpoint>,
    /// Start of the daemon.
    pub started: SystemTime,
}

impl Pages {
    /// Pages of a daemon that is starting.
    pub fn new(settings: &Settings, events: Arc<Events>) -> Self {
        let bodies = Bodies::new(settings.http.max_body, settings.limits.in_flight_bytes);
        let page = PageOptions {
            has_token: given(&settings.http.token).is_some(),
            has_basemap: !settings.page.basemap.as_os_str().is_empty(),
        };
        Self { daemon: OnceLock::new(), bodies, events, page, calls: Arc::default() }
    }

    /// Times of the calls.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Sets the state once the daemon runs.
    pub fn open(&self, daemon: Daemon) {
        // There is one daemon per process.
        let _ = self.daemon.set(daemon);
    }

    pub(super) fn daemon(&self) -> Option<&Daemon> {
        self.daemon.get()
    }
}

/// `GET /health`.
pub(super) async fn alive() -> Response {
    written(StatusCode::OK, &json!({"status": "alive"}), Encoding::Json)
}

/// `GET /ready`.
pub(super) async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    match pages.daemon().map(|daemon| (daemon.health)()) {
        Some(health) if health.status == HealthStatus::Ok => written(StatusCode::OK, &health, Encoding::Json),
        Some(health) => written(StatusCode::SERVICE_UNAVAILABLE, &health, Encoding::Json),
        None => {
            let health = json!({"status": HealthStatus::Starting, "reason": STARTING});
            written(StatusCode::SERVICE_UNAVAILABLE, &health, Encoding::Json)
        }
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let Some(daemon) = pages.daemon() else { return Refusal::starting().into_response() };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::asked_for(accept);
    ([(header::CONTENT_TYPE, format.content_type())], prometheus::write(&(daemon.metrics)(), format))
        .into_response()
}

/// `GET /openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}
