//! Frames, a daemon, and requests to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use sferic_samples::Datatype;
use sferic_scene::scene::SAMPLE_RATE_HZ;
use sferic_scene::{FrameSimulator, RECEIVERS, SceneSimulator};
use sferic_wire::FrameMessage;
use tokio::process::Child;

use sferic_bench::usage::Usage;

/// Frames of one model that differ in a few bits of their first samples.
pub struct Frames {
    pub model: &'static str,
    /// With and without the cache.
    messages: [Vec<u8>; 2],
}

impl Frames {
    /// One channel of 16,384 samples, 128 KiB.
    pub fn modulation() -> anyhow::Result<Self> {
        let samples = FrameSimulator::new(1, 16_384).frame(0).bytes();
        Self::new("modulation", &samples, 250e3, 1)
    }

    /// Three channels of 4096 samples, 96 KiB.
    pub fn localization() -> anyhow::Result<Self> {
        Self::new(
            "localization",
            &SceneSimulator::new(1).scene(0).bytes(),
            SAMPLE_RATE_HZ,
            RECEIVERS.len() as u32,
        )
    }

    fn new(model: &'static str, samples: &[u8], sample_rate: f64, num_channels: u32) -> anyhow::Result<Self> {
        let message = |cache| FrameMessage {
            frame_id: "load",
            datatype: Datatype::Cf32Le.name(),
            sample_rate: Some(sample_rate),
            num_channels,
            model: Some(model),
            cache_enabled: Some(cache),
            samples,
            ..FrameMessage::default()
        };
        Ok(Self { model, messages: [message(true).encode()?, message(false).encode()?] })
    }

    /// Frame number `n`.
    pub fn bytes(&self, n: u64) -> Bytes {
        numbered(&self.messages[0], n)
    }

    /// The same, which does without the cache.
    pub fn uncached(&self, n: u64) -> Bytes {
        numbered(&self.messages[1], n)
    }
}

fn numbered(message: &[u8], n: u64) -> Bytes {
    let mut message = message.to_vec();
    // The samples come last. The lowest byte of each of their last eight values: too little for the model to
    // mind.
    let end = message.len();
    for (value, byte) in n.to_le_bytes().into_iter().enumerate() {
        message[end - 4 * (value + 1)] = byte;
    }
    message.into()
}

/// `sferic run`, ended when this is dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts one for frames below `prefix`, and waits until it answers.
    pub async fn start(server: &PrivateServer, client: &Client, prefix: &str) -> anyhow::Result<Self> {
        let settings = [("NATS__PREFIX", prefix), ("LIMITS__TIMEOUT", "10s")];
        let daemon = sferic_bench::start(server, &settings)?;
        let first = Frames::modulation()?.bytes(0);
        let ready =
            async { while ask(client, &format!("{prefix}.frames.b"), first.clone()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), ready)
            .await
            .context("the daemon does not get ready")?;
        Ok(Self(daemon))
    }

    /// Seconds of processor time it has used.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        Ok(Usage::of(self.0.id().context("the daemon has ended")?)?.cpu_s)
    }
}

/// The outcome in a reply.
pub fn outcome(reply: &Message) -> anyhow::Result<Value> {
    Ok(rmp_serde::from_slice(&reply.payload)?)
}

/// One request.
pub async fn ask(client: &Client, subject: &str, payload: Bytes) -> anyhow::Result<Message> {
    Ok(client.request(subject.to_owned(), payload).await?)
}

/// Requests for this long, so many always on their way; what was read of each reply, and how long it took.
pub async fn closed_loop<T>(
    client: &Client,
    subject: &str,
    frame: impl Fn(u64) -> Bytes,
    read: impl Fn(&Message) -> anyhow::Result<T>,
    time: Duration,
    outstanding: usize,
) -> anyhow::Result<(Vec<T>, Duration)> {
    let (began, sent) = (Instant::now(), AtomicU64::new(0));
    let requests =
        stream::iter(0u64..).take_while(|_| std::future::ready(began.elapsed() < time)).map(|_| {
            let payload = frame(sent.fetch_add(1, Ordering::Relaxed));
            async { read(&ask(client, subject, payload).await?) }
        });
    let replies = requests.buffer_unordered(outstanding).try_collect().await?;
    Ok((replies, began.elapsed()))
}

/// So many requests a second for this long, whether or not the answers to earlier ones have come; what was
/// read of each reply.
pub async fn open_loop<T>(
    client: &Client,
    subject: &str,
    frame: impl Fn(u64) -> Bytes,
    read: impl Fn(&Message) -> anyhow::Result<T>,
    per_second: f64,
    time: Duration,
) -> anyhow::Result<Vec<T>> {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let due = stream::poll_fn(|context| ticks.poll_tick(context).map(Some))
        .take((per_second * time.as_secs_f64()) as usize);
    let requests = due.enumerate().map(|(n, _)| {
        let payload = frame(n as u64);
        async { read(&ask(client, subject, payload).await?) }
    });
    requests.buffer_unordered(256).try_collect().await
}

pub fn percentiles(values: &mut [f64]) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied();
    json!({"count": values.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999)})
}
