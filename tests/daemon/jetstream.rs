//! Frames from a stream: each has one outcome in the other, whatever ends in between.

use std::collections::BTreeMap;

use async_nats::jetstream::{self, Context, consumer, stream};
use futures::{StreamExt, TryStreamExt};
use sferic::nats::PrivateServer;

use crate::odd_messages::{READABLE, UNREADABLE};
use crate::support::*;
use crate::wire::Wire;

/// A nats-server with a store, a client, and JetStream over it.
pub struct Store {
    pub server: PrivateServer,
    client: async_nats::Client,
    pub context: Context,
    models: tempfile::TempDir,
    _folder: tempfile::TempDir,
}

/// An outcome in its stream.
#[derive(Debug)]
pub struct Stored {
    pub id: String,
    pub subject: String,
    pub body: serde_json::Value,
    /// The frame, in the failure that ended its deliveries.
    payload: Option<Vec<u8>>,
}

impl Stored {
    fn of(message: &jetstream::Message) -> Self {
        let id = message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().to_string();
        let mut body = rmpv::decode::read_value(&mut &message.payload[..]).unwrap();
        let rmpv::Value::Map(entries) = &mut body else { panic!("{body}") };
        let at = entries.iter().position(|(key, _)| key.as_str() == Some("payload"));
        let payload = at.map(|at| entries.remove(at).1.as_slice().unwrap().to_vec());
        Self { id, subject: message.subject.to_string(), body: unpack(&pack(&body)), payload }
    }
}

impl Store {
    pub async fn start(models: &[&str]) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let server = PrivateServer::start(&["-js", "-sd", folder.path().to_str().unwrap()]).await.unwrap();
        let client = client(server.url()).await;
        let context = jetstream::new(client.clone());
        Self { server, client, context, models: repository(models), _folder: folder }
    }

    pub async fn daemon(&self, settings: &[(&str, &str)]) -> Daemon {
        Daemon::start(self.server.url(), &self.settings(settings)).await
    }

    pub fn settings<'a>(&'a self, settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("NATS__MODE", "jetstream"),
            ("MODELS__REPOSITORY", self.models.path().to_str().unwrap()),
            ("MODELS__DEFAULT", "degrees"),
            ("JETSTREAM__MAX_BYTES", "64MiB"),
        ];
        own.iter().chain(settings).copied().collect()
    }

    /// Puts frames into the stream, each acknowledged by it.
    pub async fn publish(
        &self,
        source: &str,
        ids: impl IntoIterator<Item = u64>,
        more: &[(&str, rmpv::Value)],
    ) {
        for id in ids {
            let frame = pack(&with(&steady(&id.to_string()), more));
            self.put(source, frame).await;
        }
    }

    pub async fn put(&self, source: &str, frame: Vec<u8>) {
        self.context.publish(format!("iq.frames.{source}"), frame.into()).await.unwrap().await.unwrap();
    }

    pub async fn outcomes(&self, count: usize) -> Vec<Stored> {
        let stream = self.context.get_stream("IQ_OUTCOMES").await.unwrap();
        let there = async {
            while stream.get_info().await.unwrap().state.messages < count as u64 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, there).await.expect("outcomes are missing");
        let consumer = stream.create_consumer(consumer::pull::OrderedConfig::default()).await.unwrap();
        let messages = stream.get_info().await.unwrap().state.messages as usize;
        let stored: Vec<_> = consumer.messages().await.unwrap().take(messages).try_collect().await.unwrap();
        stored.iter().map(Stored::of).collect()
    }

    /// Waits until no frame is pending or unacknowledged.
    pub async fn settled(&self) {
        let frames = self.context.get_stream("IQ_FRAMES").await.unwrap();
        let settled = async {
            loop {
                let info = frames.consumer_info("sferic").await.unwrap();
                if info.num_pending == 0 && info.num_ack_pending == 0 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, settled).await.expect("frames stay unacknowledged");
    }

    /// The statistics of each daemon.
    async fn statistics(&self) -> Vec<serde_json::Value> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.unwrap();
        self.client.publish_with_reply("$SRV.STATS.sferic", inbox, "".into()).await.unwrap();
        let mut statistics = Vec::new();
        let quiet = std::time::Duration::from_millis(300);
        while let Ok(Some(answer)) = tokio::time::timeout(quiet, answers.next()).await {
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            statistics.push(answer["endpoints"][0]["data"].clone());
        }
        statistics
    }

    /// Waits until so many daemons read: each of them says that it is ready.
    pub async fn joined(&self, daemons: usize) {
        let joined = async {
            while self.statistics().await.iter().filter(|each| each["input"]["state"] == "reading").count()
                < daemons
            {}
        };
        tokio::time::timeout(PATIENCE, joined).await.expect("a daemon does not read");
    }

    /// Frames that each daemon has received, the fewest first.
    pub async fn received(&self) -> Vec<u64> {
        let statistics = self.statistics().await;
        let mut received: Vec<_> =
            statistics.iter().map(|each| each["ledger"]["received"].as_u64().unwrap()).collect();
        received.sort_unstable();
        received
    }

    /// Frames that the consumer has not delivered.
    pub async fn pending(&self) -> u64 {
        let frames = self.context.get_stream("IQ_FRAMES").await.unwrap();
        frames.consumer_info("sferic").await.unwrap().num_pending
    }

    pub async fn ledger(&self) -> serde_json::Value {
        let answer = self.client.request("sferic.health", "".into()).await.unwrap();
        let health: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        health["ledger"].clone()
    }
}

/// How often each id is there.
fn counted(outcomes: &[Stored]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome.id.as_str()).or_default() += 1;
    }
    counts
}

pub fn assert_once(outcomes: &[Stored], frames: u64) {
    let ids: Vec<String> = (1..=frames).map(|sequence| format!("IQ_FRAMES:{sequence}")).collect();
    let expected: BTreeMap<_, _> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    assert_eq!(counted(outcomes), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_waited_without_a_daemon_have_one_outcome_each() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let mut daemon = store.daemon(&[]).await;
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success());
    // Two sources that count alike.
    store.publish("a", 0..100, &[]).await;
    store.publish("b.c", 0..100, &[]).await;
    store.put("a", b"\xc1".to_vec()).await;
    let _daemon = store.daemon(&[]).await;
    let outcomes = store.outcomes(201).await;
    assert_once(&outcomes, 201);
    let first = &outcomes.iter().find(|outcome| outcome.id == "IQ_FRAMES:1").unwrap();
    assert_eq!(first.subject, "iq.predictions.a");
    assert_eq!((&first.body["stream_seq"], &first.body["deliveries"]), (&1.into(), &1.into()));
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.subject == "iq.failures.a").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0].body["code"], &failed[0].body["stream_seq"]),
        (&"invalid_frame".into(), &201.into())
    );
    assert!(failed[0].payload.is_none(), "it is not delivered again");
    store.settled().await;
    let ledger = store.ledger().await;
    assert_eq!((&ledger["received"], &ledger["predictions"]), (&201.into(), &200.into()), "{ledger}");
    assert_eq!((&ledger["redelivered"], &ledger["lost"]), (&0.into(), &0.into()), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_slow_is_delivered_twice_and_fails_with_its_payload() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees", "slow"]).await;
    let _daemon = store.daemon(&[("JETSTREAM__MAX_DELIVER", "5")]).await;
    let frame = pack(&with(&steady("late"), &[("model", "slow".into()), ("timeout_ms", 20.into())]));
    store.put("rx", frame.clone()).await;
    let outcomes = store.outcomes(1).await;
    assert_once(&outcomes, 1);
    let body = &outcomes[0].body;
    assert_eq!((&body["code"], &body["deliveries"]), (&"deadline_exceeded".into(), &2.into()), "{body}");
    assert_eq!(outcomes[0].payload.as_ref(), Some(&frame));
    store.settled().await;
    let ledger = store.ledger().await;
    assert_eq!(
        (&ledger["received"], &ledger["failures"], &ledger["redelivered"]),
        (&2.into(), &1.into(), &1.into()),
        "{ledger}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_frame_without_outcome_and_none_with_two() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let wait = [("JETSTREAM__ACK_WAIT", "1s"), ("LIMITS__IN_FLIGHT_FRAMES", "32")];
    let mut daemon = store.daemon(&wait).await;
    let frames = 2000;
    let sending = store.publish("rx", 0..frames, &[]);
    let killing = async {
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            daemon.signal("KILL").await;
            daemon.ended().await;
            daemon = store.daemon(&wait).await;
        }
    };
    tokio::join!(sending, killing);
    let outcomes = store.outcomes(frames as usize).await;
    store.settled().await;
    assert_once(&outcomes, frames);
    assert!(outcomes.iter().all(|outcome| outcome.subject == "iq.predictions.rx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_otherwise_ends_the_start_with_each_difference() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let other = stream::Config {
        name: "IQ_FRAMES".into(),
        subjects: vec!["iq.frames.>".into()],
        max_bytes: 1 << 20,
        ..Default::default()
    };
    store.context.create_stream(other).await.unwrap();
    let mut command = sferic(&["run", "--url", store.server.url()]);
    command.envs(store.settings(&[]).iter().map(|(key, value)| (format!("SFERIC__{key}"), value)));
    command.env("SFERIC__HTTP__LISTEN", "");
    let (code, _, stderr) = output(&mut command).await;
    assert_eq!(code, 1, "{stderr}");
    for part in [
        "IQ_FRAMES",
        "iq.sessions.>",
        "max_bytes is 1048576, must be 67108864",
        "discard is Old, must be New",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_for_than_there_is_room_for() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    // Two of the largest frames fit. A request for fewer bytes than the next frame has is refused for ever.
    let _daemon = store.daemon(&[("LIMITS__IN_FLIGHT_BYTES", "2MiB")]).await;
    let large = with(
        &frame("large", &vec![[0.5, 0.25]; 100_000]),
        &[("timeout_ms", 10_000.into()), ("cache_enabled", false.into())],
    );
    for _ in 0..20 {
        store.put("rx", pack(&large)).await;
    }
    store.publish("rx", 0..20, &[]).await;
    let outcomes = store.outcomes(40).await;
    assert_once(&outcomes, 40);
    store.settled().await;
    let ledger = store.ledger().await;
    assert_eq!((&ledger["received"], &ledger["predictions"]), (&40.into(), &40.into()), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_the_client_cannot_read_fail_and_do_not_come_back() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[("JETSTREAM__ACK_WAIT", "1s")]).await;
    let mut wire = Wire::connect(store.server.url()).await;
    for (n, (_, subject, headers)) in UNREADABLE.iter().chain(&READABLE).enumerate() {
        let n = n as u64;
        store.publish("good", 10 * n..10 * n + 5, &[]).await;
        wire.send(&Wire::message(subject, b"", *headers, &pack(&steady("odd")))).await;
        wire.ping().await;
        store.publish("good", 10 * n + 5..10 * n + 10, &[]).await;
    }
    let frames = store.context.get_stream("IQ_FRAMES").await.unwrap();
    let stored = frames.cached_info().state.last_sequence;
    let (good, odd) = (10 * (UNREADABLE.len() + READABLE.len()), READABLE.len() + UNREADABLE.len());
    assert_eq!(stored, (good + odd) as u64, "the stream takes them all");
    let outcomes = store.outcomes(good + odd).await;
    store.settled().await;
    assert_once(&outcomes, stored);
    // A subject in Latin-1 may be read where a stream delivers it.
    let failures: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.subject.starts_with("iq.failures.odd")).collect();
    assert!((UNREADABLE.len() - 1..=UNREADABLE.len()).contains(&failures.len()), "{failures:?}");
    for failure in failures {
        let message = failure.body["message"].as_str().unwrap();
        assert!(failure.body["code"] == "invalid_frame" && message.contains("cannot be read"), "{message}");
        assert_eq!(failure.body["frame_id"], "odd");
    }
}
