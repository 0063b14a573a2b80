//! The NATS micro service: `$SRV.PING`, `INFO`, `STATS` and the control endpoints.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_nats::service::{self, ServiceExt};
use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sferic_actors::account::ledger::LedgerCounts;
use sferic_actors::task::Task;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Connection;

/// Whether the daemon is ready, as it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// Models are being loaded, or the subscription is not live for the first time yet.
    Starting,
    /// Every model is loaded and warmed, and the subscription is live.
    Ok,
    /// The input is paused.
    Paused,
    /// No frame can come in, or no outcome go out.
    Disconnected,
    /// The daemon is ending.
    Stopping,
}

impl HealthStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ok, Self::Paused, Self::Disconnected, Self::Stopping];

    /// The status as it is published.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Paused => "paused",
            Self::Disconnected => "disconnected",
            Self::Stopping => "stopping",
        }
    }
}

impl Serialize for HealthStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The answer of `sferic.health`.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Whether the daemon is ready.
    pub status: HealthStatus,
    /// Why it is not `ok`, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The daemon's version.
    pub version: &'static str,
    /// Every version of every model.
    pub models: Vec<ModelHealth>,
    /// The outcome law.
    pub ledger: LedgerCounts,
}

/// Health of a model version.
#[derive(Debug, Clone, Serialize)]
pub struct ModelHealth {
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// `loading`, `ready`, `failed`, `draining` or `unloaded`; of a ready one the state of its circuit, where
    /// that is not closed.
    pub state: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Error of a control request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlError {
    code: u16,
    message: String,
}

impl ControlError {
    /// An error with an HTTP-like code, and a message with the value and what is allowed.
    pub fn new(code: u16, message: impl fmt::Display) -> Self {
        // It goes into a header, which is one line.
        Self { code, message: message.to_string().replace(['\r', '\n'], " ") }
    }

    /// After HTTP's.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// In words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Handles the payload of a control request.
type Handler = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<Value, ControlError>> + Send + Sync>;

/// A control endpoint: `sferic.<name>`, which any daemon on the server answers, and `sferic.<name>.<id>`,
/// which the one with this id answers.
#[derive(Clone)]
pub struct Endpoint {
    name: &'static str,
    handler: Handler,
}

impl Endpoint {
    /// An endpoint that answers with JSON. It handles one request at a time, concurrently with other
    /// endpoints.
    pub fn new<F>(name: &'static str, handler: impl Fn(Bytes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, ControlError>> + Send + 'static,
    {
        Self { name, handler: Arc::new(move |payload| Box::pin(handler(payload))) }
    }

    /// Its name, as it follows `sferic.`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Answers a request.
    ///
    /// # Errors
    /// It is refused.
    pub async fn call(&self, request: Bytes) -> Result<Value, ControlError> {
        (self.handler)(request).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The running service, which is started again with every new client of the connection.
#[derive(Debug)]
pub struct Service {
    id: watch::Receiver<String>,
    stopping: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// The description in `$SRV.INFO` and `$SRV.STATS`, and the endpoints.
struct Description {
    metadata: Metadata,
    endpoints: Vec<Endpoint>,
    statistics: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// What `$SRV.PING` and `$SRV.INFO` say of this daemon. The library reads it once, so the service is started
/// again where it changes.
pub struct Metadata {
    /// What it is now.
    pub read: Box<dyn Fn() -> HashMap<String, String> + Send + Sync>,
    /// Change with it.
    pub changed: [watch::Receiver<bool>; 2],
}

impl Metadata {
    /// Waits until it may have changed.
    async fn changed(&mut self) {
        let [one, other] = &mut self.changed;
        tokio::select! {
            Ok(()) = one.changed() => {}
            Ok(()) = other.changed() => {}
            else => std::future::pending().await,
        }
    }
}

impl Service {
    /// Starts the service. `statistics` gives the data of each endpoint in `$SRV.STATS`; `metadata` is in
    /// `$SRV.PING` and `$SRV.INFO`.
    ///
    /// # Errors
    /// A defect: the library refuses the name or the version.
    pub async fn start(
        connection: &Connection,
        metadata: Metadata,
        endpoints: Vec<Endpoint>,
        statistics: impl Fn() -> Value + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let description = Description { metadata, endpoints, statistics: Arc::new(statistics) };
        let generation = connection.generation();
        let running = Running::start(&connection.client(), &description).await?;
        let (naming, id) = watch::channel(running.id.clone());
        let (stopping, stopped) = oneshot::channel();
        let serving =
            tokio::spawn(serve(connection.clone(), description, generation, running, naming, stopped));
        Ok(Self { id, stopping, serving })
    }

    /// The current id of the service, which identifies this daemon.
    pub fn id(&self) -> watch::Receiver<String> {
        self.id.clone()
    }

    /// Ends the service.
    pub async fn stop(self) {
        let _ = self.stopping.send(());
        let _ = self.serving.await;
    }
}

async fn serve(
    connection: Connection,
    mut description: Description,
    mut generation: u64,
    running: Running,
    naming: watch::Sender<String>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut running = Some(running);
    loop {
        tokio::select! {
            _ = &mut stopped => {
                if let Some(running) = running {
                    running.stop().await;
                }
                return;
            }
            is_there = connection.renewed(generation) => if !is_there { return },
            () = description.metadata.changed() => {
                if let Some(running) = running.take() {
                    running.stop().await;
                }
            }
        }
        generation = connection.generation();
        match Running::start(&connection.client(), &description).await {
            Ok(restarted) => {
                naming.send_replace(restarted.id.clone());
                running = Some(restarted);
            }
            // That client has ended; the next one starts the service.
            Err(error) => tracing::warn!(%error, "the service could not be started"),
        }
    }
}

/// The service of one client.
struct Running {
    service: service::Service,
    id: String,
    _answering: Vec<Task>,
}

impl Running {
    async fn start(client: &Client, description: &Description) -> anyhow::Result<Self> {
        let statistics = Arc::clone(&description.statistics);
        let service = client
            .service_builder()
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .metadata((description.metadata.read)())
            .stats_handler(move |_, _| statistics())
            .start("sferic", env!("CARGO_PKG_VERSION"))
            .await
            .map_err(anyhow::Error::from_boxed)?;
        let id = service.info().await.id;
        let group = service.group("sferic");
        let mut answering = Vec::new();
        for Endpoint { name, handler } in &description.endpoints {
            let shared = group.endpoint(*name).await.map_err(anyhow::Error::from_boxed)?;
            let own = client.subscribe(format!("sferic.{name}.{id}")).await?;
            answering.push(Task::spawn(answer(name, Arc::clone(handler), client.clone(), shared, own)));
        }
        Ok(Self { service, id, _answering: answering })
    }

    async fn stop(self) {
        if let Err(error) = self.service.stop().await {
            tracing::warn!(%error, "the service could not be stopped");
        }
    }
}

async fn answer(
    name: &'static str,
    handler: Handler,
    client: Client,
    mut shared: service::endpoint::Endpoint,
    mut own: Subscriber,
) {
    loop {
        let replied = tokio::select! {
            Some(request) = shared.next() => {
                match handler(request.message.payload.clone()).await {
                    Ok(answer) => request.respond(Ok(to_bytes(answer))).await,
                    Err(error) => refuse(&client, request, error).await,
                }
            }
            Some(message) = own.next() => {
                let answer = handler(message.payload.clone()).await;
                respond(&client, message, answer).await
            }
            else => return,
        };
        if let Err(error) = replied {
            tracing::warn!(endpoint = name, %error, "a control request could not be answered");
        }
    }
}

/// Answers a request with an error. The library's own answer has no body: it goes to nobody, and counts.
async fn refuse(
    client: &Client,
    mut request: service::Request,
    error: ControlError,
) -> Result<(), async_nats::PublishError> {
    let message = request.message.clone();
    request.message.reply = Some(client.new_inbox().into());
    request.respond(Err(to_error(&error))).await?;
    respond(client, message, Err(error)).await
}

/// Answers a request in the way the library does for its own endpoints, with a body for an error too.
async fn respond(
    client: &Client,
    request: Message,
    answer: Result<Value, ControlError>,
) -> Result<(), async_nats::PublishError> {
    let Some(reply) = request.reply else { return Ok(()) };
    match answer {
        Ok(answer) => client.publish(reply, to_bytes(answer)).await,
        Err(ControlError { code, message }) => {
            let mut headers = HeaderMap::new();
            headers.insert(service::NATS_SERVICE_ERROR, message.as_str());
            headers.insert(service::NATS_SERVICE_ERROR_CODE, code.to_string().as_str());
            let body = json!({"success": false, "message": message});
            client.publish_with_headers(reply, headers, to_bytes(body)).await
        }
    }
}

fn to_bytes(answer: Value) -> Bytes {
    answer.to_string().into()
}

fn to_error(error: &ControlError) -> service::error::Error {
    service::error::Error { status: error.message.clone(), code: error.code.into() }
}
