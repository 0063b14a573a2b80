//! Export over OTLP, off the data path: a bounded queue of spans that never blocks, and one task per signal.
//!
//! A slow collector fills the queue; an unreachable one is retried at growing intervals. When the queue is
//! full, spans are counted as dropped and not built.

mod counts;
mod metrics;
mod queue;
mod scope;
pub mod spans;
mod transport;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use prost::Message;
use sferic_actors::jitter::jitter;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::counts::{ExportCounts, Signal};
pub use self::queue::{Reservation, TraceQueue};
use self::scope::scope;
use self::spans::Spans;
use self::transport::Transport;
use super::metrics::ReadMetrics;
use crate::throttle::Throttle;
use crate::{ExportOptions, with_causes};

/// Time for which a request gathers frames.
const LINGER: Duration = Duration::from_millis(50);
/// Delay before a request is repeated; it doubles up to the maximum.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// The exporter.
pub struct Exporter {
    link: Arc<Link>,
    queue: TraceQueue,
    closing: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    interval: Duration,
}

/// State of both signals.
struct Link {
    transport: Transport,
    resource: opentelemetry_proto::tonic::resource::v1::Resource,
    counts: Arc<ExportCounts>,
    complaints: Throttle,
}

impl Exporter {
    /// Starts exporting to `endpoint`. It connects with the first request, so a collector may come later.
    ///
    /// # Errors
    /// The endpoint is no address, or the system's root certificates can't be read for `https`.
    pub fn start(endpoint: &str, options: &ExportOptions) -> anyhow::Result<Self> {
        let transport = Transport::new(endpoint, options.protocol).context("telemetry.otlp_endpoint")?;
        let counts = Arc::<ExportCounts>::default();
        let queue = TraceQueue::new(Arc::clone(&counts));
        let link = Arc::new(Link {
            transport,
            resource: (&resource()).into(),
            counts,
            complaints: Throttle::new(Duration::from_secs(60)),
        });
        let (closing, closed) = watch::channel(false);
        let tasks = vec![tokio::spawn(Arc::clone(&link).export_traces(queue.clone(), closed))];
        Ok(Self { link, queue, closing, tasks, interval: options.metrics_interval })
    }

    /// The queue of spans.
    pub fn queue(&self) -> TraceQueue {
        self.queue.clone()
    }

    /// Counters of the export.
    pub fn counts(&self) -> Arc<ExportCounts> {
        Arc::clone(&self.link.counts)
    }

    /// Exports what `read` gives too; its counters count from `started` on.
    pub fn export_metrics(&mut self, read: ReadMetrics, started: SystemTime) {
        let exporting =
            Arc::clone(&self.link).export_metrics(read, started, self.interval, self.closing.subscribe());
        self.tasks.push(tokio::spawn(exporting));
    }

    /// Exports what is queued, within `bound`.
    pub async fn close(self, bound: Duration) {
        self.closing.send_replace(true);
        let ended = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(bound, ended).await.is_err() {
            tracing::warn!("the collector does not answer: what was left of the telemetry is not exported");
        }
    }
}

impl Link {
    async fn export_traces(self: Arc<Self>, queue: TraceQueue, mut closed: watch::Receiver<bool>) {
        let mut spans = Spans::default();
        loop {
            let mut is_last = tokio::select! {
                () = queue.rung() => false,
                () = is_closed(&mut closed) => true,
            };
            // Not woken by every frame that comes meanwhile.
            if !is_last {
                is_last = tokio::select! {
                    () = tokio::time::sleep(LINGER) => false,
                    () = queue.rung() => false,
                    () = is_closed(&mut closed) => true,
                };
            }
            let frames = queue.take(&mut spans);
            if frames > 0 {
                let request = spans.request(&self.resource, &scope());
                spans.clear();
                let outcome = if self.send_for_long(request, &mut closed).await {
                    &self.counts.exported
                } else {
                    &self.counts.failed
                };
                outcome.fetch_add(frames, Relaxed);
            }
            if is_last {
                return;
            }
        }
    }

    /// Repeats a request until the collector accepts it or rejects it for good, or until shutdown.
    async fn send_for_long(&self, request: Bytes, closed: &mut watch::Receiver<bool>) -> bool {
        let mut wait = RETRY;
        loop {
            let is_last = *closed.borrow();
            match self.send(Signal::Traces, request.clone()).await {
                Ok(()) => return true,
                Err(Some(least)) if !is_last => {
                    let wait = wait.mul_f64(0.5 + 0.5 * jitter()).max(least);
                    let _ = tokio::time::timeout(wait, is_closed(closed)).await;
                }
                Err(_) => return false,
            }
            wait = (2 * wait).min(LONGEST_RETRY);
        }
    }

    async fn export_metrics(
        self: Arc<Self>,
        read: ReadMetrics,
        started: SystemTime,
        interval: Duration,
        mut closed: watch::Receiver<bool>,
    ) {
        loop {
            let is_last = tokio::time::timeout(interval, is_closed(&mut closed)).await.is_ok();
            let request = metrics::request(&read(), &self.resource, started);
            // A failed one is superseded by the next.
            let _ = self.send(Signal::Metrics, request.encode_to_vec().into()).await;
            if is_last {
                return;
            }
        }
    }

    /// Sends a request once, counts it and logs an error; the error says whether and after what delay to
    /// retry.
    async fn send(&self, signal: Signal, request: Bytes) -> Result<(), Option<Duration>> {
        let result = self.transport.send(signal, request).await;
        self.counts.requests[signal as usize][usize::from(result.is_err())].fetch_add(1, Relaxed);
        let complaint = match &result {
            Ok(rejected) => rejected
                .as_ref()
                .map(|part| format!("{} refused: {}", part.rejected_spans, part.error_message)),
            Err(failed) => Some(with_causes(&failed.error)),
        };
        if let Some(error) = complaint
            && let Some(suppressed) = self.complaints.pass(tokio::time::Instant::now())
        {
            tracing::warn!(error, signal = signal.as_str(), suppressed, "telemetry could not be exported");
        }
        result.map(drop).map_err(|failed| failed.retry)
    }
}

async fn is_closed(closed: &mut watch::Receiver<bool>) {
    // A dropped sender asks for shutdown too.
    let _ = closed.wait_for(|&closed| closed).await;
}

/// The resource of this process; `OTEL_RESOURCE_ATTRIBUTES` may add attributes.
fn resource() -> Resource {
    let instance = uuid::Uuid::now_v7().to_string();
    Resource::builder_empty()
        .with_service_name("sferic")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;

    use super::*;
    use crate::OtlpProtocol;

    #[tokio::test]
    async fn a_request_is_repeated_until_it_is_accepted() {
        let came = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = Arc::clone(&came);
        let refusals = AtomicUsize::new(1);
        let answer = Arc::new(move |body: Bytes| {
            keep.lock().unwrap().push(body);
            if refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(async move |body: Bytes| answer(body)));
        tokio::spawn(async { axum::serve(listener, router).await });

        let options =
            ExportOptions { protocol: OtlpProtocol::Http, metrics_interval: Duration::from_secs(15) };
        let exporter = Exporter::start(&endpoint, &options).unwrap();
        let counts = exporter.counts();
        drop(exporter.queue().reserve());
        let taken = async {
            while counts.exported.load(Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), taken).await.unwrap();
        let attempts = came.lock().unwrap().clone();
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0], attempts[1]);
        let [taken, failed] = &counts.requests[Signal::Traces as usize];
        assert_eq!((taken.load(Relaxed), failed.load(Relaxed), counts.failed.load(Relaxed)), (1, 1, 0));
        exporter.close(Duration::from_secs(10)).await;
    }
}
