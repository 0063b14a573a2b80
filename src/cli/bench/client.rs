//! Sends a frame and waits for its outcome, over NATS or HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{HeaderMap as NatsHeaders, Message, Request, RequestErrorKind};
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sferic_actors::frame::Encoding;
use sferic_actors::task::Task;
use tokio::sync::oneshot;

use crate::nats::Connection;

/// A way to ask, and what frames are encoded in.
pub struct Client {
    pub way: Way,
    pub encoding: Encoding,
}

/// How a request has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// With a prediction.
    Answered { cache_hit: bool, outcome: Bytes },
    /// With a failure of this code.
    Failed(String),
    /// There was no outcome in time.
    TimedOut,
}

/// A way to ask.
pub enum Way {
    /// Requests over NATS.
    Request { connection: Connection, prefix: String },
    /// Publications over NATS, whose outcomes are read from their subjects.
    Publish { connection: Connection, prefix: String, waiting: Arc<Waiting> },
    /// Calls over HTTP.
    Http(HttpCalls),
}

/// `POST` to one address, over connections that are kept.
pub struct HttpCalls {
    client: Box<HttpClient<HttpConnector, Full<Bytes>>>,
    url: String,
    headers: HeaderMap,
    /// Whether answers are of the Open Inference Protocol, and not outcomes.
    is_oip: bool,
}

/// Who waits for an outcome, by the frame's id.
pub struct Waiting {
    ids: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    _reading: Mutex<Option<Task>>,
}

impl Way {
    /// Publishes, and reads the outcomes of its sources.
    ///
    /// # Errors
    /// The server refuses the subscription.
    pub async fn publishing(connection: &Connection, prefix: &str) -> anyhow::Result<Self> {
        let client = connection.client();
        let predictions = client.subscribe(format!("{prefix}.predictions.{SOURCE}.>")).await?;
        let failures = client.subscribe(format!("{prefix}.failures.{SOURCE}.>")).await?;
        client.flush().await.context("cannot subscribe to outcomes")?;
        let waiting = Arc::new(Waiting { ids: Mutex::default(), _reading: Mutex::default() });
        let outcomes = Arc::downgrade(&waiting);
        let mut messages = futures::stream::select(predictions, failures);
        let reading = Task::spawn(async move {
            while let Some(Message { payload, headers, .. }) = messages.next().await {
                let Some(waiting) = outcomes.upgrade() else { return };
                let id = headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
                let id = id.map(ToString::to_string).or_else(|| text(&payload, "frame_id"));
                let mut ids = waiting.ids.lock().unwrap_or_else(PoisonError::into_inner);
                let known = id.and_then(|id| ids.remove(&id));
                let known = known.or_else(|| ids.remove(&text(&payload, "frame_id")?));
                drop(ids);
                if let Some(waits) = known {
                    let _ = waits.send(payload);
                }
            }
        });
        *waiting._reading.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(Self::Publish { connection: connection.clone(), prefix: prefix.to_owned(), waiting })
    }
}

impl Client {
    /// Sends a frame of user `user`, and waits for its outcome for `patience` at most.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn ask(
        &self,
        user: u64,
        (id, frame): (String, Bytes),
        patience: Duration,
    ) -> anyhow::Result<Ended> {
        // MessagePack needs none.
        let headers = (self.encoding == Encoding::Json).then(|| {
            let mut headers = NatsHeaders::new();
            headers.insert("Content-Type", sferic_wire::content_type(self.encoding));
            headers
        });
        match &self.way {
            Way::Request { connection, prefix } => {
                let mut request = Request::new().payload(frame).timeout(Some(patience));
                request.headers = headers;
                let subject = format!("{prefix}.frames.{SOURCE}.{user}");
                match connection.client().send_request(subject, request).await {
                    Ok(Message { headers: None, payload, .. }) => {
                        // Outcomes have headers, the acknowledgement of a stream has none.
                        let answer = String::from_utf8_lossy(&payload);
                        bail!("not the daemon has answered but {answer}: with streams, use --mode publish")
                    }
                    Ok(message) => Ok(ended(message.headers.as_ref(), message.payload)),
                    Err(error) if error.kind() == RequestErrorKind::TimedOut => Ok(Ended::TimedOut),
                    Err(error) => Err(error.into()),
                }
            }
            Way::Publish { connection, prefix, waiting } => {
                let (sender, outcome) = oneshot::channel();
                let ids = &waiting.ids;
                ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
                let subject = format!("{prefix}.frames.{SOURCE}.{user}");
                let client = connection.client();
                match headers {
                    Some(headers) => client.publish_with_headers(subject, headers, frame).await?,
                    None => client.publish(subject, frame).await?,
                }
                match tokio::time::timeout(patience, outcome).await {
                    Ok(Ok(payload)) => Ok(ended(None, payload)),
                    _ => {
                        ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                        Ok(Ended::TimedOut)
                    }
                }
            }
            Way::Http(calls) => match tokio::time::timeout(patience, calls.call(frame)).await {
                Err(_) => Ok(Ended::TimedOut),
                Ok(ended) => ended.with_context(|| format!("no answer of {}", calls.url)),
            },
        }
    }
}

impl HttpCalls {
    /// Calls the daemon whose HTTP server is at this address, as `http://127.0.0.1:8003`.
    ///
    /// # Errors
    /// The token cannot be in a header.
    pub fn frames(address: &str, encoding: Encoding, token: &str) -> anyhow::Result<Self> {
        let mut calls = Self::new(address, "api/v1/inference/predict", token)?;
        let content_type = HeaderValue::from_static(sferic_wire::content_type(encoding));
        calls.headers.insert(CONTENT_TYPE, content_type.clone());
        calls.headers.insert(ACCEPT, content_type);
        Ok(calls)
    }

    /// The same by the Open Inference Protocol, for requests with JSON of this length; `model` is the name or
    /// `name@version`.
    ///
    /// # Errors
    /// The token cannot be in a header.
    pub fn oip(address: &str, model: &str, json_length: usize, token: &str) -> anyhow::Result<Self> {
        let model = model.replacen('@', "/versions/", 1);
        let mut calls = Self::new(address, &format!("v2/models/{model}/infer"), token)?;
        calls.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        calls.headers.insert("inference-header-content-length", json_length.into());
        calls.is_oip = true;
        Ok(calls)
    }

    fn new(address: &str, path: &str, token: &str) -> anyhow::Result<Self> {
        let client = Box::new(HttpClient::builder(TokioExecutor::new()).build_http());
        let url = format!("{}/{path}", address.trim_end_matches('/'));
        let mut headers = HeaderMap::new();
        if !token.is_empty() {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").try_into().context("the token")?);
        }
        Ok(Self { client, url, headers, is_oip: false })
    }

    async fn call(&self, body: Bytes) -> anyhow::Result<Ended> {
        let mut request = http::Request::post(&self.url).body(Full::new(body))?;
        request.headers_mut().clone_from(&self.headers);
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(match (status.is_success(), self.is_oip) {
            (true, false) => ended(None, body),
            (true, true) => Ended::Answered { cache_hit: false, outcome: body },
            (false, false) => Ended::Failed(text(&body, "error").unwrap_or_else(|| "unknown".to_owned())),
            // There the error is a sentence.
            (false, true) => Ended::Failed(format!("status {}", status.as_u16())),
        })
    }
}

/// The first tokens of the sources of its frames.
const SOURCE: &str = "bench";

fn ended(headers: Option<&NatsHeaders>, outcome: Bytes) -> Ended {
    let is_failure = headers.is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
    match text(&outcome, "code") {
        Some(code) => Ended::Failed(code),
        None if is_failure => Ended::Failed("unknown".to_owned()),
        None => Ended::Answered { cache_hit: flag(&outcome, "_cache_hit"), outcome },
    }
}

/// A text of an outcome.
fn text(outcome: &[u8], key: &str) -> Option<String> {
    value(outcome, key)?.as_str().map(str::to_owned)
}

fn flag(outcome: &[u8], key: &str) -> bool {
    value(outcome, key).and_then(|value| value.as_bool()).unwrap_or_default()
}

/// An outcome, in MessagePack or JSON.
pub fn read(outcome: &[u8]) -> Option<rmpv::Value> {
    match outcome.first() {
        // No map of MessagePack begins so.
        Some(b'{') => serde_json::from_slice(outcome).ok(),
        _ => rmpv::decode::read_value(&mut &outcome[..]).ok(),
    }
}

/// A value of an outcome.
fn value(outcome: &[u8], key: &str) -> Option<rmpv::Value> {
    let rmpv::Value::Map(entries) = read(outcome)? else { return None };
    entries.into_iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}
