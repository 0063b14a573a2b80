//! How frames come in and outcomes go out: plain NATS, or streams.

use std::sync::Arc;
use std::time::Duration;

use sferic_actors::account::ledger::Ledger;
use sferic_actors::pipeline::Accounts;
use sferic_actors::ports::{FrameSource, OutcomeSink};
use sferic_actors::task::Task;
use sferic_settings::{Mode, Settings, given};
use sferic_telemetry::Observed;
use sferic_telemetry::metrics::Recorded;
use sferic_telemetry::traces::Traces;
use tokio::sync::watch;

use crate::concurrency::ConcurrencyLimit;
use crate::models::ModelService;
use crate::nats::jetstream::{Acks, Monitor, RetryPolicy, StreamOutcomes, Streams, pull};
use crate::nats::{self, Connection, Frames, Outcomes, Peers, SessionInput};

/// Asks why outcomes cannot be published.
pub type OutcomesRefused = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The two ends of the pipeline.
pub struct Transport {
    pub source: FrameSource,
    pub frames: Frames,
    pub sink: Arc<dyn OutcomeSink>,
    /// Why outcomes cannot be published, while that is known.
    pub outcomes_refused: OutcomesRefused,
    /// Of streams.
    pub streams: Option<StreamParts>,
}

/// What else belongs to streams.
pub struct StreamParts {
    streams: Streams,
    acks: Acks,
    pub acknowledging: Task,
}

/// What is recorded of outcomes.
pub struct Records {
    pub recorded: Arc<Recorded>,
    pub traces: Option<Arc<Traces>>,
}

/// Opens the transport of `nats.mode`. With streams it waits for the server.
///
/// # Errors
/// The streams or the consumer cannot be had, or are otherwise than the settings say.
pub async fn open(
    settings: &Settings,
    connection: &Connection,
    accounts: &Accounts,
    sessions: SessionInput,
    records: Records,
) -> anyhow::Result<Transport> {
    let (nats, Records { recorded, traces }) = (&settings.nats, records);
    if nats.mode == Mode::Core {
        let (source, frames) = nats::subscribe(connection, &nats.prefix, &nats.queue_group, &sessions);
        let outcomes = Outcomes::new(connection.clone(), &nats.prefix, nats.publish_timeout);
        let permissions = outcomes.permissions();
        let outcomes_refused = Box::new(move || permissions.refused().map(|(_, words)| words));
        let sink = Arc::new(Observed::new(outcomes, recorded, traces));
        return Ok(Transport { source, frames, sink, outcomes_refused, streams: None });
    }
    let streams = Streams::new(connection.clone(), &settings.jetstream, &nats.prefix, sessions);
    if !connection.is_up() {
        tracing::info!("waiting for the NATS server, which has the streams");
    }
    connection.reconnected(0).await;
    streams.ensure_in_time().await?;
    let policy = RetryPolicy::new(&settings.jetstream);
    // One for each session is worked on in any case. A further one would wait, perhaps for too long.
    let limit = ConcurrencyLimit::new(settings.pool.sessions, accounts.admission.max_frames());
    let (acks, acknowledging) = Acks::start(connection.clone(), settings.jetstream.ack_wait, policy, limit);
    let (source, frames) = pull(connection, &streams, accounts, &acks);
    let outcomes = StreamOutcomes::new(connection.clone(), streams.clone(), nats.publish_timeout);
    let failing = outcomes.failing();
    let sink = Arc::new(Observed::new(outcomes, recorded, traces));
    let outcomes_refused = Box::new(move || failing.reason());
    let streams = Some(StreamParts { streams, acks, acknowledging });
    Ok(Transport { source, frames, sink, outcomes_refused, streams })
}

/// Where the frames of sessions come from.
pub fn session_input(settings: &Settings, models: &ModelService) -> SessionInput {
    let in_service = models.in_service();
    let is_configured = given(&settings.gather.subject).is_some() || in_service.current().default_gathers();
    let (subject, gathers) = (settings.session_subject(), in_service.gathers());
    SessionInput { subject, gathers, in_use: watch::Sender::new(is_configured) }
}

impl StreamParts {
    /// Starts to watch the streams; counts frames that were passed over unread as lost.
    pub async fn watch(&self, peers: Peers, ledger: Arc<Ledger>, recorded: Arc<Recorded>) -> (Monitor, Task) {
        let lost = move |frames, reason| {
            ledger.missed(frames);
            recorded.missed(reason, "", frames);
        };
        Monitor::start(self.streams.clone(), peers, lost).await
    }

    /// Waits, at most `bound`, until every acknowledgement was sent.
    pub async fn flush(&self, bound: Duration) {
        if tokio::time::timeout(bound, self.acks.flush()).await.is_err() {
            tracing::warn!("acknowledgements could not be sent; their frames are delivered again");
        }
    }
}
