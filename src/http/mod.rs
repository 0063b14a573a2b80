//! HTTP, off the data path: `/metrics`, `/health` and `/ready`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use sferic_telemetry::metrics::ReadMetrics;
use sferic_telemetry::metrics::prometheus::{self, Format};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::nats::{Health, HealthStatus};

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// The pages. They are served before the daemon runs, so that a supervisor sees it start.
#[derive(Default)]
pub struct Pages {
    daemon: OnceLock<Daemon>,
}

/// State of the running daemon.
pub struct Daemon {
    /// The answer of `sferic.health`.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// Reads the metrics.
    pub metrics: ReadMetrics,
}

impl Pages {
    /// Sets the state once the daemon runs.
    pub fn open(&self, daemon: Daemon) {
        // There is one daemon per process.
        let _ = self.daemon.set(daemon);
    }
}

impl Server {
    /// Serves `pages` at `listen`, an address and port.
    ///
    /// # Errors
    /// The address can't be had; names the key.
    pub async fn start(listen: &str, pages: Arc<Pages>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| {
            format!("http.listen is {listen:?}: can't listen there; \"\" switches HTTP off")
        })?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/health", get(async || json_page(StatusCode::OK, &json!({"status": "alive"}))))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(pages);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "HTTP ended");
            }
        });
        tracing::info!(%address, "HTTP is served");
        Ok(Self { address, serving })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    match pages.daemon.get().map(|daemon| (daemon.health)()) {
        Some(health) if health.status == HealthStatus::Ok => json_page(StatusCode::OK, &health),
        Some(health) => json_page(StatusCode::SERVICE_UNAVAILABLE, &health),
        None => json_page(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": HealthStatus::Starting, "reason": "the models are being loaded"}),
        ),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let Some(daemon) = pages.daemon.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::asked_for(accept);
    ([(header::CONTENT_TYPE, format.content_type())], prometheus::write(&(daemon.metrics)(), format))
        .into_response()
}

fn json_page(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
