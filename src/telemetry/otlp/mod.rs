//! Export over OTLP, off the data path: a bounded queue of spans that drops and never blocks, and one task a signal.
//!
//! A collector that is slow fills the queue; one that is gone is tried again at growing intervals. What finds no place is counted and
//! costs nothing more: its spans are not even made.

mod metrics;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, anyhow};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::transport::{MetricsClient, PATIENCE, TIMEOUT};
use super::metrics::Metrics;
use crate::settings::Telemetry;
use crate::throttle::Throttle;

/// Frames whose spans wait for export; some 4 KB each.
const QUEUE: usize = 1024;
/// Frames in one request, which so stays below the 4 MiB that gRPC servers take.
const BATCH: usize = 512;
/// How long a request waits for more frames.
const LINGER: Duration = Duration::from_millis(50);

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

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// What became of exports.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames whose spans were taken by the collector.
    pub exported: AtomicU64,
    /// Frames whose spans found the queue full.
    pub queue_full: AtomicU64,
    /// Frames whose spans the collector refused, or that were left at the end.
    pub failed: AtomicU64,
    /// Failures and slow frames beyond those kept a second.
    pub limited: AtomicU64,
    /// Requests taken, and requests that failed in the end, by signal.
    pub requests: [[AtomicU64; 2]; 2],
    waiting: AtomicU64,
}

impl Counts {
    /// Frames whose spans wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// The most that can wait.
    pub const LIMIT: u64 = QUEUE as u64;
}

/// Where spans wait for export. It never blocks.
#[derive(Debug, Clone)]
pub struct TraceQueue {
    sender: mpsc::Sender<Vec<SpanData>>,
    counts: Arc<Counts>,
}

/// A place in the queue.
pub struct Place<'a>(mpsc::Permit<'a, Vec<SpanData>>, &'a Counts);

impl TraceQueue {
    /// A queue, and its other end.
    pub(super) fn new(counts: Arc<Counts>) -> (Self, mpsc::Receiver<Vec<SpanData>>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender, counts }, receiver)
    }

    /// A place for one frame's spans; where there is none, the frame is counted as dropped.
    pub fn reserve(&self) -> Option<Place<'_>> {
        match self.sender.try_reserve() {
            Ok(permit) => Some(Place(permit, &self.counts)),
            Err(_) => {
                self.counts.queue_full.fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// Queues spans, if there is a place.
    pub fn send(&self, spans: Vec<SpanData>) {
        if let Some(place) = self.reserve() {
            place.send(spans);
        }
    }

    /// A failure or a slow frame is not kept: there are too many of them.
    pub fn count_limited(&self) {
        self.counts.limited.fetch_add(1, Relaxed);
    }
}

impl Place<'_> {
    /// Queues spans.
    pub fn send(self, spans: Vec<SpanData>) {
        self.1.waiting.fetch_add(1, Relaxed);
        self.0.send(spans);
    }
}

/// The export.
pub struct Exporter {
    link: Arc<Link>,
    queue: TraceQueue,
    closing: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    interval: Duration,
}

/// What both exports need.
struct Link {
    metrics: MetricsClient,
    resource: Resource,
    counts: Arc<Counts>,
    complaints: Throttle,
}

impl Exporter {
    /// Starts exporting to `endpoint`. Nothing is connected to yet: a collector may come later.
    ///
    /// # Errors
    /// The endpoint is no address, or the system's root certificates can't be read for `https`.
    pub fn start(endpoint: &str, telemetry: &Telemetry) -> anyhow::Result<Self> {
        let (mut spans, metrics) = transport::open(endpoint, telemetry.otlp_protocol).context("telemetry.otlp_endpoint")?;
        let (counts, resource) = (Arc::<Counts>::default(), resource());
        spans.set_resource(&resource);
        let (queue, receiver) = TraceQueue::new(Arc::clone(&counts));
        let link = Arc::new(Link { metrics, resource, counts, complaints: Throttle::new(Duration::from_secs(60)) });
        let (closing, closed) = watch::channel(false);
        let tasks = vec![tokio::spawn(Arc::clone(&link).export_traces(spans, receiver, closed))];
        Ok(Self { link, queue, closing, tasks, interval: telemetry.metrics_interval })
    }

    /// Where spans go.
    pub fn queue(&self) -> TraceQueue {
        self.queue.clone()
    }

    /// What became of exports.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.link.counts)
    }

    /// Exports these metrics too, from now on.
    pub fn export_metrics(&mut self, metrics: Arc<Metrics>) {
        let exporting = Arc::clone(&self.link).export_metrics(metrics, self.interval, self.closing.subscribe());
        self.tasks.push(tokio::spawn(exporting));
    }

    /// Exports what waits, at most for `bound`.
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
    async fn export_traces(
        self: Arc<Self>,
        exporter: SpanExporter,
        mut receiver: mpsc::Receiver<Vec<SpanData>>,
        mut closed: watch::Receiver<bool>,
    ) {
        let mut frames = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = receiver.recv_many(&mut frames, BATCH) => if count == 0 { return },
                () = is_closed(&mut closed), if !receiver.is_closed() => {
                    // What is in it still comes.
                    receiver.close();
                    continue;
                }
            }
            // Not woken by every frame that comes meanwhile.
            if frames.len() < BATCH && tokio::time::timeout(LINGER, is_closed(&mut closed)).await.is_err() {
                while frames.len() < BATCH
                    && let Ok(spans) = receiver.try_recv()
                {
                    frames.push(spans);
                }
            }
            let count = frames.len() as u64;
            self.counts.waiting.fetch_sub(count, Relaxed);
            let spans = frames.drain(..).flatten().collect();
            // The exporter begins nothing new after its patience, but an attempt may be under way then.
            let taken = self.report(Signal::Traces, within(PATIENCE + TIMEOUT, exporter.export(spans)).await);
            let outcome = if taken { &self.counts.exported } else { &self.counts.failed };
            outcome.fetch_add(count, Relaxed);
        }
    }

    async fn export_metrics(self: Arc<Self>, metrics: Arc<Metrics>, interval: Duration, mut closed: watch::Receiver<bool>) {
        loop {
            let is_last = tokio::time::timeout(interval, is_closed(&mut closed)).await.is_ok();
            let request = metrics::request(&metrics.read(), &self.resource, metrics.started);
            // One that fails is superseded by the next.
            self.report(Signal::Metrics, within(TIMEOUT, self.metrics.send(request)).await);
            if is_last {
                return;
            }
        }
    }

    /// Counts an export, says why it failed, and gives whether it was taken.
    fn report(&self, signal: Signal, result: anyhow::Result<()>) -> bool {
        self.counts.requests[signal as usize][usize::from(result.is_err())].fetch_add(1, Relaxed);
        if let Err(error) = &result
            && let Some(unsaid) = self.complaints.pass(tokio::time::Instant::now())
        {
            tracing::warn!(error = format!("{error:#}"), signal = signal.as_str(), unsaid, "telemetry could not be exported");
        }
        result.is_ok()
    }
}

async fn within<E: Into<anyhow::Error>>(limit: Duration, sending: impl Future<Output = Result<(), E>>) -> anyhow::Result<()> {
    let sent = tokio::time::timeout(limit, sending).await;
    sent.map_err(|_| anyhow!("no answer within {limit:?}"))?.map_err(Into::into)
}

async fn is_closed(closed: &mut watch::Receiver<bool>) {
    // A sender that is gone asks for the end as well.
    let _ = closed.wait_for(|&closed| closed).await;
}

/// Who tells; `OTEL_RESOURCE_ATTRIBUTES` may say more.
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

/// Which part of it.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("sferic").with_version(env!("CARGO_PKG_VERSION")).build()
}
