//! The control endpoints for the operator's page: what `sferic.<endpoint>` answers on NATS.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::encodings::of_body;
use super::errors::{Refusal, refused};
use super::models::{as_json, of, respond};
use super::pages::Pages;

/// `POST /api/v1/control/{endpoint}`.
pub(super) async fn control(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let answer = async {
        // The guard has compared it.
        if !pages.page.has_token {
            let message = "http.token is empty, must be set for calls that control the daemon";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        let encoding = of_body(&parts.headers)?;
        let daemon = of(&pages)?;
        let endpoint = daemon.control.iter().find(|endpoint| endpoint.name() == name).ok_or_else(|| {
            let names: Vec<_> = daemon.control.iter().map(|endpoint| endpoint.name()).collect();
            let name = sferic_wire::shortened(&name, 100);
            let message = format!("there is no endpoint {name:?}, must be one of {}", names.join(", "));
            Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        let body = pages.bodies.read(body).await?;
        endpoint.call(as_json(&body.bytes, encoding)?).await.map_err(refused)
    };
    respond(answer.await, &parts.headers)
}
