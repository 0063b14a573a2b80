//! Reads the metrics of the whole daemon, from counters that the components keep anyway and from what is
//! recorded when an outcome is published. Nothing here is on the data path.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use sferic_actors::cache::{Evicted, SharedStats};
use sferic_actors::gather::GatherStats;
use sferic_actors::pipeline::SharedState;
use sferic_actors::stages::ActorRole;
use sferic_samples::BufferPool;
use sferic_settings::Settings;
use sferic_telemetry::metrics::{Buckets, Reading, Recorded, catalogue as metrics};
use sferic_telemetry::otlp;

use super::Unseen;
use crate::canary::Canaries;
use crate::events::Events;
use crate::http;
use crate::models::ModelService;
use crate::nats::jetstream::Monitor;
use crate::nats::{Connection, Health, HealthStatus, Probe};
use crate::recorder::{RecordCounts, Recorder};
use crate::usage::UsageMeter;

/// The sources of all metrics.
pub struct Metrics {
    /// What is recorded when an outcome is published.
    pub recorded: Arc<Recorded>,
    /// The state of the pipeline, with its counters.
    pub shared_state: Arc<SharedState>,
    /// The models in service.
    pub models: Arc<ModelService>,
    /// What compares their versions.
    pub canaries: Arc<Canaries>,
    /// The tensors lent to frames.
    pub buffers: BufferPool,
    /// The connection to NATS.
    pub connection: Connection,
    /// The probe of the server.
    pub probe: Probe,
    /// Missing frames that another daemon may have received.
    pub unseen: Arc<Unseen>,
    /// Of streams: what waits in them.
    pub monitor: Option<Monitor>,
    /// The settings, for the limits.
    pub settings: Settings,
    /// Counters of the OTLP export, if it is configured.
    pub exports: Option<Arc<otlp::ExportCounts>>,
    /// Times of HTTP calls.
    pub calls: Arc<http::Calls>,
    /// The answer of `sferic.health`.
    pub health: Arc<dyn Fn() -> Health + Send + Sync>,
    /// What the process uses.
    pub usage: Arc<UsageMeter>,
    /// What viewers of the operator's page see.
    pub events: Arc<Events>,
    /// What records frames, if that is configured.
    pub recorder: Option<Arc<Recorder>>,
    /// Start of the daemon.
    pub started: SystemTime,
}

impl Metrics {
    /// Reads everything.
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        self.frames(&mut reading);
        self.gathering(&mut reading);
        self.bounds(&mut reading);
        self.memory(&mut reading);
        self.sessions(&mut reading);
        self.models(&mut reading);
        self.canaries.read(&mut reading);
        self.nats(&mut reading);
        self.exports(&mut reading);
        self.calls.read(&mut reading);
        self.records(&mut reading);
        let to = &mut reading;
        to.count(&metrics::PAGE_VIEWERS, [], self.events.viewers() as u64);
        to.count(&metrics::PAGE_DROPPED, [], self.events.dropped());
        for role in ActorRole::ALL {
            to.count(&metrics::ACTOR_RESTARTS, [role.as_str()], self.shared_state.restarts.of(role));
        }
        to.count(&metrics::BUILD_INFO, [env!("CARGO_PKG_VERSION")], 1);
        let status = (self.health)().status;
        for each in HealthStatus::ALL {
            to.count(&metrics::STATUS, [each.as_str()], (each == status).into());
        }
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        to.number(&metrics::PROCESS_START, [], started.as_secs_f64());
        let usage = self.usage.read();
        to.number(&metrics::PROCESS_CPU, [], usage.cpu_s);
        for (kind, seconds) in &usage.threads_cpu_s {
            to.number(&metrics::THREADS_CPU, [kind], *seconds);
        }
        if let Some(bytes) = usage.resident_bytes {
            to.count(&metrics::PROCESS_MEMORY, [], bytes);
        }
        reading
    }

    fn records(&self, to: &mut Reading) {
        let Some(recorder) = &self.recorder else { return };
        let RecordCounts { recorded, passed_over, undecodable, dropped, bytes, removed } = recorder.counts();
        for (result, count) in [
            ("recorded", recorded),
            ("passed_over", passed_over),
            ("undecodable", undecodable),
            ("dropped", dropped),
        ] {
            to.count(&metrics::RECORD_FRAMES, [result], count);
        }
        to.count(&metrics::RECORD_BYTES, [], bytes);
        to.count(&metrics::RECORD_REMOVED, [], removed);
    }

    fn gathering(&self, to: &mut Reading) {
        let gathering = &self.shared_state.gathering;
        let GatherStats { sessions, waiting, bytes, complete, ended } = gathering.stats();
        to.count(&metrics::GATHER_SESSIONS, [], sessions as u64);
        to.count(&metrics::GATHER_SESSIONS_LIMIT, [], self.settings.gather.max_sessions as u64);
        to.count(&metrics::GATHER_FRAMES, [], waiting as u64);
        to.count(&metrics::GATHER_PAYLOAD, [], bytes as u64);
        to.count(&metrics::GATHER_PAYLOAD_LIMIT, [], self.settings.gather.max_bytes);
        to.count(&metrics::GATHER_CLOSED, ["complete"], complete);
        to.count(&metrics::GATHER_CLOSED, ["window"], ended);
        for (reason, count) in gathering.book().left_out() {
            to.count(&metrics::GATHER_LEFT_OUT, [reason.as_str()], count);
        }
    }

    fn frames(&self, to: &mut Reading) {
        let counts = self.shared_state.ledger.counts();
        to.count(&metrics::FRAMES_RECEIVED, [], counts.received);
        self.recorded.read(to);
        to.count(&metrics::FRAMES, ["lost"], counts.lost);
        to.count(&metrics::FRAMES, ["redelivered"], counts.redelivered);
        to.count(&metrics::FRAMES, ["duplicate"], counts.duplicates_dropped);
        if let Some(backlog) = self.monitor.as_ref().and_then(Monitor::backlog) {
            to.count(&metrics::STREAM_PENDING, [], backlog.pending);
            to.count(&metrics::STREAM_UNACKNOWLEDGED, [], backlog.unacknowledged);
            to.number(&metrics::STREAM_OLDEST, [], backlog.oldest.as_secs_f64());
            let window = self.settings.jetstream.duplicate_window;
            to.number(&metrics::STREAM_DUPLICATE_WINDOW, [], window.as_secs_f64());
            if let Some(age) = backlog.oldest_outcome {
                to.number(&metrics::STREAM_OUTCOMES_KEPT, [], age.as_secs_f64());
            }
        }
        to.count(&metrics::FRAMES_UNSEEN, [], self.unseen.frames());
    }

    fn bounds(&self, to: &mut Reading) {
        let (frames, bytes) = self.shared_state.admission.in_use();
        let limits = &self.settings.limits;
        to.count(&metrics::IN_FLIGHT_FRAMES, [], frames as u64);
        to.count(&metrics::IN_FLIGHT_FRAMES_LIMIT, [], limits.in_flight_frames as u64);
        to.count(&metrics::IN_FLIGHT_PAYLOAD, [], bytes as u64);
        to.count(&metrics::IN_FLIGHT_PAYLOAD_LIMIT, [], limits.in_flight_bytes);
        let (queue, outcomes) = (&self.shared_state.queue, &self.shared_state.outcomes);
        for (name, depth, limit) in [
            ("preprocess", self.shared_state.frames.depth(), limits.in_flight_frames),
            ("sessions", queue.depth(), self.settings.pool.queue),
            ("outcomes", outcomes.depth(), outcomes.limit()),
        ] {
            to.count(&metrics::QUEUE_DEPTH, [name], depth as u64);
            to.count(&metrics::QUEUE_LIMIT, [name], limit as u64);
        }
    }

    fn memory(&self, to: &mut Reading) {
        let cache = self.shared_state.cache.stats();
        for (result, count) in [("hit", cache.hits), ("coalesced", cache.coalesced), ("miss", cache.misses)] {
            to.count(&metrics::CACHE_LOOKUPS, [result], count);
        }
        let Evicted { size, age, bytes, not_admitted } = cache.evicted;
        for (reason, count) in
            [("size", size), ("age", age), ("bytes", bytes), ("not_admitted", not_admitted)]
        {
            to.count(&metrics::CACHE_EVICTED, [reason], count);
        }
        let SharedStats { hits, misses, timeouts, errors, not_asked, writes, dropped_writes } =
            cache.shared.unwrap_or_default();
        for (result, count) in [
            ("hit", hits),
            ("miss", misses),
            ("timeout", timeouts),
            ("error", errors),
            ("not_asked", not_asked),
        ] {
            to.count(&metrics::CACHE_SHARED, [result], count);
        }
        for (result, count) in [("written", writes), ("dropped", dropped_writes)] {
            to.count(&metrics::CACHE_SHARED_WRITES, [result], count);
        }
        to.count(&metrics::CACHE_ENTRIES, [], cache.entries as u64);
        to.count(&metrics::CACHE_ENTRIES_LIMIT, [], self.settings.cache.max_entries as u64);
        to.count(&metrics::CACHE_SIZE, [], cache.bytes as u64);
        to.count(&metrics::CACHE_SIZE_LIMIT, [], self.settings.cache.max_bytes);
        let buffers = self.buffers.stats();
        for (from, count) in [
            ("pool", buffers.hits),
            ("new", buffers.misses.saturating_sub(buffers.unpooled)),
            ("unpooled", buffers.unpooled),
        ] {
            to.count(&metrics::BUFFERS_TAKEN, [from], count);
        }
        to.count(&metrics::BUFFERS_FREED, [], buffers.freed);
        for (state, count) in [("lent", buffers.live), ("idle", buffers.idle)] {
            to.count(&metrics::BUFFERS, [state], count as u64);
        }
        to.count(&metrics::BUFFERS_SIZE, [], buffers.bytes_now as u64);
        to.count(&metrics::BUFFERS_SIZE_PEAK, [], buffers.bytes_peak as u64);
        to.count(&metrics::BUFFERS_SIZE_LIMIT, [], self.settings.buffers.max_bytes);
    }

    fn sessions(&self, to: &mut Reading) {
        let pool = self.shared_state.queue.stats();
        to.count(&metrics::SESSIONS, ["busy"], pool.active as u64);
        to.count(&metrics::SESSIONS, ["idle"], pool.busy_s.len().saturating_sub(pool.active) as u64);
        for (session, busy) in pool.busy_s.iter().enumerate() {
            to.number(&metrics::SESSION_BUSY, [&session.to_string()], *busy);
        }
        to.count(&metrics::RUNS, [], pool.inferences);
        to.count(&metrics::RUNS_CANCELLED, [], pool.cancelled);
        to.buckets(&metrics::BATCH_SIZE, [], Buckets::of_sizes(&pool.batch_sizes));
        to.count(&metrics::POOL_TIMEOUTS, [], pool.timeouts);
        let not_begun = pool.not_begun;
        for (reason, count) in [
            ("settled", not_begun.settled),
            ("too_late", not_begun.too_late),
            ("queue_full", not_begun.full),
            ("displaced", not_begun.shed + self.shared_state.frames.shed_count()),
        ] {
            to.count(&metrics::NOT_BEGUN, [reason], count);
        }
    }

    fn models(&self, to: &mut Reading) {
        for (result, count) in ["done", "failed"].into_iter().zip(self.models.changes()) {
            to.count(&metrics::MODEL_CHANGES, [result], count);
        }
        let catalog = self.models.catalog();
        for (name, versions) in catalog.all() {
            for model in versions.ready() {
                let is_active = versions.active.as_deref() == Some(&*model.id().version);
                to.count(&metrics::MODEL_ACTIVE, [name, &model.id().version], is_active.into());
            }
        }
        for model in catalog.models() {
            let id = model.id();
            let (name, version) = (id.name.as_str(), id.version.as_str());
            let providers: Vec<_> = model.providers().iter().map(|provider| provider.name()).collect();
            to.count(&metrics::MODEL_INFO, [name, version, &id.digest, &providers.join(",")], 1);
            to.count(&metrics::MODEL_MAX_BATCH, [name, version], model.max_batch() as u64);
            for share in model.dispatch().map_or(&[][..], |dispatch| dispatch.shares()) {
                to.number(&metrics::DISPATCH_NODES, [name, version, &share.provider], share.nodes);
                to.number(&metrics::DISPATCH_TIME, [name, version, &share.provider], share.time);
            }
        }
        for circuit in self.shared_state.circuits.stats() {
            let (name, version) = (circuit.model.as_str(), circuit.version.as_str());
            for state in ["closed", "half_open", "open"] {
                to.count(&metrics::BREAKER_STATE, [name, version, state], (state == circuit.state).into());
            }
            to.count(&metrics::BREAKER_OPENINGS, [name, version], circuit.counts.openings);
            to.count(&metrics::BREAKER_REFUSED, [name, version], circuit.counts.refused);
            to.count(&metrics::BREAKER_PROBES, [name, version], circuit.counts.probes);
            to.count(&metrics::BREAKER_FAILURES, [name, version], circuit.counts.failures);
            to.count(&metrics::BREAKER_SLOW, [name, version], circuit.counts.slow);
        }
    }

    fn exports(&self, to: &mut Reading) {
        let Some(counts) = &self.exports else { return };
        to.count(&metrics::QUEUE_DEPTH, ["traces"], counts.waiting());
        to.count(&metrics::QUEUE_LIMIT, ["traces"], otlp::ExportCounts::LIMIT);
        for (result, count) in [
            ("exported", &counts.exported),
            ("queue_full", &counts.queue_full),
            ("failed", &counts.failed),
            ("limited", &counts.limited),
        ] {
            to.count(&metrics::TRACES, [result], count.load(Relaxed));
        }
        for (signal, results) in otlp::Signal::ALL.iter().zip(&counts.requests) {
            for (result, count) in ["taken", "failed"].into_iter().zip(results) {
                to.count(&metrics::EXPORTS, [signal.as_str(), result], count.load(Relaxed));
            }
        }
    }

    fn nats(&self, to: &mut Reading) {
        let traffic = self.connection.traffic();
        to.count(&metrics::NATS_CONNECTED, [], self.connection.is_up().into());
        to.count(&metrics::NATS_CONNECTS, [], traffic.connects);
        to.count(&metrics::NATS_CLIENT_RESTARTS, [], self.connection.restarts());
        to.count(&metrics::NATS_UNREADABLE, [], self.connection.unreadable());
        to.count(&metrics::NATS_DROPPED, [], self.connection.dropped());
        if let Some(age) = self.probe.age() {
            to.number(&metrics::NATS_PROBE_AGE, [], age.as_secs_f64());
        }
        for (direction, messages, bytes) in [
            ("received", traffic.in_messages, traffic.in_bytes),
            ("sent", traffic.out_messages, traffic.out_bytes),
        ] {
            to.count(&metrics::NATS_MESSAGES, [direction], messages);
            to.count(&metrics::NATS_PAYLOAD, [direction], bytes);
        }
    }
}
