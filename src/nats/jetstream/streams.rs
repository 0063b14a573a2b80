//! The streams and the consumer: made where they are missing, compared where they exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::Config as ConsumerConfig;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config as StreamConfig, DiscardPolicy, RetentionPolicy, Stream, SubjectTransform,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use humantime_serde::re::humantime::format_duration;
use sferic_actors::frame::{Delivery, unix_ns};
use sferic_settings::{GroupPolicy, Jetstream};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::differences::{Otherwise, compare_consumer, compare_stream};
use crate::nats::{Connection, SessionInput};

/// How long the outcomes stream keeps an outcome.
const OUTCOMES_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the start waits for JetStream, and between two attempts.
const START: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_secs(1);

/// How much later than it says a server may forget ids, and how much its clock may go back.
const WINDOW_SLACK: Duration = Duration::from_secs(60);

/// Timeout of a request to JetStream.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the daemon needs of JetStream.
#[derive(Debug, Clone)]
pub struct Streams {
    connection: Connection,
    pub(super) settings: Jetstream,
    pub(super) prefix: String,
    pub(super) sessions: SessionInput,
    seen: Arc<Seen>,
}

/// What was seen of frames and of what holds them.
#[derive(Debug, Default)]
struct Seen {
    /// The highest sequence and the latest time of a frame that was delivered to this daemon.
    sequence: AtomicU64,
    published_ns: AtomicU64,
    /// When the stream of frames was made, and the youngest of its consumers.
    frames_made_ns: AtomicU64,
    consumers_made_ns: AtomicU64,
}

impl Streams {
    /// The streams of these settings.
    pub fn new(connection: Connection, settings: &Jetstream, prefix: &str, sessions: SessionInput) -> Self {
        let (settings, prefix, seen) = (settings.clone(), prefix.to_owned(), Arc::default());
        Self { connection, settings, prefix, sessions, seen }
    }

    /// Where the frames of sessions come from.
    pub fn sessions(&self) -> &SessionInput {
        &self.sessions
    }

    /// Remembers a delivery.
    pub fn saw(&self, delivery: &Delivery) {
        self.seen.sequence.fetch_max(delivery.stream_seq, Relaxed);
        self.seen.published_ns.fetch_max(delivery.published_ns, Relaxed);
    }

    /// How long the frame has been in its stream, also where this machine's clock is behind: frames were
    /// published after it.
    pub fn age(&self, delivery: &Delivery) -> Duration {
        let later = self.seen.published_ns.load(Relaxed).saturating_sub(delivery.published_ns);
        delivery.age().max(Duration::from_nanos(later))
    }

    /// Whether the frame may have been delivered before, by its consumer or by one that was deleted.
    pub fn may_come_again(&self, delivery: &Delivery) -> bool {
        delivery.deliveries > 1 || delivery.published_ns < self.seen.consumers_made_ns.load(Relaxed)
    }

    /// Whether the stream of outcomes may have one of this frame that it no longer takes for a duplicate. How
    /// often it was delivered does not matter: a server that was killed, or a consumer that was made anew,
    /// may not remember, and others may have had it while this process stood still.
    pub fn may_be_past_window(&self, delivery: &Delivery) -> bool {
        self.age(delivery) > self.settings.duplicate_window / 2
    }

    /// Remembers when the stream of frames and one of its consumers were made.
    pub fn saw_made(&self, frames: OffsetDateTime, consumer: Option<OffsetDateTime>) {
        self.seen.frames_made_ns.store(nanoseconds(frames), Relaxed);
        self.seen.consumers_made_ns.fetch_max(consumer.map(nanoseconds).unwrap_or_default(), Relaxed);
    }

    /// Whether an outcome with the id of this frame's, which the stream of outcomes has not forgotten, may be
    /// older than the stream of frames.
    pub fn may_share_id(&self, delivery: &Delivery) -> bool {
        let age = Duration::from_nanos(delivery.published_ns.saturating_sub(self.frames_made_ns()));
        age < self.settings.duplicate_window + WINDOW_SLACK
    }

    /// When the stream of frames was made, nanoseconds since 1970.
    pub fn frames_made_ns(&self) -> u64 {
        self.seen.frames_made_ns.load(Relaxed)
    }

    /// JetStream over the current client.
    pub fn context(&self) -> Context {
        jetstream::ContextBuilder::new().timeout(TIMEOUT).build(self.connection.client())
    }

    /// The result of requests to JetStream. What was not answered when the connection was lost will not be:
    /// this says so then, and not at the timeout.
    ///
    /// # Errors
    /// The requests failed, or the connection was lost.
    pub async fn answered<T>(&self, requests: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        // What is sent while it is down goes out with the next connection.
        self.connection.is_up_within(TIMEOUT).await;
        let epoch = self.connection.epoch();
        tokio::select! {
            biased;
            result = requests => result,
            () = self.connection.reconnected(epoch) => anyhow::bail!("the connection was lost"),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Jetstream {
        &self.settings
    }

    /// The subjects' prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// [`ensure`](Self::ensure), again for a while where it fails: servers that have just started may not
    /// have found a leader.
    ///
    /// # Errors
    /// As there.
    pub async fn ensure_in_time(&self) -> anyhow::Result<()> {
        let give_up = Instant::now() + START;
        loop {
            match self.ensure().await {
                Err(error) if !error.is::<Otherwise>() && Instant::now() < give_up => {
                    tracing::warn!(error = format!("{error:#}"), "the streams cannot be had yet");
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    /// Makes what is missing and compares the rest.
    ///
    /// # Errors
    /// JetStream cannot be asked; something is missing and `jetstream.create` is false; or something differs,
    /// with each key, what it is and what it has to be.
    pub async fn ensure(&self) -> anyhow::Result<()> {
        let context = self.context();
        self.stream(&context, self.outcomes()).await?;
        let mut frames = self.frames();
        if context.get_stream(&frames.name).await.is_err() {
            frames.first_sequence = self.first_sequence(&context).await;
        }
        let frames = self.stream(&context, frames).await?;
        self.saw_made(frames.cached_info().created, None);
        for wanted in self.consumer_configs() {
            self.consumer(&frames, wanted).await?;
        }
        Ok(())
    }

    /// Whether the server pins the consumer to one daemon.
    pub fn is_pinned(&self) -> bool {
        self.settings.ordered || self.group().is_some() && self.settings.group_policy == GroupPolicy::Pinned
    }

    /// What is there of streams and consumers, and what is otherwise than it has to be; makes nothing.
    pub async fn examine(&self) -> Vec<(String, anyhow::Result<String>)> {
        let context = self.context();
        let mut found = Vec::new();
        for wanted in [self.frames(), self.outcomes()] {
            let what = format!("stream {}", wanted.name);
            let state = match context.get_stream(&wanted.name).await {
                Ok(stream) => compare_stream(&stream, &wanted).map(|()| promises(&stream)),
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        self.not_there()
                    }
                    _ => Err(error.into()),
                },
            };
            found.push((what, state));
        }
        let frames = context.get_stream_no_info(&self.settings.frames_stream).await;
        for wanted in self.consumer_configs() {
            let name = wanted.durable_name.clone().unwrap_or_default();
            let state = match &frames {
                Ok(frames) => match frames.get_consumer::<ConsumerConfig>(&name).await {
                    Ok(consumer) => compare_consumer(&consumer, &wanted, &self.settings.frames_stream)
                        .map(|()| waiting(&consumer)),
                    Err(_) => self.not_there(),
                },
                Err(error) => Err(anyhow::anyhow!("{error}")),
            };
            found.push((format!("consumer {name}"), state));
        }
        found
    }

    /// The first sequence of frames, where their stream is made: beyond any that may have an outcome, whose
    /// id a new frame must not have. Microseconds go faster than frames.
    async fn first_sequence(&self, context: &Context) -> Option<u64> {
        let seen = self.seen.sequence.load(Relaxed);
        let outcomes = context.get_stream(&self.settings.outcomes_stream).await.ok();
        let is_used = outcomes.is_some_and(|outcomes| outcomes.cached_info().state.last_sequence > 0);
        (is_used || seen > 0).then(|| (unix_ns() / 1000).max(seen + 1))
    }

    /// What may be wrong, for errors whose cause follows.
    fn advice(&self) -> &'static str {
        if self.settings.create {
            " (nats-server needs --jetstream, the user the rights in docs/configuration.md)"
        } else {
            ", and jetstream.create is false"
        }
    }

    fn not_there(&self) -> anyhow::Result<String> {
        anyhow::ensure!(self.settings.create, "not there; make it, or set jetstream.create");
        Ok("not there yet; the daemon makes it at its start".to_owned())
    }

    async fn stream(&self, context: &Context, wanted: StreamConfig) -> anyhow::Result<Stream> {
        let name = &wanted.name;
        let stream = if self.settings.create {
            context.get_or_create_stream(wanted.clone()).await.map_err(anyhow::Error::from)
        } else {
            context.get_stream(name).await.map_err(anyhow::Error::from)
        };
        let stream = stream.with_context(|| format!("the stream {name} cannot be had{}", self.advice()))?;
        compare_stream(&stream, &wanted)?;
        Ok(stream)
    }

    async fn consumer(&self, frames: &Stream, wanted: ConsumerConfig) -> anyhow::Result<()> {
        let durable = wanted.durable_name.as_deref().unwrap_or_default();
        let consumer = if self.settings.create {
            frames.get_or_create_consumer(durable, wanted.clone()).await.map_err(anyhow::Error::from)
        } else {
            frames.get_consumer(durable).await.map_err(anyhow::Error::msg)
        };
        let consumer: Consumer<ConsumerConfig> =
            consumer.with_context(|| format!("the consumer {durable} cannot be had{}", self.advice()))?;
        self.saw_made(frames.cached_info().created, Some(consumer.cached_info().created));
        compare_consumer(&consumer, &wanted, &self.settings.frames_stream)
    }

    /// Holds what was not read: full means unread, and who publishes gets an error.
    fn frames(&self) -> StreamConfig {
        let prefix = &self.prefix;
        StreamConfig {
            name: self.settings.frames_stream.clone(),
            subjects: vec![format!("{prefix}.frames.>"), format!("{prefix}.sessions.>")],
            discard: DiscardPolicy::New,
            // By the whole subject, so that frames of one source are of one partition.
            subject_transform: self.settings.ordered.then(|| SubjectTransform {
                source: format!("{prefix}.frames.>"),
                destination: format!("{prefix}.frames.{{{{partition({})}}}}.>", self.settings.partitions),
            }),
            ..self.both()
        }
    }

    fn outcomes(&self) -> StreamConfig {
        let prefix = &self.prefix;
        StreamConfig {
            name: self.settings.outcomes_stream.clone(),
            subjects: vec![format!("{prefix}.failures.>"), format!("{prefix}.predictions.>")],
            discard: DiscardPolicy::Old,
            max_age: OUTCOMES_FOR,
            ..self.both()
        }
    }

    fn both(&self) -> StreamConfig {
        StreamConfig {
            retention: RetentionPolicy::Limits,
            max_bytes: i64::try_from(self.settings.max_bytes).unwrap_or(i64::MAX),
            num_replicas: self.settings.replicas,
            duplicate_window: self.settings.duplicate_window,
            ..StreamConfig::default()
        }
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos()).unwrap_or_default()
}

/// What a stream promises.
fn promises(stream: &Stream) -> String {
    let info = stream.cached_info();
    let (config, state) = (&info.config, &info.state);
    format!(
        "{} messages, {} of at most {} bytes, {} {}, duplicates within {}",
        state.messages,
        state.bytes,
        config.max_bytes,
        config.num_replicas,
        if config.num_replicas == 1 { "copy" } else { "copies" },
        format_duration(config.duplicate_window),
    )
}

/// What waits at a consumer.
fn waiting(consumer: &Consumer<ConsumerConfig>) -> String {
    let info = consumer.cached_info();
    format!("{} frames wait, {} are not acknowledged", info.num_pending, info.num_ack_pending)
}
