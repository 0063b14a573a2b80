//! Gathered models: the frames of several receivers, on a real server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures::StreamExt;
use rmpv::Value;
use sferic::nats::PrivateServer;

use crate::support::*;

/// A frame of one value, as model `gathered` takes it.
pub fn level(id: &str, value: f32) -> Value {
    let tensor = map(&[
        ("shape", Value::Array(vec![1.into()])),
        ("dtype", "float32".into()),
        ("data", Value::Binary(value.to_le_bytes().into())),
    ]);
    map(&[("frame_id", id.into()), ("tensors", map(&[("level", tensor)]))])
}

/// A frame of steady samples at a place, heard at an instant.
pub fn heard(id: &str, amplitude: f32, place: Option<(f64, f64)>, arrival_ns: i64) -> Value {
    let place = place.map_or(Value::Nil, |(longitude, latitude)| point(longitude, latitude));
    with(
        &frame(id, &[[amplitude, 0.0]; 8]),
        &[("sample_rate", 48e3.into()), ("geolocation", place), ("arrival_ns", arrival_ns.into())],
    )
}

/// As JSON; `bin` as an array of its bytes.
pub fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Binary(bytes) => serde_json::json!(bytes),
        Value::Array(values) => values.iter().map(json_of).collect(),
        Value::Map(entries) => {
            let entry = |(key, value): &(Value, Value)| (key.as_str().unwrap().to_owned(), json_of(value));
            serde_json::Value::Object(entries.iter().map(entry).collect())
        }
        other => rmp_serde::from_slice(&pack(other)).unwrap(),
    }
}

/// The outcomes that are published.
pub struct Outcomes(Subscriber);

impl Outcomes {
    pub async fn of(world: &World) -> Self {
        let outcomes = world.client.subscribe("iq.*.>").await.unwrap();
        world.client.flush().await.unwrap();
        Self(outcomes)
    }

    /// The outcomes of so many frames, by id.
    pub async fn next(&mut self, count: usize) -> BTreeMap<String, serde_json::Value> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < count {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let message = next.unwrap_or_else(|_| panic!("{} of {count} came", outcomes.len())).unwrap();
            let is_outcome = ["iq.predictions.", "iq.failures."];
            if is_outcome.iter().any(|prefix| message.subject.starts_with(prefix)) {
                let body = json_of(&rmpv::decode::read_value(&mut &message.payload[..]).unwrap());
                let id = body["frame_id"].as_str().unwrap().to_owned();
                assert!(outcomes.insert(id.clone(), body).is_none(), "{id} ends twice");
            }
        }
        outcomes
    }
}

pub async fn send(world: &World, subject: &str, frame: &Value) {
    world.client.publish(subject.to_owned(), pack(frame).into()).await.unwrap();
}

fn floats(outcome: &serde_json::Value, tensor: &str) -> Vec<f32> {
    let data = &outcome["tensors"][tensor]["data"];
    let bytes: Vec<u8> = serde_json::from_value(data.clone()).unwrap_or_else(|_| panic!("{outcome}"));
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_session_are_answered_together() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["gathered"], &[]).await;
    let mut outcomes = Outcomes::of(&world).await;
    // Complete by the size it states, at once; slots by the names of the sources.
    let begun = Instant::now();
    for (source, value) in [("north.rx2", 4.0), ("b", 2.0), ("a", 1.0)] {
        let frame = with(&level(source, value), &[("session_size", 3.into())]);
        send(&world, &format!("iq.sessions.s1.{source}"), &frame).await;
    }
    let answers = outcomes.next(3).await;
    assert!(begun.elapsed() < Duration::from_millis(290), "it did not wait for its window");
    for (source, answer) in &answers {
        assert_eq!((&answer["source"], &answer["session_id"]), (&source.as_str().into(), &"s1".into()));
        assert_eq!(floats(answer, "levels"), [1.0, 2.0, 4.0, 0.0, 0.0], "{answer}");
        assert_eq!(floats(answer, "there"), [1.0, 1.0, 1.0, 0.0, 0.0]);
        let expected = serde_json::json!(
            {"id": "s1", "size": 3, "used": ["a", "b", "north.rx2"], "left_out": []}
        );
        assert_eq!(answer["session"], expected);
        assert_eq!(answer["_cache_hit"], false);
    }
    // Another session with the same contents has its own run; the id in the body goes before the subject's.
    for source in ["a", "b", "c"] {
        let changes = [("session_size", 3.into()), ("session_id", "s2".into())];
        send(&world, &format!("iq.sessions.any.{source}"), &with(&level(source, 1.0), &changes)).await;
    }
    assert!(outcomes.next(3).await.values().all(|answer| answer["session"]["id"] == "s2"));

    // The window ends: what came is answered, what comes later is late.
    for source in ["a", "b", "c"] {
        send(&world, &format!("iq.sessions.s3.{source}"), &level(source, 1.0)).await;
    }
    assert_eq!(floats(&outcomes.next(3).await["a"], "there"), [1.0, 1.0, 1.0, 0.0, 0.0]);
    send(&world, "iq.sessions.s3.d", &level("d", 1.0)).await;
    send(&world, "iq.sessions.s4.a", &level("few", 1.0)).await;
    send(&world, "iq.sessions.s4.a", &level("again", 1.0)).await;
    let failures = outcomes.next(3).await;
    let code = |id: &str| failures[id]["code"].as_str().unwrap();
    assert_eq!((code("d"), code("again"), code("few")), ("late", "late", "too_few_receivers"));
    let few = failures["few"]["message"].as_str().unwrap();
    assert!(few.contains("\"s4\"") && few.contains("after 300 ms") && few.contains("needs 3"), "{few}");
    assert_eq!(failures["few"]["session"]["size"], 1);

    // A request is answered with its session.
    let asked = ["a", "b", "c"].map(|source| {
        let frame = with(&level(source, 3.0), &[("session_size", 3.into())]);
        world.client.request(format!("iq.sessions.s5.{source}"), pack(&frame).into())
    });
    for answer in futures::future::join_all(asked).await {
        let body = rmpv::decode::read_value(&mut &answer.unwrap().payload[..]).unwrap();
        assert_eq!(floats(&json_of(&body), "sum"), [9.0]);
    }
    outcomes.next(3).await;
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (12, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_gathered_is_said_and_loses_nothing_else() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["placed", "degrees"], &[("GATHER__MAX_SESSIONS", "2")]).await;
    let mut outcomes = Outcomes::of(&world).await;
    let here = Some((7.6, 45.0));
    let with_session = |id: &str, changes: &[(&str, Value)]| with(&heard(id, 0.5, here, 1), changes);
    for (subject, frame, code, part) in [
        ("iq.frames.a", with_session("1", &[]), "invalid_frame", "no `session_id`"),
        (
            "iq.sessions.s.x",
            with_session("2", &[]),
            "invalid_frame",
            "none of the model's receivers: a, b, c.d",
        ),
        ("iq.sessions.s", with_session("3", &[]), "invalid_frame", "no source after it"),
        (
            "iq.sessions.s.a",
            with_session("4", &[("arrival_ns", Value::Nil)]),
            "invalid_frame",
            "`arrival_ns`",
        ),
        ("iq.sessions.s.a", with_session("5", &[("session_size", 4.into())]), "invalid_frame", "1 to 3"),
        ("iq.sessions.s.a", with_session("6", &[("session_size", 0.into())]), "invalid_frame", "is 0"),
        (
            "iq.sessions.s.a",
            with_session("7", &[("arrival_ns", "soon".into())]),
            "invalid_frame",
            "arrival_ns",
        ),
    ] {
        send(&world, subject, &frame).await;
        let failures = outcomes.next(1).await;
        let failure = failures.values().next().unwrap();
        assert_eq!(failure["code"], code, "{failure}");
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // Two sessions are open, a third does not fit; a frame for another model is answered by itself.
    for session in ["s1", "s2", "s3"] {
        let frame = with_session(session, &[("session_size", 2.into())]);
        send(&world, &format!("iq.sessions.{session}.a"), &frame).await;
    }
    let full = outcomes.next(1).await;
    assert!(full["s3"]["code"] == "overloaded" && full["s3"]["retryable"] == true, "{full:?}");
    let alone = with(&steady("alone"), &[("model", "degrees".into())]);
    send(&world, "iq.sessions.s1.b", &alone).await;
    assert_eq!(outcomes.next(1).await["alone"]["kind"], "localization");
    for session in ["s1", "s2"] {
        send(&world, &format!("iq.sessions.{session}.b"), &with_session(&format!("{session}b"), &[])).await;
    }
    // Both stand at one place, so they count once.
    let answers = outcomes.next(4).await;
    assert!(answers.values().all(|answer| answer["code"] == "too_few_receivers"), "{answers:?}");
    assert!(answers["s1"]["message"].as_str().unwrap().contains("of 1 usable"), "{answers:?}");
    assert_eq!(world.ledger().await.lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_what_cannot_be_is_left_out_and_named() {
    if !tools_are_there() {
        return;
    }
    let positions = r#"[{source="b",position={latitude=45.0,longitude=7.7}},{source="c.d",delay="20us"}]"#;
    let world = World::start(&["placed"], &[("RECEIVERS", positions)]).await;
    let mut outcomes = Outcomes::of(&world).await;
    let now = 1_700_000_000_000_000_000;
    let session = async |name: &str, a: i64, b: i64, c: i64, amplitude: f32, outcomes: &mut Outcomes| {
        let far = Some((7.8, 45.0));
        for (source, place, at) in [("a", Some((7.6, 45.0)), a), ("b", None, b), ("c.d", far, c)] {
            let frame = heard(source, amplitude, place, now + at);
            send(&world, &format!("iq.sessions.{name}.{source}"), &frame).await;
        }
        outcomes.next(3).await["a"].clone()
    };
    // b stands where the configuration says, 7.9 km (26 µs) from either; the delay of c.d is taken off.
    let answer = session("1", 0, 10_000, 40_000, 0.5, &mut outcomes).await;
    assert_eq!(answer["session"]["used"], serde_json::json!(["a", "b", "c.d"]), "{answer}");
    assert_eq!(answer["uncertainty"]["sigma_x"], 21.0, "20 µs after the first, and 1");
    assert!((answer["position"]["longitude"].as_f64().unwrap() - 7.7).abs() < 1e-6, "{answer}");
    // b 100 µs late contradicts both others.
    let answer = session("2", 0, 100_000, 40_000, 0.5, &mut outcomes).await;
    let expected = serde_json::json!([{"source": "b", "reason": "arrival_implausible"}]);
    assert_eq!(answer["session"]["left_out"], expected, "{answer}");
    assert_eq!(answer["uncertainty"]["sigma_y"], 2.0, "two receivers");
    // Of the sources something is remembered.
    let sources = world.client.request("sferic.sources", "".into()).await.unwrap();
    let sources: serde_json::Value = serde_json::from_slice(&sources.payload).unwrap();
    let b = sources["sources"].as_array().unwrap().iter().find(|of| of["source"] == "b").unwrap().clone();
    assert_eq!((&b["frames"], &b["left_out"]["arrival_implausible"]), (&2.into(), &1.into()), "{sources}");
    // Levels beyond the bound of the residual: -86 dB.
    let answer = session("3", 0, 10_000, 40_000, 5e-5, &mut outcomes).await;
    assert_eq!(answer["code"], "inconsistent_measurements", "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("over 60"), "{answer}");
    assert_eq!(world.ledger().await.lost, 0);
}

/// Noise, the same every time.
fn noise(length: usize) -> Vec<[f32; 2]> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..length).map(|_| [next(), next()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_two_receivers_are_correlated_by_their_datetimes() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["pairs"], &[("PREPROCESS__WORKERS", "1")]).await;
    let mut outcomes = Outcomes::of(&world).await;
    let signal = noise(9000);
    let rate = 100e3;
    // The second hears it 12 samples later, and begins 1 ms later.
    for (source, first, datetime) in
        [("a", 500, "2026-01-01T00:00:00.000000000Z"), ("b", 588, "2026-01-01T00:00:00.001000000Z")]
    {
        let changes =
            [("sample_rate", rate.into()), ("datetime", datetime.into()), ("session_size", 2.into())];
        let frame = with(&frame(source, &signal[first..first + 8192]), &changes);
        send(&world, &format!("iq.sessions.s.{source}"), &frame).await;
    }
    let answer = outcomes.next(2).await["a"].clone();
    let correlation = floats(&answer, "correlation_out");
    let largest = (0..201).max_by(|&a, &b| correlation[a].total_cmp(&correlation[b])).unwrap();
    assert_eq!(floats(&answer, "lag_step_out"), [1e-5]);
    assert_eq!(largest as i64 - 100, 12, "{answer}");
    assert!(correlation[largest] > 0.98 && correlation[201..].iter().all(|&x| x == 0.0));
    assert!(floats(&answer, "scatter_out")[0] < 1e-7);
    // Without a time there is nothing to correlate by.
    let frame = with(&frame("c", &signal[..64]), &[("sample_rate", rate.into())]);
    send(&world, "iq.sessions.t.c", &frame).await;
    assert!(outcomes.next(1).await["c"]["message"].as_str().unwrap().contains("`datetime`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_the_members_comes_late_and_the_others_are_answered_in_time() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["gathered"], &[]).await;
    let mut outcomes = Outcomes::of(&world).await;
    let begun = Instant::now();
    for session in 0..20 {
        for source in ["a", "b", "c", "d"] {
            let frame = level(&format!("{session}{source}"), 1.0);
            send(&world, &format!("iq.sessions.{session}.{source}"), &frame).await;
        }
    }
    let answers = outcomes.next(80).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(answers.values().all(|answer| answer["session"]["size"] == 4), "{answers:?}");
    for session in 0..20 {
        send(&world, &format!("iq.sessions.{session}.e"), &level(&format!("{session}e"), 1.0)).await;
    }
    assert!(outcomes.next(20).await.values().all(|late| late["code"] == "late"));
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (80, 20, 0));
}

/// Waits until so many daemons answer, each of them ready.
async fn all_ready(world: &World, daemons: usize) {
    let ready = async || {
        let inbox = world.client.new_inbox();
        let mut pongs = world.client.subscribe(inbox.clone()).await.unwrap();
        world.client.publish_with_reply("$SRV.PING.sferic", inbox, "".into()).await.unwrap();
        let mut ready = 0;
        while let Ok(Some(pong)) = tokio::time::timeout(Duration::from_millis(300), pongs.next()).await {
            let pong: serde_json::Value = serde_json::from_slice(&pong.payload).unwrap();
            let subject = format!("sferic.health.{}", pong["id"].as_str().unwrap());
            let health = world.client.request(subject, "".into()).await.unwrap();
            let health: serde_json::Value = serde_json::from_slice(&health.payload).unwrap();
            ready += usize::from(health["status"] == "ok");
        }
        ready
    };
    let all = async { while ready().await < daemons {} };
    tokio::time::timeout(PATIENCE, all).await.expect("not all daemons get ready");
}

/// Two daemons that gather the same would each answer: neither is ready. Divided by the server, both are.
#[tokio::test(flavor = "multi_thread")]
async fn daemons_divide_sessions_and_say_where_they_overlap() {
    if !tools_are_there() {
        return;
    }
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        &config,
        "mappings: {\"iq.sessions.*.>\": \"iq.sessions.{{partition(2,1)}}.{{wildcard(1)}}.>\"}\n",
    )
    .unwrap();
    let server = PrivateServer::start(&["-c", config.path().to_str().unwrap()]).await.unwrap();
    let first = [("GATHER__SUBJECT", "iq.sessions.0.>")];
    let world = World::on(server, &["gathered"], &first).await;
    let repository = repository(&["gathered"]);
    let settings = |subject: &'static str| {
        [
            ("MODELS__REPOSITORY", repository.path().to_str().unwrap().to_owned()),
            ("MODELS__DEFAULT", "gathered".to_owned()),
            ("GATHER__SUBJECT", subject.to_owned()),
        ]
    };
    let start = async |subject: &'static str| {
        let settings = settings(subject);
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        Daemon::start(world.server.url(), &settings).await
    };
    let second = start("iq.sessions.1.>").await;
    all_ready(&world, 2).await;
    let mut outcomes = Outcomes::of(&world).await;
    for n in 0..40 {
        for source in ["a", "b", "c", "d", "e"] {
            send(&world, &format!("iq.sessions.{n}.{source}"), &level(&format!("{n}{source}"), 1.0)).await;
        }
    }
    let answers = outcomes.next(200).await;
    assert!(answers.values().all(|answer| answer["session"]["size"] == 5), "each session at one daemon");

    let third = start("iq.sessions.>").await;
    let overlapping = async {
        loop {
            let health = world.health().await;
            // Just started it has other reasons.
            let reason = health["reason"].as_str().unwrap_or_default();
            if health["status"] != "ok" && reason.contains("divide") {
                return reason.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reason = tokio::time::timeout(PATIENCE, overlapping).await.expect("nobody sees that they overlap");
    assert!(reason.contains("iq.sessions."), "{reason}");
    drop((second, third));
}
