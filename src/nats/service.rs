//! The NATS micro service: `$SRV.PING`, `INFO`, `STATS` and the control endpoints.

use std::sync::Arc;

use async_nats::service::{self, ServiceExt};
use futures::StreamExt;
use serde::Serialize;
use sferic_actors::ledger::Counts;
use tokio::task::JoinHandle;

use super::Connection;

/// What `sferic.health` answers.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// `ok` once every model is loaded and warmed and the subscription is live; before that `starting`, after that `stopping`.
    pub status: &'static str,
    /// The daemon's version.
    pub version: &'static str,
    /// Every loaded version of every model.
    pub models: Vec<ModelHealth>,
    /// The outcome law.
    pub ledger: Counts,
}

/// One model's part of the health.
#[derive(Debug, Clone, Serialize)]
pub struct ModelHealth {
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// `ready`, or where its circuit stands.
    pub state: &'static str,
}

/// The running service.
#[derive(Debug)]
pub struct Service {
    service: service::Service,
    answering: JoinHandle<()>,
}

impl Service {
    /// Starts the service; `health` is asked at every request, `statistics` for the data of each endpoint's `$SRV.STATS`.
    pub async fn start(
        connection: &Connection,
        health: Arc<dyn Fn() -> Health + Send + Sync>,
        statistics: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let service = connection
            .client
            .service_builder()
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .stats_handler(move |_, _| statistics())
            .start("sferic", env!("CARGO_PKG_VERSION"))
            .await
            .map_err(anyhow::Error::from_boxed)?;
        let mut requests = service.group("sferic").endpoint("health").await.map_err(anyhow::Error::from_boxed)?;
        let answering = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let answer = serde_json::to_vec(&health())
                    .map(Into::into)
                    .map_err(|error| service::error::Error { status: error.to_string(), code: 500 });
                if let Err(error) = request.respond(answer).await {
                    tracing::warn!(%error, "a health request could not be answered");
                }
            }
        });
        Ok(Self { service, answering })
    }

    /// Ends the service.
    pub async fn stop(self) {
        if let Err(error) = self.service.stop().await {
            tracing::warn!(%error, "the service could not be stopped");
        }
        self.answering.abort();
    }
}
