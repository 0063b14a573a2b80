//! The sections of the pipeline: features, pool, cache, output.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sferic_actors::cache::{self, AdmissionPolicy};
use sferic_actors::queue;
use sferic_models::CONFIDENCE_INTERVAL;
use sferic_onnx::ExecutionProvider;
use sferic_samples::{Number, units};

use super::check::Check;
use super::shared_cache::SharedCacheSettings;
use super::values::{available_cores, count_or_auto};

/// The workers that turn samples into features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Preprocess {
    /// Threads that compute features; 0: the sessions compute them, each right before its run.
    #[serde(with = "count_or_auto")]
    pub workers: Option<usize>,
}

impl Preprocess {
    /// The threads that compute features. By default there are none where the sessions keep every core busy
    /// themselves: another thread would only take turns with them.
    pub fn feature_workers(&self, pool: &Pool) -> usize {
        let cores = available_cores();
        let cpu_alone = pool.execution_providers == [ExecutionProvider::Cpu];
        let are_busy = cpu_alone && pool.sessions * pool.intra_threads >= cores;
        self.workers.unwrap_or(if are_busy { 0 } else { cores })
    }
}

/// The sessions that run the models. Whether they fit the cores is the pool's own check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Pool {
    /// Threads that run models; each runs every loaded version.
    pub sessions: usize,
    /// Threads within one run.
    pub intra_threads: usize,
    /// How long a frame waits for a session before it fails as `model_unavailable`.
    #[serde(with = "units::duration")]
    pub acquire_timeout: Duration,
    /// Frames in one run at most.
    pub max_batch: usize,
    /// How long a session waits for a batch to fill; `0ms`: it takes what is there.
    #[serde(with = "units::duration")]
    pub max_batch_delay: Duration,
    /// Frames that may wait for a session.
    pub queue: usize,
    /// Run also where `sessions` × `intra_threads` is more than the cores.
    pub allow_oversubscribed: bool,
    /// In order of preference, the CPU last.
    pub execution_providers: Vec<ExecutionProvider>,
}

impl Default for Pool {
    fn default() -> Self {
        let queue::Config { acquire_timeout, max_batch, max_batch_delay, queue, .. } =
            queue::Config::default();
        Self {
            sessions: available_cores().min(4),
            intra_threads: 1,
            acquire_timeout,
            max_batch,
            max_batch_delay,
            queue,
            allow_oversubscribed: false,
            execution_providers: vec![ExecutionProvider::Cpu],
        }
    }
}

impl Pool {
    pub(super) fn validate(&self, check: &mut Check) {
        check.at_least("sessions", self.sessions, 1);
        check.at_least("intra_threads", self.intra_threads, 1);
        check.positive("acquire_timeout", self.acquire_timeout);
        check.at_least("max_batch", self.max_batch, 1);
        check.at_least("queue", self.queue, 1);
        let providers = &self.execution_providers;
        let repeated = providers.iter().enumerate().any(|(at, provider)| providers[..at].contains(provider));
        let cpu_is_last = providers.iter().rev().skip(1).all(|&provider| provider != ExecutionProvider::Cpu);
        check.rule(
            !providers.is_empty() && !repeated && cpu_is_last,
            "execution_providers",
            format_args!("is {providers:?}, must hold at least one, none twice, the CPU last"),
        );
    }
}

/// The answers kept for equal frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Cache {
    /// False: every frame is computed.
    pub enabled: bool,
    /// How long an answer is kept.
    #[serde(with = "units::duration")]
    pub ttl: Duration,
    /// Answers kept at most.
    pub max_entries: usize,
    /// Bytes of answers kept at most.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// Which answers are kept where there is no room for all.
    pub admission: AdmissionPolicy,
    /// The second level, shared by daemons.
    pub shared: SharedCacheSettings,
}

impl Default for Cache {
    fn default() -> Self {
        let cache::Config { ttl, max_entries, max_bytes, admission, shared_timeout: _ } =
            cache::Config::default();
        Self {
            enabled: true,
            ttl,
            max_entries,
            max_bytes: max_bytes as u64,
            admission,
            shared: SharedCacheSettings::default(),
        }
    }
}

impl Cache {
    pub(super) fn validate(&self, check: &mut Check) {
        check.positive("ttl", self.ttl);
        check.at_least("max_entries", self.max_entries, 1);
        check.at_least("max_bytes", self.max_bytes, 1);
    }
}

/// How predictions are stated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Output {
    /// The probability that a prediction's ellipse covers.
    pub confidence_interval: f64,
}

impl Default for Output {
    fn default() -> Self {
        Self { confidence_interval: CONFIDENCE_INTERVAL }
    }
}

impl Output {
    pub(super) fn validate(&self, check: &mut Check) {
        let interval = self.confidence_interval;
        let fault = format!("is {}, must be above 0 and below 1", Number(interval));
        check.rule(interval > 0.0 && interval < 1.0, "confidence_interval", fault);
    }
}
