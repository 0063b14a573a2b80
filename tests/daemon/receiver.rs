//! An OTLP receiver as a collector has it, over gRPC and HTTP, which keeps what it is sent.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::support::PATIENCE;

/// What has come.
#[derive(Clone, Default)]
pub struct Received {
    /// Spans, each with the name of the service that made it.
    pub spans: Vec<(String, Span)>,
    /// The metrics that came last.
    pub metrics: Vec<Metric>,
}

/// The receiver, on threads of its own, with which its connections end too; when it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<watch::Sender<Received>>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Keep(Arc<watch::Sender<Received>>);

impl Receiver {
    pub fn grpc() -> Self {
        Self::grpc_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn grpc_at(address: SocketAddr) -> Self {
        Self::start(address, |keep, listener| serve(Server::builder(), keep, listener))
    }

    /// Over TLS, with a certificate and its key in PEM.
    pub fn grpc_over_tls(certificate: &str, key: &str) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let server = Server::builder().tls_config(tls).unwrap();
        Self::start("127.0.0.1:0".parse().unwrap(), |keep, listener| serve(server, keep, listener))
    }

    pub fn http() -> Self {
        Self::start("127.0.0.1:0".parse().unwrap(), |keep, listener| async move {
            let routes = Router::new()
                .route(
                    "/v1/traces",
                    post(async |State(keep): State<Keep>, body: Bytes| {
                        keep.traces(Message::decode(body).unwrap())
                    }),
                )
                .route(
                    "/v1/metrics",
                    post(async |State(keep): State<Keep>, body: Bytes| {
                        keep.metrics(Message::decode(body).unwrap())
                    }),
                )
                .with_state(keep);
            axum::serve(listener, routes).await.unwrap();
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(Keep, TcpListener) -> F,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let received = Arc::new(watch::Sender::new(Received::default()));
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let entered = runtime.enter();
        runtime.spawn(serve(Keep(Arc::clone(&received)), TcpListener::from_std(listener).unwrap()));
        drop(entered);
        Self { address, received, runtime: Some(runtime) }
    }

    /// Its address as `telemetry.otlp_endpoint` has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `enough` is true of what has come, and gives that.
    pub async fn wait(&self, what: &str, enough: impl FnMut(&Received) -> bool) -> Received {
        let mut receiver = self.received.subscribe();
        let came = tokio::time::timeout(PATIENCE, receiver.wait_for(enough)).await.is_ok();
        assert!(came, "{what} does not come; {} spans did", self.received.borrow().spans.len());
        self.received.borrow().clone()
    }
}

async fn serve(mut server: Server, keep: Keep, listener: TcpListener) {
    let routes = server
        .add_service(TraceServiceServer::new(keep.clone()))
        .add_service(MetricsServiceServer::new(keep));
    routes.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Keep {
    fn traces(&self, request: ExportTraceServiceRequest) {
        self.0.send_modify(|received| {
            for resource in request.resource_spans {
                let service = text(&resource.resource.unwrap().attributes, "service.name").unwrap();
                received.spans.extend(
                    resource
                        .scope_spans
                        .into_iter()
                        .flat_map(|scope| scope.spans)
                        .map(|span| (service.clone(), span)),
                );
            }
        });
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics).collect();
        self.0.send_modify(|received| received.metrics = metrics);
    }
}

#[tonic::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Keep {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

/// The value of an attribute, as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::BoolValue(value) => value.to_string(),
        any_value::Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    })
}
