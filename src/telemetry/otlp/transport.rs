//! The two ways to a collector, gRPC and HTTP. Spans go through OpenTelemetry's own exporter, which repeats what may be taken later;
//! metrics, which that takes from its SDK alone, go over the same channel or client in requests of our own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, Request};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use percent_encoding::percent_decode_str;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::settings::OtlpProtocol;

/// How long one request may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request with spans is repeated.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Sends metrics.
pub enum MetricsClient {
    /// Over gRPC.
    Grpc(MetricsServiceClient<Channel>, MetadataMap),
    /// Over HTTP, to this address.
    Http(Arc<dyn HttpClient>, String, HeaderMap),
}

impl MetricsClient {
    /// Sends one request, once.
    pub async fn send(&self, message: ExportMetricsServiceRequest) -> anyhow::Result<()> {
        match self {
            Self::Grpc(client, metadata) => {
                let request = tonic::Request::from_parts(metadata.clone(), tonic::Extensions::default(), message);
                client.clone().export(request).await?;
            }
            Self::Http(client, address, headers) => {
                let mut request = Request::post(address).body(message.encode_to_vec().into())?;
                request.headers_mut().clone_from(headers);
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let status = client.send_bytes(request).await.map_err(|error| anyhow!(error))?.status();
                ensure!(status.is_success(), "{status}");
            }
        }
        Ok(())
    }
}

/// The ways of spans and of metrics to `endpoint`, which is connected to when there is something to send.
///
/// # Errors
/// The endpoint is no address, or the system's root certificates can't be read for `https`.
pub fn open(endpoint: &str, protocol: OtlpProtocol) -> anyhow::Result<(SpanExporter, MetricsClient)> {
    let (endpoint, authorization) = without_userinfo(endpoint)?;
    let mut headers = headers_of(&std::env::var("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default());
    headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
    let is_secure = endpoint.starts_with("https://");
    match protocol {
        OtlpProtocol::Grpc => {
            let mut to = Endpoint::from_shared(endpoint)?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
            if is_secure {
                to = to.tls_config(ClientTlsConfig::new().with_native_roots())?;
            }
            let (channel, metadata) = (to.connect_lazy(), MetadataMap::from_headers(headers));
            let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone()).with_metadata(metadata.clone());
            let spans = spans.with_timeout(PATIENCE).with_retry_policy(retries()).build()?;
            Ok((spans, MetricsClient::Grpc(MetricsServiceClient::new(channel), metadata)))
        }
        OtlpProtocol::Http if is_secure => {
            let roots = HttpsConnectorBuilder::new().with_native_roots().context("no root certificates")?;
            over_http(HyperClient::new(roots.https_only().enable_http1().build(), TIMEOUT, None), &endpoint, headers)
        }
        OtlpProtocol::Http => over_http(HyperClient::with_default_connector(TIMEOUT, None), &endpoint, headers),
    }
}

fn over_http(client: impl HttpClient + 'static, endpoint: &str, headers: HeaderMap) -> anyhow::Result<(SpanExporter, MetricsClient)> {
    let client: Arc<dyn HttpClient> = Arc::new(client);
    let address = |signal| format!("{}/v1/{signal}", endpoint.trim_end_matches('/'));
    let pairs = headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let spans = SpanExporter::builder().with_http().with_shared_http_client(Arc::clone(&client)).with_headers(pairs.collect());
    let spans = spans.with_endpoint(address("traces")).with_timeout(PATIENCE).with_retry_policy(retries()).build()?;
    Ok((spans, MetricsClient::Http(client, address("metrics"), headers)))
}

/// Until `PATIENCE` ends it.
fn retries() -> RetryPolicy {
    let second = Duration::from_secs(1);
    RetryPolicy::recommended().with_max_retries(usize::MAX).with_initial_delay(second).with_max_delay(TIMEOUT).with_max_jitter(second)
}

/// The endpoint without `user:password@`, which goes into a header.
fn without_userinfo(endpoint: &str) -> anyhow::Result<(String, Option<HeaderValue>)> {
    let (scheme, rest) = endpoint.split_once("://").context("no scheme")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((userinfo, _)) = authority.rsplit_once('@') else { return Ok((endpoint.to_owned(), None)) };
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(userinfo)))?;
    value.set_sensitive(true);
    Ok((format!("{scheme}://{}", &rest[userinfo.len() + 1..]), Some(value)))
}

/// What `OTEL_EXPORTER_OTLP_HEADERS` says, as the exporter of spans reads it: `name=value,name=value`, percent-encoded.
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
    use super::*;

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
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(pairs, [("api-key", "k=1"), ("authorization", "Basic bWU")]);
    }
}
