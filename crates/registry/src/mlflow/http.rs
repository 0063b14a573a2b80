//! Requests over HTTP, bounded in time and bytes. No redirect is followed.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::RegistryError::{self, Refused, Unreachable};

/// The most bytes of an answer that is kept in memory.
const MAX_ANSWER: u64 = 4 << 20;

/// The most characters of a server's own message that are shown.
const MAX_MESSAGE: usize = 300;

/// How long a server may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For a request of the API.
    pub(super) api: Duration,
    /// Without a byte of a file.
    pub(super) stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { api: Duration::from_secs(10), stall: Duration::from_secs(60) }
    }
}

/// A client.
pub(super) struct Http {
    client: Connections,
    patience: Patience,
}

/// Without https the system's root certificates are not read: there may be none.
enum Connections {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Secure(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

impl Http {
    /// Creates a client, which connects with the first request.
    ///
    /// # Errors
    /// The system's root certificates can't be read, which https needs.
    pub(super) fn new(is_secure: bool, patience: Patience) -> Result<Self, String> {
        let builder = Client::builder(TokioExecutor::new());
        let client = if is_secure {
            let roots = HttpsConnectorBuilder::new()
                .with_native_roots()
                .map_err(|error| format!("https needs the system's root certificates: {error}"))?;
            Connections::Secure(builder.build(roots.https_only().enable_http1().build()))
        } else {
            Connections::Plain(builder.build_http())
        };
        Ok(Self { client, patience })
    }

    fn request(&self, url: &str, who: Option<&HeaderValue>) -> Result<ResponseFuture, RegistryError> {
        let no_address = || Refused(format!("{url} is no address"));
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::try_from(url).map_err(|_| no_address())?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("sferic"));
        if let Some(who) = who {
            request.headers_mut().insert(AUTHORIZATION, who.clone());
        }
        Ok(match &self.client {
            Connections::Plain(client) => client.request(request),
            Connections::Secure(client) => client.request(request),
        })
    }

    /// The text at a URL.
    ///
    /// # Errors
    /// No answer in time, an answer that is too large, or another status than success.
    pub(super) async fn text(&self, url: &str, who: Option<&HeaderValue>) -> Result<String, RegistryError> {
        let asking = async {
            let response = self.request(url, who)?.await.map_err(|error| lost(url, &error))?;
            let status = response.status();
            let location = response.headers().get(LOCATION).cloned();
            let text = read(url, response).await?;
            if status.is_success() { Ok(text) } else { Err(refusal(url, status, location.as_ref(), &text)) }
        };
        let limit = self.patience.api;
        let late = |_| Unreachable(format!("{}: no answer within {limit:?}", shown(url)));
        timeout(limit, asking).await.map_err(late)?
    }

    /// Writes what is at a URL into a new file; its size, which is the listed one where one is listed.
    ///
    /// # Errors
    /// It stalls, ends early, has another size than was said, or more than `most` bytes.
    pub(super) async fn download(
        &self,
        url: &str,
        who: Option<&HeaderValue>,
        to: &Path,
        listed: Option<u64>,
        most: u64,
    ) -> Result<u64, RegistryError> {
        let stall = self.patience.stall;
        let stalled = |_| Unreachable(format!("{}: not a byte for {stall:?}", shown(url)));
        let response = timeout(stall, self.request(url, who)?).await.map_err(stalled)?;
        let response = response.map_err(|error| lost(url, &error))?;
        let status = response.status();
        if status != StatusCode::OK {
            let location = response.headers().get(LOCATION).cloned();
            let text = timeout(stall, read(url, response)).await.map_err(stalled)??;
            return Err(refusal(url, status, location.as_ref(), &text));
        }
        let stated = length(&response);
        let differs = |what: &str, size: u64, listed: u64| {
            Unreachable(format!("{}: {what} {size} bytes, its list says {listed}", shown(url)))
        };
        match (stated, listed) {
            (Some(stated), Some(listed)) if stated != listed => {
                return Err(differs("it comes with", stated, listed));
            }
            (None, None) if !response.headers().contains_key(TRANSFER_ENCODING) => {
                let without = "comes without a length, so that nothing would show it whole";
                return Err(Refused(format!("{} {without}", shown(url))));
            }
            _ => {}
        }
        // Before it is begun where its size is known.
        let too_large = || Refused(format!("{}: has more bytes than are left, {most}", shown(url)));
        if stated.or(listed).is_some_and(|size| size > most) {
            return Err(too_large());
        }
        let unwritten = |error| Unreachable(format!("can't write {}: {error}", to.display()));
        let mut file = tokio::fs::File::create_new(to).await.map_err(unwritten)?;
        let mut body = response.into_body();
        let mut size = 0_u64;
        while let Some(frame) = timeout(stall, body.frame()).await.map_err(stalled)? {
            let frame = frame.map_err(|error| lost(url, &error))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len() as u64;
            if size > most {
                return Err(too_large());
            }
            file.write_all(&data).await.map_err(unwritten)?;
        }
        file.flush().await.map_err(unwritten)?;
        match stated.or(listed) {
            Some(expected) if expected != size => Err(differs("came", size, expected)),
            _ => Ok(size),
        }
    }
}

fn length<B>(response: &Response<B>) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body of an answer, as text.
async fn read<B>(url: &str, response: Response<B>) -> Result<String, RegistryError>
where
    B: http_body_util::BodyExt<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| lost(url, &error))?.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > MAX_ANSWER {
            return Err(Refused(format!(
                "{}: the answer has more than {MAX_ANSWER} bytes; is it an MLflow server?",
                shown(url)
            )));
        }
        bytes.extend_from_slice(&data);
    }
    String::from_utf8(bytes).map_err(|_| Refused(format!("{}: the answer is no text", shown(url))))
}

/// A URL as messages have it: without what is asked for.
fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}

/// An error of the connection, with its cause: the outer ones say little.
fn lost(url: &str, error: &(dyn Error + 'static)) -> RegistryError {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Unreachable(format!("{}: {cause}", shown(url)))
}

/// An answer that is no success.
fn refusal(url: &str, status: StatusCode, location: Option<&HeaderValue>, text: &str) -> RegistryError {
    let url = shown(url);
    if status.is_redirection() {
        // The rest of it may hold secrets.
        let to = location.and_then(|to| Uri::try_from(to.as_bytes()).ok());
        let to = to.and_then(|to| to.host().map(str::to_owned)).unwrap_or_else(|| "elsewhere".to_owned());
        return Refused(format!(
            "{url} redirects to {to}, which is not followed: url must be the server's own address"
        ));
    }
    let said = said(text);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refused(format!(
            "{url}: {status}; give a user who may read with user:password@ in url, or \
             MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the \
             environment{said}"
        )),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Unreachable(format!("{url}: {status}{said}"))
        }
        _ if status.is_server_error() => Unreachable(format!("{url}: {status}{said}")),
        _ => Refused(format!("{url}: {status}{said}")),
    }
}

/// What an MLflow server says of its refusal; nothing where it is none.
fn said(text: &str) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let Ok(Said { message }) = serde_json::from_str(text) else { return String::new() };
    let message: String = message.chars().take(MAX_MESSAGE).collect();
    format!(": {}", message.escape_debug())
}
