//! Wiring: builds the daemon from settings, models, broker and pipeline, and shuts it down in order.

mod configs;
mod control;
mod decoder;
mod direct;
mod endpoints;
mod extractor;
mod fault;
mod load;
mod metrics;
mod missed;
mod overlap;
mod pause;
mod readiness;
mod session_inputs;
mod shown;
mod tensors;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configs::{breaker_config, canary_limits, export_options, pipeline_config, trace_options};
use control::Control;
pub use decoder::FrameDecoder;
use direct::Direct;
pub use extractor::extractors;
use futures::{FutureExt, future};
pub use load::{check_threads, load_models, options};
use metrics::Metrics;
pub use missed::Unseen;
use readiness::{Lifecycle, Readiness};
use sferic_actors::breaker::Circuits;
use sferic_actors::pipeline::{Pipeline, Ports, SharedState};
use sferic_actors::ports::OutcomeSink;
use sferic_actors::task::Task;
use sferic_onnx::runners;
use sferic_samples::BufferPool;
use sferic_settings::{Settings, given};
use sferic_telemetry::metrics::{ReadMetrics, Recorded};
use sferic_telemetry::otlp;
use sferic_telemetry::traces::Traces;
use transport::{Records, StreamParts, Transport};

use crate::canary::{self, Canaries, Judged, ShadowParts, ShadowThread};
use crate::events::{Events, Shown, show_frames};
use crate::http;
use crate::model_state::Keeper;
use crate::models::{ModelService, Sources, watch};
use crate::nats::{self, Connection, Frames, Health, HealthStatus, Peers, Probe, Service};
use crate::recorder::{self, Recorder, Tapped, keep_messages};
use crate::shared_cache;
use crate::usage::UsageMeter;

/// Time for HTTP clients to take the answers to what they asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of the buffers of shadow versions, which run one by one.
const SHADOW_BUFFERS: usize = 16 << 20;

/// Time for the last state of the models to be kept.
const KEPT_WITHIN: Duration = Duration::from_secs(2);

/// A running daemon.
pub struct App {
    pipeline: Pipeline,
    models: Arc<ModelService>,
    frames: Frames,
    direct: Direct,
    service: Service,
    connection: Connection,
    readiness: Arc<Readiness>,
    background: Vec<Task>,
    shadows: ShadowThread,
    keeper: Option<Arc<Keeper>>,
    recorder: Option<Arc<Recorder>>,
    streams: Option<StreamParts>,
    events: Arc<Events>,
    http: Option<http::Server>,
    traces: Option<Arc<Traces>>,
    exporter: Option<otlp::Exporter>,
    bound: Duration,
}

impl App {
    /// Loads and warms every model and starts the pipeline; the NATS server may come later.
    /// [`ready`](Self::ready) waits until frames arrive.
    ///
    /// # Errors
    /// What is missing or wrong, in words.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        check_threads(settings)?;
        let started = SystemTime::now();
        let events = Events::start()?;
        let pages = Arc::new(http::Pages::new(settings, Arc::clone(&events)));
        let http = match given(&settings.http.listen) {
            Some(_) => Some(http::Server::start(settings, Arc::clone(&pages)).await?),
            None => None,
        };
        let connection = nats::connect_when_there(&settings.nats, "sferic").await?;
        let (probe, probing) = Probe::start(connection.clone());
        let mut sources = Sources::open(settings, &connection)?;
        if let Some(sources) = &mut sources {
            sources.fill().await;
        }
        let (catalog, runtime) = load_models(settings).await?;
        let buffers = BufferPool::new(settings.buffers.ttl, usize::try_from(settings.buffers.max_bytes)?);
        let prefix = &settings.nats.prefix;
        let queue_group = settings.group();
        let circuits = Circuits::new(breaker_config(settings));
        let models = ModelService::new(settings, catalog, runtime, &options(settings)?, &circuits);
        let mut exporter = match given(&settings.telemetry.otlp_endpoint) {
            Some(endpoint) => Some(otlp::Exporter::start(endpoint, &export_options(settings))?),
            None => None,
        };
        let traces = exporter
            .as_ref()
            .map(|exporter| Arc::new(Traces::new(&trace_options(settings), exporter.queue())));
        let recorded = Arc::new(Recorded::new(settings.telemetry.max_sources));
        let config = pipeline_config(settings)?;
        let accounts = config.accounts();
        let records = Records { recorded: Arc::clone(&recorded), traces: traces.clone() };
        let sessions = transport::session_input(settings, &models);
        let Transport { source, mut frames, sink, outcomes_refused, streams } =
            transport::open(settings, &connection, &accounts, sessions.clone(), records).await?;
        let (limits, longest) = (canary_limits(settings), settings.limits.max_timeout);
        let canaries = Canaries::new(Arc::clone(&models), Arc::clone(&circuits), limits, longest);
        let keeper = match given(&settings.models.state) {
            Some(state) => Some(Keeper::start(state, settings, &connection, &models, &canaries).await?),
            None => None,
        };
        let sink = Judged::new(sink, Arc::clone(&canaries));
        let instance = uuid::Uuid::now_v7().to_string();
        let (mut source, direct) =
            Direct::open(settings, &connection, &instance, source, &mut frames, sessions.gathers.clone());
        let recorder = recorder::open(&settings.record)?;
        let mut sink: Arc<dyn OutcomeSink> = sink;
        if http.is_some() {
            source = show_frames(source, Arc::clone(&events));
            sink = Shown::new(sink, Arc::clone(&events));
        }
        if let Some(recorder) = &recorder {
            source = keep_messages(source, Arc::clone(recorder));
            sink = Tapped::new(sink, Arc::clone(recorder));
        }
        let readiness = Arc::new(Readiness {
            lifecycle: Lifecycle::default(),
            connection: connection.clone(),
            probe: probe.clone(),
            input: frames.switch().clone(),
            outcomes_refused,
            overlap: Arc::default(),
        });
        let (unseen, usage) = (Arc::<Unseen>::default(), Arc::<UsageMeter>::default());
        let ports = Ports {
            source,
            decoder: Arc::new(FrameDecoder::new(settings)),
            models: Arc::clone(models.in_service()),
            circuits: Arc::clone(&circuits),
            extractors: extractors(buffers.clone()),
            runners: runners(),
            sink,
            shared_cache: shared_cache::open(settings)?,
        };
        let pipeline = Pipeline::start_with(accounts, config, ports).await?;
        let control = Arc::new(Control {
            shared_state: Arc::clone(pipeline.shared_state()),
            models: Arc::clone(&models),
            canaries: Arc::clone(&canaries),
            recorded: Arc::clone(&recorded),
            readiness: Arc::clone(&readiness),
            unseen: Arc::clone(&unseen),
            buffers: buffers.clone(),
            usage: Arc::clone(&usage),
            input: frames.switch().clone(),
            prefix: prefix.clone(),
            queue_group: queue_group.to_owned(),
            sessions: sessions.clone(),
            instance: instance.clone(),
        });
        // Before the subscription: other members find this one by its service.
        let service = control.serve(&connection).await?;
        let peers = Peers::new(connection.clone(), service.id(), &instance, prefix, queue_group);
        let (monitor, watching) = match &streams {
            Some(streams) => {
                let ledger = Arc::clone(&pipeline.shared_state().ledger);
                Some(streams.watch(peers.clone(), ledger, Arc::clone(&recorded)).await)
            }
            None => None,
        }
        .unzip();
        frames.switch().pause(false);
        let asked = Arc::clone(&control);
        let health: Arc<dyn Fn() -> Health + Send + Sync> = Arc::new(move || asked.health());
        let metrics = Metrics {
            recorded: Arc::clone(&recorded),
            shared_state: Arc::clone(pipeline.shared_state()),
            models: Arc::clone(&models),
            canaries: Arc::clone(&canaries),
            buffers: buffers.clone(),
            connection: connection.clone(),
            probe,
            unseen: Arc::clone(&unseen),
            settings: settings.clone(),
            monitor,
            exports: exporter.as_ref().map(otlp::Exporter::counts),
            calls: Arc::clone(pages.calls()),
            health: Arc::clone(&health),
            usage,
            events: Arc::clone(&events),
            recorder: recorder.clone(),
            started,
        };
        let metrics: ReadMetrics = Arc::new(move || metrics.read());
        if let Some(exporter) = &mut exporter {
            exporter.export_metrics(Arc::clone(&metrics), started);
        }
        pages.open(http::Daemon {
            health,
            metrics,
            ingress: direct.ingress.clone(),
            batches: Arc::clone(&direct.batches),
            cache_enabled: settings.cache.enabled,
            cache: Arc::clone(&pipeline.shared_state().cache),
            models: Arc::clone(&models),
            recorded: Arc::clone(&recorded),
            control: control.endpoints(),
            started,
        });
        events.open(shown::state(Arc::clone(&control)));
        readiness.lifecycle.started();
        let shared_state = pipeline.shared_state();
        let accounting = missed::account(
            Arc::clone(&shared_state.gaps),
            Arc::clone(&shared_state.ledger),
            recorded,
            unseen,
            peers.clone(),
        );
        let mut background =
            vec![probing, Task::spawn(sweep(buffers, settings.buffers.ttl)), Task::spawn(accounting)];
        background.push(Task::spawn(fault::leak()));
        background.extend(watching);
        background.push(Task::spawn(readiness::log_changes(Arc::clone(&readiness))));
        background.push(Task::spawn(overlap::watch(Arc::clone(&readiness.overlap), sessions, peers.clone())));
        let shadows = canaries.start_shadows(ShadowParts {
            models: Arc::clone(models.in_service()),
            // Buffers of its own: a thread that may be kept from running takes no lock of the data path.
            workers: extractors(BufferPool::new(settings.buffers.ttl, SHADOW_BUFFERS)),
            runners: runners(),
            admission: Arc::clone(&pipeline.shared_state().admission),
        })?;
        background.push(Task::spawn(canary::watch(Arc::clone(&canaries))));
        background.push(Task::spawn(canary::read_truth(connection.clone(), prefix.clone(), canaries)));
        background.extend(keeper.clone().map(|keeper| Task::spawn(keeper.run())));
        if settings.models.watch {
            background.push(Task::spawn(watch(Arc::clone(&models))));
        }
        background.extend(sources.into_iter().flat_map(|sources| sources.follow(&models)));
        if settings.breaker.pause_input {
            background.push(Task::spawn(pause::while_all_are_open(circuits, frames.switch().clone(), peers)));
        }
        Ok(Self {
            pipeline,
            models,
            frames,
            direct,
            service,
            connection,
            readiness,
            background,
            shadows,
            keeper,
            recorder,
            streams,
            events,
            http,
            traces,
            exporter,
            bound: settings.shutdown.timeout,
        })
    }

    /// Returns once frames can arrive and outcomes be published, or the input is paused.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let readiness = Arc::clone(&self.readiness);
        async move {
            while !matches!(readiness.now().0, HealthStatus::Ok | HealthStatus::Paused) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Address of the HTTP server.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Server::address)
    }

    /// State that outlives the actors: the ledger, the queues, the statistics.
    pub fn shared_state(&self) -> &Arc<SharedState> {
        self.pipeline.shared_state()
    }

    /// The models in service.
    pub fn models(&self) -> &Arc<ModelService> {
        &self.models
    }

    /// The running pipeline; for tests that end its actors.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Returns the reason when the supervisor has given up or a background task has panicked.
    pub async fn failed(&mut self) -> &'static str {
        let acknowledging = self.streams.iter_mut().map(|streams| &mut streams.acknowledging);
        let tasks = self.background.iter_mut().chain(acknowledging).chain([&mut self.direct.serving]);
        let background = future::select_all(tasks.map(|task| task.ended().boxed()));
        tokio::select! {
            () = self.pipeline.failed() => "the actors ended more often than supervision.max_restarts allows",
            _ = background => "a task of the daemon panicked",
        }
    }

    /// Stops reading, waits for batches, HTTP calls and every frame in flight, stops the actors, sends what
    /// is queued, and closes the connection.
    pub async fn shut_down(self) {
        self.readiness.lifecycle.stopping();
        self.frames.stop(self.bound).await;
        self.direct.close(self.bound).await;
        let shared_state = Arc::clone(self.pipeline.shared_state());
        if self.streams.is_some() {
            // Their streams deliver them again, together with those that are still to come.
            shared_state.gathering.close();
        }
        self.pipeline.shut_down(self.bound).await;
        if let Some(streams) = &self.streams {
            streams.flush(self.bound).await;
        }
        // Streams of events would go on for ever.
        let events = Arc::clone(&self.events);
        let _ = tokio::task::spawn_blocking(move || events.close()).await;
        if let Some(http) = self.http {
            http.stop(ANSWERED_WITHIN.min(self.bound)).await;
        }
        if let Some(keeper) = &self.keeper {
            // What was changed last is kept, too.
            let _ = tokio::time::timeout(KEPT_WITHIN.min(self.bound), keeper.look()).await;
        }
        if let Some(recorder) = self.recorder {
            let closing = tokio::task::spawn_blocking(move || recorder.close());
            if tokio::time::timeout(self.bound, closing).await.is_err() {
                tracing::warn!("what was queued could not be recorded in time");
            }
        }
        drop((self.background, self.shadows));
        self.service.stop().await;
        self.connection.close(self.bound).await;
        // Last, so that everything before is exported.
        if let Some(traces) = &self.traces {
            traces.flush();
        }
        if let Some(exporter) = self.exporter {
            exporter.close(self.bound).await;
        }
        let counts = shared_state.ledger.counts();
        if !counts.balance() {
            tracing::error!(?counts, "the ledger does not balance");
        }
        tracing::info!(
            received = counts.received,
            predictions = counts.predictions,
            failures = counts.failures,
            lost = counts.lost,
            redelivered = counts.redelivered,
            duplicates_dropped = counts.duplicates_dropped,
            "stopped"
        );
    }
}

async fn sweep(buffers: BufferPool, ttl: Duration) {
    let mut tick = tokio::time::interval((ttl / 4).max(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        buffers.sweep(tokio::time::Instant::now().into_std());
    }
}
