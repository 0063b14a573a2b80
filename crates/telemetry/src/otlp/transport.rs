//! Transport of requests to the collector, over gRPC or HTTP with the same bytes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BufMut, Bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, Request};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use percent_encoding::percent_decode_str;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::counts::Signal;
use crate::OtlpProtocol;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The transport.
pub enum Transport {
    /// gRPC over this channel.
    Grpc(Channel, MetadataMap),
    /// HTTP below this URL.
    Http(Arc<dyn HttpClient>, String, HeaderMap),
}

/// Error of a request.
#[derive(Debug)]
pub struct Failed {
    /// The error.
    pub error: anyhow::Error,
    /// Delay after which to retry; `None` if that is useless.
    pub retry: Option<Duration>,
}

impl Failed {
    /// A temporary error.
    fn for_now(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), retry: Some(Duration::ZERO) }
    }
}

impl Transport {
    /// Creates a transport to `endpoint`, which connects with the first request.
    ///
    /// # Errors
    /// The endpoint is no address, or the system's root certificates can't be read for `https`.
    pub fn new(endpoint: &str, protocol: OtlpProtocol) -> anyhow::Result<Self> {
        let (endpoint, authorization) = without_userinfo(endpoint)?;
        let mut headers = headers_of(&std::env::var("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default());
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        let is_secure = endpoint.starts_with("https://");
        Ok(match protocol {
            OtlpProtocol::Grpc => {
                let mut to = Endpoint::from_shared(endpoint)?.connect_timeout(TIMEOUT);
                if is_secure {
                    to = to.tls_config(ClientTlsConfig::new().with_native_roots())?;
                }
                Self::Grpc(to.connect_lazy(), MetadataMap::from_headers(headers))
            }
            OtlpProtocol::Http => {
                Request::get(&endpoint).body(())?;
                let client: Arc<dyn HttpClient> = if is_secure {
                    let roots =
                        HttpsConnectorBuilder::new().with_native_roots().context("no root certificates")?;
                    Arc::new(HyperClient::new(roots.https_only().enable_http1().build(), TIMEOUT, None))
                } else {
                    Arc::new(HyperClient::with_default_connector(TIMEOUT, None))
                };
                Self::Http(client, endpoint.trim_end_matches('/').to_owned(), headers)
            }
        })
    }

    /// Sends one request, once. Returns what the collector rejected of it, though it accepted the request.
    ///
    /// # Errors
    /// The request was not taken.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Result<Option<PartialSuccess>, Failed> {
        let sending = async {
            match self {
                Self::Grpc(channel, metadata) => call(channel.clone(), metadata.clone(), signal, body).await,
                Self::Http(client, base, headers) => post(&**client, base, headers, signal, body).await,
            }
        };
        let sent = tokio::time::timeout(TIMEOUT, sending).await;
        let response =
            sent.unwrap_or_else(|_| Err(Failed::for_now(anyhow!("no answer within {TIMEOUT:?}"))))?;
        // The responses to both signals are the same on the wire.
        let response = ExportTraceServiceResponse::decode(response).unwrap_or_default();
        Ok(response.partial_success.filter(|part| part.rejected_spans > 0))
    }
}

/// What a collector rejected of a request, and why.
pub type PartialSuccess = ExportTracePartialSuccess;

async fn call(channel: Channel, metadata: MetadataMap, signal: Signal, body: Bytes) -> Result<Bytes, Failed> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(Failed::for_now)?;
    let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), body);
    let method = PathAndQuery::from_static(match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    });
    client.unary(request, method, Raw).await.map(tonic::Response::into_inner).map_err(|status| {
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        // By the specification of OTLP.
        let retry = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Some(delay.unwrap_or_default()),
            Code::ResourceExhausted => delay,
            _ => None,
        };
        Failed { error: status.into(), retry }
    })
}

async fn post(
    client: &dyn HttpClient,
    base: &str,
    headers: &HeaderMap,
    signal: Signal,
    body: Bytes,
) -> Result<Bytes, Failed> {
    let mut request =
        Request::post(format!("{base}/v1/{}", signal.as_str())).body(body).map_err(Failed::for_now)?;
    request.headers_mut().clone_from(headers);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let response = client.send_bytes(request).await.map_err(|error| Failed::for_now(anyhow!(error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry = busy.contains(&status).then(|| Duration::from_secs(seconds.unwrap_or(0)));
    Err(Failed { error: anyhow!("{status}"), retry })
}

/// Codec of messages that are already encoded.
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

/// The endpoint without `user:password@`, which is sent as a header.
fn without_userinfo(endpoint: &str) -> anyhow::Result<(String, Option<HeaderValue>)> {
    let (scheme, rest) = endpoint.split_once("://").context("no scheme")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((userinfo, _)) = authority.rsplit_once('@') else { return Ok((endpoint.to_owned(), None)) };
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(userinfo)))?;
    value.set_sensitive(true);
    Ok((format!("{scheme}://{}", &rest[userinfo.len() + 1..]), Some(value)))
}

/// Parses `OTEL_EXPORTER_OTLP_HEADERS` as the exporters of OpenTelemetry do: `name=value,name=value`,
/// percent-encoded.
fn headers_of(pairs: &str) -> HeaderMap {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    pairs.split(',').filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
        TraceService, TraceServiceServer,
    };
    use tokio::net::TcpListener;
    use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
    use tonic_types::ErrorDetails;

    use super::*;

    /// A collector that gives every request this answer.
    struct Collector(Result<ExportTraceServiceResponse, Status>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            _: tonic::Request<ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
            self.0.clone().map(tonic::Response::new)
        }
    }

    async fn listen() -> (String, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (format!("http://{}", listener.local_addr().unwrap()), listener)
    }

    async fn over_grpc(
        answer: Result<ExportTraceServiceResponse, Status>,
    ) -> Result<Option<PartialSuccess>, Failed> {
        let (endpoint, listener) = listen().await;
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(answer)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Transport::new(&endpoint, OtlpProtocol::Grpc).unwrap().send(Signal::Traces, Bytes::new()).await
    }

    async fn over_http<R: IntoResponse + Clone + Send + Sync + 'static>(
        answer: R,
    ) -> Result<Option<PartialSuccess>, Failed> {
        let (endpoint, listener) = listen().await;
        let router = Router::new().route("/v1/traces", post(async move || answer.clone()));
        tokio::spawn(async { axum::serve(listener, router).await });
        Transport::new(&endpoint, OtlpProtocol::Http).unwrap().send(Signal::Traces, Bytes::new()).await
    }

    fn retry(answer: Result<Option<PartialSuccess>, Failed>) -> Option<Duration> {
        answer.expect_err("taken").retry
    }

    #[tokio::test]
    async fn temporary_and_permanent_errors_are_distinguished_over_grpc() {
        let refused = |code| over_grpc(Err(Status::new(code, "no")));
        for code in [Code::Unavailable, Code::Aborted, Code::DeadlineExceeded] {
            assert_eq!(retry(refused(code).await), Some(Duration::ZERO), "{code:?}");
        }
        for code in
            [Code::InvalidArgument, Code::Unauthenticated, Code::Unimplemented, Code::ResourceExhausted]
        {
            assert_eq!(retry(refused(code).await), None, "{code:?}");
        }
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let later = Status::with_error_details(Code::ResourceExhausted, "full", later);
        assert_eq!(retry(over_grpc(Err(later)).await), Some(Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn temporary_and_permanent_errors_are_distinguished_over_http() {
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            assert_eq!(retry(over_http(status).await), Some(Duration::ZERO), "{status}");
            assert_eq!(
                retry(over_http((status, [(RETRY_AFTER, "7")])).await),
                Some(Duration::from_secs(7)),
                "{status}"
            );
        }
        for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            assert_eq!(retry(over_http(status).await), None, "{status}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_collector_is_temporary() {
        let (endpoint, listener) = listen().await;
        drop(listener);
        for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
            let sent = Transport::new(&endpoint, protocol).unwrap().send(Signal::Metrics, Bytes::new()).await;
            assert_eq!(retry(sent), Some(Duration::ZERO), "{protocol:?}");
        }
    }

    #[tokio::test]
    async fn partially_accepted_requests_are_accepted_and_logged() {
        let part = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
        let response = ExportTraceServiceResponse { partial_success: Some(part.clone()) };
        assert_eq!(over_http(response.encode_to_vec()).await.unwrap(), Some(part.clone()));
        assert_eq!(over_grpc(Ok(response)).await.unwrap(), Some(part));
        assert_eq!(over_grpc(Ok(ExportTraceServiceResponse::default())).await.unwrap(), None);
    }

    #[test]
    fn credentials_go_into_a_header() {
        assert_eq!(without_userinfo("http://h:4317").unwrap(), ("http://h:4317".into(), None));
        assert_eq!(without_userinfo("http://h:4318/a@b").unwrap(), ("http://h:4318/a@b".into(), None));
        let (endpoint, value) = without_userinfo("https://me:p@ss@h:4318/x").unwrap();
        assert_eq!(endpoint, "https://h:4318/x");
        assert_eq!(value.unwrap().to_str().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
    }

    #[test]
    fn headers_come_from_the_environment() {
        let headers = headers_of("api-key=k=1, Authorization=Basic%20bWU,,nothing,b d=1");
        let pairs: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(pairs, [("api-key", "k=1"), ("authorization", "Basic bWU")]);
    }
}
