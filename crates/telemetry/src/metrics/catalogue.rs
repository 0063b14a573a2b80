//! Every metric: its names, unit, kind, labels and meaning. `ops/docs/telemetry.md` shows this table; a test
//! keeps them equal.

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the daemon.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A metric, under OpenTelemetry's conventions; Prometheus's name follows from them.
#[derive(Debug)]
pub struct Metric {
    /// As OTLP has it: words joined by dots.
    pub name: &'static str,
    /// UCUM: `s`, `By`, `1` for a share, `{frame}` for things that are counted; none for states.
    pub unit: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// The labels, called attributes in OTLP.
    pub labels: &'static [&'static str],
    /// Its meaning.
    pub help: &'static str,
}

impl Metric {
    /// The name under Prometheus's conventions: the unit in words behind it, and `_total` behind a counter.
    pub fn prometheus_name(&self) -> String {
        let unit = match (self.unit, self.kind) {
            ("s", _) => "_seconds",
            ("By", _) => "_bytes",
            ("1", MetricKind::Gauge) => "_ratio",
            _ => "",
        };
        let total = if self.kind == MetricKind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }
}

macro_rules! catalogue {
    ($($constant:ident: $kind:ident $name:literal $unit:literal [$($label:literal)*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Metric =
                Metric {
                    name: $name, unit: $unit, kind: MetricKind::$kind, labels: &[$($label),*], help: $help,
                };
        )*
        /// All of them.
        pub static ALL: &[&Metric] = &[$(&$constant),*];
    };
}

catalogue! {
    // Frames.
    FRAMES: Counter "sferic.frames" "{frame}" ["outcome"]
        "Frames that ended: as a prediction, with a failure's code, or lost; of a stream also deliveries \
         that ended without an outcome (redelivered), or whose outcome was there (duplicate)";
    FRAMES_RECEIVED: Counter "sferic.frames.received" "{frame}" []
        "Frames that arrived; always those that ended and those in flight";
    FRAMES_SHED: Counter "sferic.frames.shed" "{frame}" ["reason" "source"]
        "Frames refused as overloaded, by what was full";
    FRAMES_LOST: Counter "sferic.frames.lost" "{frame}" ["reason" "source"]
        "Frames without a published outcome, by reason: why it could not be published, a number missing \
         in the source's seq (gap), or removed from the stream unread (retention) or not delivered (skipped)";
    FRAMES_UNSEEN: Counter "sferic.frames.unseen" "{frame}" []
        "Frames missing in their sources' seq while another member of the queue group may have received them";
    FRAME_DURATION: Histogram "sferic.frame.duration" "s" ["outcome"]
        "From a frame's arrival until its outcome is published";
    STAGE_DURATION: Histogram "sferic.stage.duration" "s" ["stage"] "Time of one frame in one stage";
    FRAME_PAYLOAD: Counter "sferic.frame.payload" "By" [] "Bytes of the messages of frames that ended";
    FRAME_SAMPLES: Counter "sferic.frame.samples" "{sample}" [] "Samples a channel of frames that were read";
    STREAM_PENDING: Gauge "sferic.stream.pending" "{frame}" []
        "Frames in the stream that were not delivered yet";
    STREAM_UNACKNOWLEDGED: Gauge "sferic.stream.unacknowledged" "{frame}" []
        "Frames that were delivered, to any daemon, and are not acknowledged";
    STREAM_OLDEST: Gauge "sferic.stream.oldest" "s" [] "Age of the oldest frame that is not acknowledged";
    STREAM_OUTCOMES_KEPT: Gauge "sferic.stream.outcomes.kept" "s" []
        "Age of the oldest outcome in its stream, while that is full";
    STREAM_DUPLICATE_WINDOW: Gauge "sferic.stream.duplicate_window" "s" []
        "jetstream.duplicate_window: with outcomes removed sooner, one may be published twice";
    // What bounds them.
    IN_FLIGHT_FRAMES: Gauge "sferic.in_flight.frames" "{frame}" [] "Frames in the pipeline";
    IN_FLIGHT_FRAMES_LIMIT: Gauge "sferic.in_flight.frames.limit" "{frame}" [] "limits.in_flight_frames";
    IN_FLIGHT_PAYLOAD: Gauge "sferic.in_flight.payload" "By" [] "Bytes of the messages in the pipeline";
    IN_FLIGHT_PAYLOAD_LIMIT: Gauge "sferic.in_flight.payload.limit" "By" [] "limits.in_flight_bytes";
    QUEUE_DEPTH: Gauge "sferic.queue.depth" "{item}" ["queue"]
        "Queued items: frames for a feature worker (preprocess) and for a session (sessions), outcomes to \
         be published, traces (frames' spans) to be exported";
    QUEUE_LIMIT: Gauge "sferic.queue.limit" "{item}" ["queue"] "The most that may be queued";
    // What waits to be answered together.
    GATHER_SESSIONS: Gauge "sferic.gather.sessions" "{session}" [] "Open sessions of several receivers";
    GATHER_SESSIONS_LIMIT: Gauge "sferic.gather.sessions.limit" "{session}" [] "gather.max_sessions";
    GATHER_FRAMES: Gauge "sferic.gather.frames" "{frame}" [] "Frames that wait in them";
    GATHER_PAYLOAD: Gauge "sferic.gather.payload" "By" []
        "Bytes of the messages of these, and of sessions that are being answered";
    GATHER_PAYLOAD_LIMIT: Gauge "sferic.gather.payload.limit" "By" [] "gather.max_bytes";
    GATHER_CLOSED: Counter "sferic.gather.closed" "{session}" ["how"]
        "Sessions that were closed: complete, or at the end of their window (window)";
    GATHER_LEFT_OUT: Counter "sferic.gather.left_out" "{frame}" ["reason"]
        "Frames whose receiver was left out of the answer, by reason";
    // The cache, and the tensors lent to frames.
    CACHE_LOOKUPS: Counter "sferic.cache.lookups" "{frame}" ["result"]
        "Lookups by result: hit, coalesced (waited for an equal frame that was being computed), or miss";
    CACHE_EVICTED: Counter "sferic.cache.evicted" "{entry}" ["reason"]
        "Answers evicted or not admitted, by reason: cache.max_entries (size), cache.max_bytes (bytes), \
         cache.ttl (age), or less often asked for than what they would replace (not_admitted)";
    CACHE_SHARED: Counter "sferic.cache.shared.lookups" "{frame}" ["result"]
        "Lookups in the shared cache after a miss in the daemon's own: hit, miss, timeout, error, or \
         not_asked";
    CACHE_SHARED_WRITES: Counter "sferic.cache.shared.writes" "{entry}" ["result"]
        "Answers written to the shared cache, or dropped";
    CACHE_ENTRIES: Gauge "sferic.cache.entries" "{entry}" [] "Answers cached";
    CACHE_ENTRIES_LIMIT: Gauge "sferic.cache.entries.limit" "{entry}" [] "cache.max_entries";
    CACHE_SIZE: Gauge "sferic.cache.size" "By" [] "Memory of the cached answers";
    CACHE_SIZE_LIMIT: Gauge "sferic.cache.size.limit" "By" [] "cache.max_bytes";
    BUFFERS_TAKEN: Counter "sferic.buffers.taken" "{buffer}" ["from"]
        "Tensors lent: from the pool, allocated for it, or allocated beyond its bound";
    BUFFERS_FREED: Counter "sferic.buffers.freed" "{buffer}" [] "Idle tensors freed, for age or to make room";
    BUFFERS: Gauge "sferic.buffers" "{buffer}" ["state"] "Tensors lent, and idle ones";
    BUFFERS_SIZE: Gauge "sferic.buffers.size" "By" [] "Memory of lent and idle tensors";
    BUFFERS_SIZE_PEAK: Gauge "sferic.buffers.size.peak" "By" [] "The largest value of that since the start";
    BUFFERS_SIZE_LIMIT: Gauge "sferic.buffers.size.limit" "By" [] "buffers.max_bytes";
    // The sessions.
    SESSIONS: Gauge "sferic.sessions" "{session}" ["state"] "Session threads, in a run and idle";
    SESSION_BUSY: Counter "sferic.session.busy" "s" ["session"]
        "Time a session has spent in runs; the rate is its utilisation";
    RUNS: Counter "sferic.runs" "{run}" [] "Runs of a model, including those of halved batches";
    RUNS_CANCELLED: Counter "sferic.runs.cancelled" "{run}" []
        "Runs cancelled because the deadlines of all their frames had passed";
    BATCH_SIZE: Histogram "sferic.batch.size" "{frame}" [] "Frames in one run";
    POOL_TIMEOUTS: Counter "sferic.pool.timeouts" "{frame}" [] "Frames that waited for pool.acquire_timeout";
    NOT_BEGUN: Counter "sferic.frames.not_begun" "{frame}" ["reason"] "Frames whose work was never begun";
    // Models and their circuits.
    MODEL_INFO: Gauge "sferic.model.info" "" ["model" "version" "digest" "providers"]
        "1 for every loaded version";
    MODEL_ACTIVE: Gauge "sferic.model.active" "" ["model" "version"]
        "1 for the active version, 0 for the others that are loaded";
    MODEL_CHANGES: Counter "sferic.model.changes" "{change}" ["result"]
        "Changes of what is loaded or active, asked for or watched: done, or failed without a change";
    MODEL_FRAMES: Counter "sferic.model.frames" "{frame}" ["model" "version" "outcome"]
        "Frames that ended, by the version they were for";
    MODEL_INFERENCE: Histogram "sferic.model.inference.duration" "s" ["model" "version"]
        "Time of one frame in a session's run";
    MODEL_MAX_BATCH: Gauge "sferic.model.batch.limit" "{frame}" ["model" "version"]
        "The most frames of a version in one run";
    SPLIT_SHARE: Gauge "sferic.split.share" "1" ["model" "version"]
        "Share of a model's traffic that a split gives to a version";
    CANARY_EVIDENCE: Gauge "sferic.canary.evidence" "1" ["model" "version" "question"]
        "Evidence that a canary is worse, over what rolls it back";
    SPLITS_ENDED: Counter "sferic.splits.ended" "{split}" ["model" "how"]
        "Splits that were rolled back, promoted their canary, or ended otherwise";
    MODEL_TRUTHS: Counter "sferic.model.truths" "{frame}" ["model" "version"]
        "Answers whose truth has come";
    TRUTH_ERROR: Gauge "sferic.model.truth.error" "" ["model" "version"]
        "Their mean error: metres, or the share of wrong labels";
    TRUTH_SCORE: Gauge "sferic.model.truth.score" "" ["model" "version"]
        "Their mean logarithmic score; less is better";
    TRUTH_COVERAGE: Gauge "sferic.model.truth.coverage" "1" ["model" "version"]
        "Share of the ellipses that cover the truth";
    TRUTH_COVERAGE_PROMISED: Gauge "sferic.model.truth.coverage.promised" "1" ["model" "version"]
        "The share that should";
    SHADOW_FRAMES: Counter "sferic.shadow.frames" "{frame}" ["model" "version" "result"]
        "Copies for a version in the shadow: compared, failed, or skipped for want of spare capacity";
    DISPATCH_NODES: Gauge "sferic.model.dispatch.nodes" "1" ["model" "version" "provider"]
        "Share of the model's nodes that an execution provider runs";
    DISPATCH_TIME: Gauge "sferic.model.dispatch.time" "1" ["model" "version" "provider"]
        "Its share of the time, as profiled at the load";
    BREAKER_STATE: Gauge "sferic.breaker.state" "" ["model" "version" "state"]
        "1 for the circuit's state, 0 for the others";
    BREAKER_OPENINGS: Counter "sferic.breaker.openings" "{opening}" ["model" "version"]
        "Times the circuit opened; this and the next four restart at 0 when the circuit is reset by hand";
    BREAKER_REFUSED: Counter "sferic.breaker.refused" "{frame}" ["model" "version"]
        "Frames refused by the open circuit";
    BREAKER_PROBES: Counter "sferic.breaker.probes" "{frame}" ["model" "version"]
        "Frames let through as probes while half-open";
    BREAKER_FAILURES: Counter "sferic.breaker.failures" "{frame}" ["model" "version"]
        "Frames on which the model failed";
    BREAKER_SLOW: Counter "sferic.breaker.slow" "{frame}" ["model" "version"]
        "Frames whose run was slow, by breaker.slow_call";
    // Recordings of frames with their outcomes.
    RECORD_FRAMES: Counter "sferic.record.frames" "{frame}" ["result"]
        "Frames that were recorded, passed over by the rule, undecodable, or dropped for want of room";
    RECORD_BYTES: Gauge "sferic.record.size" "By" []
        "Bytes of the folder's recordings";
    RECORD_REMOVED: Counter "sferic.record.removed" "{recording}" []
        "Recordings that were removed for room";

    // The operator's page.
    PAGE_VIEWERS: Gauge "sferic.page.viewers" "{viewer}" []
        "Viewers of the events of the operator's page";
    PAGE_DROPPED: Counter "sferic.page.dropped" "{event}" []
        "Events that viewers of the operator's page were too slow for, or that found no room on their way";
    // The connection to NATS.
    NATS_CONNECTED: Gauge "sferic.nats.connected" "" [] "1 while the connection is up";
    NATS_CONNECTS: Counter "sferic.nats.connects" "{connection}" [] "Connections made, including the first";
    NATS_CLIENT_RESTARTS: Counter "sferic.nats.client.restarts" "{restart}" []
        "NATS clients that ended on a message they could not read and were replaced";
    NATS_UNREADABLE: Counter "sferic.nats.unreadable" "{message}" []
        "Messages skipped because the client could not read them; each ended a connection or the client, \
         and lost the messages in transit";
    NATS_PROBE_AGE: Gauge "sferic.nats.probe.age" "s" []
        "Time since the server last echoed the probe that is sent once a second over the connection frames \
         arrive on";
    NATS_DROPPED: Counter "sferic.nats.dropped" "{event}" []
        "Times the client dropped messages because a subscription's buffer was full";
    NATS_MESSAGES: Counter "sferic.nats.messages" "{message}" ["direction"] "Messages received and sent";
    NATS_PAYLOAD: Counter "sferic.nats.payload" "By" ["direction"] "Their bytes";
    // HTTP.
    HTTP_DURATION: Histogram "sferic.http.duration" "s" ["route" "status"]
        "From the head of a call until its answer is ready to be sent, by its path in /openapi.json (other: \
         none of them) and status";
    // The process and the telemetry itself.
    ACTOR_RESTARTS: Counter "sferic.actor.restarts" "{restart}" ["actor"]
        "Actors that failed and were restarted, together with those that depend on them";
    TRACES: Counter "sferic.telemetry.traces" "{frame}" ["result"]
        "Frames whose spans were to be exported: exported, queue_full, failed (at the collector), limited \
         (over the failures and slow frames kept per second)";
    EXPORTS: Counter "sferic.telemetry.exports" "{request}" ["signal" "result"] "Requests to the collector";
    BUILD_INFO: Gauge "sferic.build.info" "" ["version"] "1";
    STATUS: Gauge "sferic.status" "" ["status"] "1 for the status in sferic.health, 0 for the others";
    PROCESS_CPU: Counter "process.cpu" "s" [] "User and system time of the process";
    THREADS_CPU: Counter "sferic.process.cpu.time" "s" ["thread"]
        "The same by kind of thread (on Linux): async (reading, decoding, cache, publication), features, \
         sessions, other (also threads that have ended)";
    PROCESS_MEMORY: Gauge "process.resident_memory" "By" [] "Resident memory of the process (on Linux)";
    PROCESS_START: Gauge "process.start_time" "s" [] "When the daemon started, in seconds since 1970";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_both_conventions() {
        assert_eq!(FRAMES.prometheus_name(), "sferic_frames_total");
        assert_eq!(STAGE_DURATION.prometheus_name(), "sferic_stage_duration_seconds");
        assert_eq!(SESSION_BUSY.prometheus_name(), "sferic_session_busy_seconds_total");
        assert_eq!(DISPATCH_TIME.prometheus_name(), "sferic_model_dispatch_time_ratio");
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.prometheus_name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name is there twice");
    }
}
