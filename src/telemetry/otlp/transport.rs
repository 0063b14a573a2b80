//! A request's way to the collector, over gRPC or HTTP: the same bytes either way.

use std::time::Duration;

use anyhow::Context;
use axum::body::HttpBody as Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::settings::OtlpProtocol;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Traces, Self::Metrics];

    /// Its name, which is its path under HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    fn method(self) -> PathAndQuery {
        PathAndQuery::from_static(match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        })
    }
}

/// A request that was not taken.
#[derive(Debug)]
pub struct Failed {
    /// Why, in words.
    pub message: String,
    /// Whether it may be taken later.
    pub is_worth_a_retry: bool,
}

impl Failed {
    fn for_now(message: impl ToString) -> Self {
        Self { message: message.to_string(), is_worth_a_retry: true }
    }
}

/// One of the two ways.
pub struct Transport {
    way: Way,
    authorization: Option<HeaderValue>,
}

enum Way {
    Grpc(Channel),
    Http { client: Client<HttpConnector, Full<Bytes>>, base: String },
    Https { client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>, base: String },
}

impl Transport {
    /// A way to `endpoint`, which is connected to when there is something to send.
    ///
    /// # Errors
    /// The endpoint is no address, or the system's root certificates can't be read for `https`.
    pub fn new(endpoint: &str, protocol: OtlpProtocol) -> anyhow::Result<Self> {
        let (endpoint, authorization) = without_userinfo(endpoint)?;
        let is_secure = endpoint.starts_with("https://");
        let way = match protocol {
            OtlpProtocol::Grpc => {
                let mut endpoint = Endpoint::from_shared(endpoint).context("telemetry.otlp_endpoint")?.connect_timeout(TIMEOUT);
                if is_secure {
                    endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).context("telemetry.otlp_endpoint")?;
                }
                Way::Grpc(endpoint.connect_lazy())
            }
            OtlpProtocol::Http => {
                let base = endpoint.trim_end_matches('/').to_owned();
                Request::get(&base).body(()).context("telemetry.otlp_endpoint")?;
                let builder = Client::builder(TokioExecutor::new());
                if is_secure {
                    let roots =
                        HttpsConnectorBuilder::new().with_native_roots().context("no root certificates for telemetry.otlp_endpoint")?;
                    Way::Https { client: builder.build(roots.https_only().enable_http1().build()), base }
                } else {
                    Way::Http { client: builder.build_http(), base }
                }
            }
        };
        Ok(Self { way, authorization })
    }

    /// Sends one request.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Result<(), Failed> {
        let sending = async {
            match &self.way {
                Way::Grpc(channel) => self.call(channel.clone(), signal, body).await,
                Way::Http { client, base } => answer(client.request(self.post(base, signal, body)?).await).await,
                Way::Https { client, base } => answer(client.request(self.post(base, signal, body)?).await).await,
            }
        };
        tokio::time::timeout(TIMEOUT, sending).await.unwrap_or_else(|_| Err(Failed::for_now(format!("no answer within {TIMEOUT:?}"))))
    }

    async fn call(&self, channel: Channel, signal: Signal, body: Bytes) -> Result<(), Failed> {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| Failed::for_now(chain(&error)))?;
        let mut request = tonic::Request::new(body);
        if let Some(value) = self.authorization.as_ref().and_then(|value| value.to_str().ok()?.parse().ok()) {
            request.metadata_mut().insert("authorization", value);
        }
        client.unary(request, signal.method(), Raw).await.map(drop).map_err(|status| Failed {
            message: format!("{:?}: {}", status.code(), status.message()),
            is_worth_a_retry: !matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::Unimplemented
                    | Code::Internal
            ),
        })
    }

    fn post(&self, base: &str, signal: Signal, body: Bytes) -> Result<Request<Full<Bytes>>, Failed> {
        let mut request = Request::post(format!("{base}/v1/{}", signal.as_str())).header(CONTENT_TYPE, "application/x-protobuf");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(Failed::for_now)
    }
}

async fn answer<B: Body>(answer: Result<Response<B>, hyper_util::client::legacy::Error>) -> Result<(), Failed> {
    let answer = answer.map_err(|error| Failed::for_now(chain(&error)))?;
    let status = answer.status();
    // Read to its end, the connection can be used again.
    let _ = answer.into_body().collect().await;
    if status.is_success() {
        return Ok(());
    }
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    Err(Failed { message: status.to_string(), is_worth_a_retry: busy.contains(&status) })
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The endpoint without `user:password@`, which goes into a header.
fn without_userinfo(endpoint: &str) -> anyhow::Result<(String, Option<HeaderValue>)> {
    let (scheme, rest) = endpoint.split_once("://").context("telemetry.otlp_endpoint has no scheme")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((userinfo, _)) = authority.rsplit_once('@') else { return Ok((endpoint.to_owned(), None)) };
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(userinfo)))?;
    value.set_sensitive(true);
    Ok((format!("{scheme}://{}", &rest[userinfo.len() + 1..]), Some(value)))
}

/// Messages that are encoded already.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_into_a_header() {
        assert_eq!(without_userinfo("http://h:4317").unwrap(), ("http://h:4317".into(), None));
        assert_eq!(without_userinfo("http://h:4318/a@b").unwrap(), ("http://h:4318/a@b".into(), None));
        let (endpoint, value) = without_userinfo("https://me:p@ss@h:4318/x").unwrap();
        assert_eq!(endpoint, "https://h:4318/x");
        assert_eq!(value.unwrap().to_str().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
    }
}
