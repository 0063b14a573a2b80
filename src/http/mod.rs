//! HTTP: predictions for programs without NATS, and the pages about the daemon.
//!
//! A call passes the [`guard`] first, then its route. Every answer that is no success has the same form
//! ([`errors`]); bodies and connections are bounded in bytes, number and time.

mod answers;
mod body;
mod calls;
mod connections;
mod control;
mod encodings;
mod errors;
mod events;
mod guard;
mod inference;
mod models;
mod oip;
mod page;
mod pages;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use calls::Calls;
use errors::Refusal;
use guard::Guard;
pub use pages::{Daemon, Pages};
use sferic_settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves `pages` at `http.listen`.
    ///
    /// # Errors
    /// The address can't be had, or everyone would reach it, or `page.basemap` is no map; names the key.
    pub async fn start(settings: &Settings, pages: Arc<Pages>) -> anyhow::Result<Self> {
        let http = &settings.http;
        page::check_basemap(&settings.page.basemap)?;
        let listen = &http.listen;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| {
            format!("http.listen is {listen:?}: can't listen there; \"\" switches HTTP off")
        })?;
        let address = listener.local_addr()?;
        if let Some(fault) = http.too_open(address.ip()) {
            bail!("`http.listen` {fault}");
        }
        let (stopping, stopped) = watch::channel(false);
        let serving = tokio::spawn(connections::serve(listener, routes(settings, pages), stopped));
        tracing::info!(%address, "HTTP is served");
        Ok(Self { address, stopping, serving })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, and waits, at most `bound`, until what was asked for is answered.
    pub async fn stop(mut self, bound: Duration) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(bound, &mut self.serving).await.is_err() {
            tracing::warn!("HTTP connections were cut: their clients did not take their answers in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn routes(settings: &Settings, pages: Arc<Pages>) -> Router {
    let guard = Arc::new((Guard::new(&settings.http), Arc::clone(pages.calls())));
    let routes = Router::new()
        .route("/health", get(pages::alive))
        .route("/ready", get(pages::ready))
        .route("/metrics", get(pages::metrics))
        .route("/openapi.json", get(pages::openapi))
        .route("/api/v1/inference/health", get(inference::health))
        .route("/api/v1/inference/predict", post(inference::predict))
        .route("/api/v1/inference/predict/batch", post(inference::predict_batch))
        .route("/model/info", get(models::info))
        .route("/model/versions", get(models::versions))
        .route("/model/performance", get(models::performance))
        .route("/model/reload", post(models::reload))
        .route("/", get(page::index))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/control/{endpoint}", post(control::control))
        .merge(page::files(&settings.page))
        .merge(oip::routes())
        .route_layer(middleware::from_fn(calls::with_route))
        .fallback(unknown)
        .with_state(pages);
    // Around all of them at once: a layer of the routes would not see what the router adds to their answers.
    Router::new().fallback_service(routes).layer(middleware::from_fn_with_state(guard, guarded))
}

async fn unknown(request: Request) -> Refusal {
    let path = sferic_wire::shortened(request.uri().path(), 100).into_owned();
    Refusal::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {path:?}; see /openapi.json"),
    )
}

/// Guards a call, and finishes its answer.
async fn guarded(State(state): State<Arc<(Guard, Arc<Calls>)>>, request: Request, next: Next) -> Response {
    let (guard, calls) = &*state;
    let began = Instant::now();
    let (call, body) = request.into_parts();
    let is_oip = call.uri.path().split('/').nth(1) == Some("v2");
    let (method, answer) = match guard.check(&call) {
        Ok(()) => (call.method.clone(), next.run(Request::from_parts(call, body)).await),
        Err(refusal) => (call.method, refusal.into_response()),
    };
    let answer = match (answer.status(), answer.headers().get(header::ALLOW)) {
        (StatusCode::METHOD_NOT_ALLOWED, Some(allowed)) => {
            let methods = allowed.to_str().unwrap_or_default().replace(',', ", ");
            let message = format!("the method is {method}, must be one of {methods}");
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
                .with(header::ALLOW, allowed.clone())
                .into_response()
        }
        _ => answer,
    };
    calls.answered(&answer, began.elapsed());
    let mut answer = match answer.extensions().get::<Refusal>() {
        Some(refusal) if is_oip => refusal.clone().in_words().into_response(),
        _ => answer,
    };
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page sets a policy of its own, which includes this.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("frame-ancestors 'none'"));
    answer
}

#[cfg(test)]
mod tests;
