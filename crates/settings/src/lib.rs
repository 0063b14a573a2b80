//! The configuration and its layers.
//!
//! Four layers, the later over the earlier: the built-in defaults, a file, `SFERIC__SECTION__KEY` environment
//! variables, command-line flags. An unknown key is an error that names the nearest valid one.
//! `config/default.toml` documents every key; a test keeps the two equal.

mod check;
mod error;
mod gather;
mod guards;
mod jetstream;
mod layers;
mod load;
mod models;
mod operation;
mod page;
mod pipeline;
mod record;
mod redact;
mod secrets;
mod shared_cache;
mod transport;
mod unbuilt;
mod values;

use serde::{Deserialize, Serialize};
use sferic_actors::supervision;

use check::Check;
pub use error::{Problem, SettingsError};
pub use gather::{Gather, Receiver, ReceiverPosition, Reference};
pub use guards::{Breaker, Buffers, Limits, WhenFull};
pub use jetstream::{GroupPolicy, Jetstream, LONGEST_RETRY_DELAY};
pub use load::{load, load_with_env};
pub use models::{Canary, ModelRepository, ModelSource, SourceKind};
pub use operation::{LogFormat, Onnx, Shutdown, Telemetry};
pub use page::Page;
pub use pipeline::{Cache, Output, Pool, Preprocess};
pub use record::Record;
pub use shared_cache::{SharedCacheSettings, SharedKind};
pub use transport::{Http, Mode, Nats};
pub use unbuilt::UNBUILT;
pub use values::{available_cores, given};

/// The whole configuration, one field per section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "sections of keys")]
pub struct Settings {
    /// What is known of receivers beside what their frames say.
    pub receivers: Vec<Receiver>,
    /// Emitters whose place is known.
    pub references: Vec<Reference>,
    /// The connection to NATS and the subjects.
    pub nats: Nats,
    /// Streams and consumer, where `nats.mode` is `jetstream`.
    pub jetstream: Jetstream,
    /// The model repository.
    pub models: ModelRepository,
    /// The workers that turn samples into features.
    pub preprocess: Preprocess,
    /// The sessions that run the models.
    pub pool: Pool,
    /// The answers kept for equal frames.
    pub cache: Cache,
    /// Circuit breaker of failing models.
    pub breaker: Breaker,
    /// Bounds of the pipeline.
    pub limits: Limits,
    /// The pool that lends tensors to frames.
    pub buffers: Buffers,
    /// Sessions of several receivers' frames.
    pub gather: Gather,
    /// How predictions are stated.
    pub output: Output,
    /// Recordings of frames with their outcomes.
    pub record: Record,
    /// The HTTP interface.
    pub http: Http,
    /// The operator's page.
    pub page: Page,
    /// Restarts of failed actors.
    pub supervision: supervision::Config,
    /// Shutdown.
    pub shutdown: Shutdown,
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
    /// The ONNX Runtime library.
    pub onnx: Onnx,
}

impl Settings {
    /// Checks every section and reports everything that is wrong at once.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`] with one problem per key, each naming the value and its limit.
    pub fn validate(&self) -> Result<(), SettingsError> {
        SettingsError::unless_empty(self.problems())
    }

    /// What daemons have in common that share their frames: the queue group, or with streams the consumer.
    pub fn group(&self) -> &str {
        match self.nats.mode {
            Mode::Core => &self.nats.queue_group,
            Mode::Jetstream => &self.jetstream.durable,
        }
    }

    /// Where the frames of sessions come from: a subject that ends with `>`.
    pub fn session_subject(&self) -> String {
        let own = given(&self.gather.subject).map(str::to_owned);
        own.unwrap_or_else(|| format!("{}.sessions.>", self.nats.prefix))
    }

    fn problems(&self) -> Vec<Problem> {
        let mut check = Check::default();
        Receiver::validate_all(&self.receivers, &mut check);
        Reference::validate_all(&self.references, &mut check);
        self.nats.validate(check.section("nats"));
        self.jetstream.validate(check.section("jetstream"));
        self.models.validate(&mut check);
        self.pool.validate(check.section("pool"));
        self.cache.validate(check.section("cache"));
        self.cache.shared.validate(check.section("cache.shared"));
        self.breaker.validate(check.section("breaker"));
        self.limits.validate(check.section("limits"));
        self.buffers.validate(check.section("buffers"));
        self.gather.validate(check.section("gather"));
        self.output.validate(check.section("output"));
        self.record.validate(check.section("record"));
        self.http.validate(check.section("http"));
        operation::validate_supervision(&self.supervision, check.section("supervision"));
        self.shutdown.validate(check.section("shutdown"));
        self.telemetry.validate(check.section("telemetry"));
        check.into_problems()
    }
}

#[cfg(test)]
mod tests;
