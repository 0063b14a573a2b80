//! The circuit breaker: frames of a failing model, manual control, and pausing the input.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::support::*;

/// A repository of one model `m`, whose versions are these of the tests' models.
fn versions(models: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("m")).unwrap();
    for (index, model) in models.iter().enumerate() {
        let version = folder.path().join("m").join((index + 1).to_string());
        std::os::unix::fs::symlink(fixtures().join(model).join("1"), version).unwrap();
    }
    folder
}

fn path(repository: &TempDir) -> &str {
    repository.path().to_str().unwrap()
}

/// `poison` fails on it, `degrees` does not.
fn bad(id: &str, model: &str) -> Value {
    with(&frame(id, &[[-0.95, 0.1]; 16]), &[("model", model.into()), ("cache_enabled", false.into())])
}

fn good(id: &str, model: &str) -> Value {
    with(&steady(id), &[("model", model.into()), ("cache_enabled", false.into())])
}

/// Asks a control endpoint: JSON, or the code and the message of its refusal.
async fn control(
    client: &async_nats::Client,
    endpoint: &str,
    request: &str,
) -> Result<serde_json::Value, (String, String)> {
    let asked = client.request(format!("sferic.{endpoint}"), request.to_owned().into());
    let answer = match tokio::time::timeout(PATIENCE, asked).await.expect("no answer") {
        Ok(answer) => answer,
        // As long as the endpoint is not there.
        Err(error) => return Err((String::new(), error.to_string())),
    };
    let header = |name| {
        answer.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str().to_owned())
    };
    match (header("Nats-Service-Error-Code"), header("Nats-Service-Error")) {
        (Some(code), Some(message)) => Err((code, message)),
        _ => Ok(serde_json::from_slice(&answer.payload).unwrap()),
    }
}

/// Waits until the answer of `sferic.health` is as wanted.
async fn until(client: &async_nats::Client, health: &str, wanted: impl Fn(&serde_json::Value) -> bool) {
    let mut last = json!(null);
    let waiting = async {
        while !wanted(&last) {
            last = control(client, health, "").await.unwrap_or_default();
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("it stays {last}");
    }
}

#[tokio::test]
async fn a_circuit_opens_after_three_failures_probes_and_closes() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "poison"], &[("BREAKER__OPEN_FOR", "2s")]).await;
    for id in ["1", "2"] {
        assert_eq!(world.ask(&bad(id, "poison")).await.body["code"], "inference_failed");
    }
    // Before it opens, so that it is open for no longer than this says.
    let before = Instant::now();
    assert_eq!(world.ask(&bad("3", "poison")).await.body["code"], "inference_failed");
    let refused = world.ask(&good("4", "poison")).await;
    assert_eq!(
        (&refused.body["code"], refused.header("Nats-Service-Error-Code")),
        (&json!("model_unavailable"), Some("503"))
    );
    assert_eq!(refused.body["message"], "the circuit of poison@1 is open: 3 failures in a row");
    assert!((0.0..=2400.0).contains(&refused.number("retry_after_ms")), "{}", refused.body);
    let invalid = world.ask(&with(&bad("5", "poison"), &[("samples", Value::Nil)])).await;
    assert_eq!(invalid.body["code"], "invalid_frame", "an invalid frame gets its own failure all the same");
    assert!(
        world.ask(&good("6", "degrees")).await.body["position"].is_object(),
        "another model is not concerned"
    );

    until(&world.client, "health", |health| health["models"][1]["state"] == "half_open").await;
    let after = before.elapsed();
    assert!(after >= Duration::from_millis(1600), "open for 2 s, less a fifth: {after:?}");
    assert_eq!(world.ask(&bad("7", "poison")).await.body["code"], "inference_failed", "a probe");
    let refused = world.ask(&good("8", "poison")).await;
    assert_eq!(refused.body["message"], "the circuit of poison@1 is open: a probe failed");
    assert!((2400.0..=4800.0).contains(&refused.number("retry_after_ms")), "twice as long: {}", refused.body);

    until(&world.client, "health", |health| health["models"][1]["state"] == "half_open").await;
    for id in ["9", "10"] {
        assert!(world.ask(&good(id, "poison")).await.body["position"].is_object());
    }
    assert_eq!(world.health().await["models"][1]["state"], "ready");
    let counted = &world.statistics().await["breaker"][1];
    assert_eq!(
        (&counted["model"], &counted["version"], &counted["state"], &counted["reason"]),
        (&json!("poison"), &json!("1"), &json!("closed"), &json!(null))
    );
    assert_eq!(
        ["openings", "refused", "probes", "failures"].map(|key| counted[key].as_u64().unwrap()),
        [2, 2, 3, 4],
        "{counted}"
    );
    world.ledger().await;
}

#[tokio::test]
async fn while_the_circuit_of_a_version_is_open_the_older_one_answers() {
    if !tools_are_there() {
        return;
    }
    // The third takes frames of 32 samples only.
    let repository = versions(&["degrees", "width32", "poison"]);
    let world =
        World::start(&["degrees"], &[("MODELS__REPOSITORY", path(&repository)), ("MODELS__DEFAULT", "m")])
            .await;
    let version = async |frame: &Value| world.ask(frame).await.body["model_version"].clone();
    assert_eq!(version(&good("1", "m")).await, "3");
    for id in ["2", "3", "4"] {
        assert_eq!(world.ask(&bad(id, "m")).await.body["code"], "inference_failed");
    }
    assert_eq!(version(&good("5", "m")).await, "1", "the second does not take this frame");
    let of_32 = with(&frame("6", &[[0.1, 0.1]; 32]), &[("model", "m".into())]);
    assert_eq!(version(&of_32).await, "2");
    let by_default = with(&steady("7"), &[("model", Value::Nil)]);
    assert_eq!(version(&by_default).await, "1");
    assert_eq!(
        world.ask(&good("8", "m@3")).await.body["code"],
        "model_unavailable",
        "who asks for a version gets no other"
    );
    assert_eq!(version(&good("9", "m@1")).await, "1");

    control(&world.client, "breaker", r#"{"model": "m@3", "force": "close"}"#).await.unwrap();
    let again = world.ask(&by_default).await;
    assert_eq!(
        (&again.body["model_version"], &again.body["_cache_hit"]),
        (&json!("3"), &json!(false)),
        "each version has its own answers"
    );

    control(&world.client, "breaker", r#"{"force": "open"}"#).await.unwrap();
    let refused = world.ask(&good("10", "m")).await;
    assert_eq!(
        refused.body["message"], "the circuit of m@3 is open: opened by hand",
        "where none is left, the one that was asked for says it"
    );
    assert_eq!(refused.body["retry_after_ms"], json!(null), "nobody knows for how long");
    world.ledger().await;
}

#[tokio::test]
async fn circuits_are_listed_and_forced_over_the_control_endpoint() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "poison"], &[]).await;
    let listed = control(&world.client, "breaker", "").await.unwrap();
    let closed = |model| {
        json!({
            "model": model, "version": "1", "state": "closed", "reason": null, "retry_after_ms": null,
            "failures_in_a_row": 0, "window": null, "openings": 0, "refused": 0, "probes": 0, "failures": 0,
            "slow": 0,
        })
    };
    assert_eq!(listed, json!({"circuits": [closed("degrees"), closed("poison")]}));

    let opened = control(&world.client, "breaker", r#"{"model": "degrees", "force": "open"}"#).await.unwrap();
    let circuit = &opened["circuits"][0];
    assert_eq!(
        (&circuit["state"], &circuit["reason"], &circuit["openings"]),
        (&json!("open"), &json!("opened by hand"), &json!(1))
    );
    assert_eq!(world.ask(&good("1", "degrees")).await.body["code"], "model_unavailable");
    let reset =
        control(&world.client, "breaker", r#"{"model": "degrees@1", "force": "reset"}"#).await.unwrap();
    assert_eq!(reset, json!({"circuits": [closed("degrees")]}));
    assert!(world.ask(&good("2", "degrees")).await.body["position"].is_object());

    for (request, code, parts) in [
        (r#"{"model": "nobody"}"#, "404", ["\"nobody\"", "degrees@1, poison@1"]),
        (r#"{"force": "shut"}"#, "400", ["`shut`", "`open`, `close`, `reset`"]),
    ] {
        let (refused, message) = control(&world.client, "breaker", request).await.unwrap_err();
        assert_eq!(refused, code, "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }

    // By its id, one daemon of several.
    let info = world.client.request("$SRV.INFO.sferic", "".into()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    let instance = &info["metadata"]["instance"];
    assert!(instance.is_string());
    assert_eq!(info["metadata"], json!({"prefix": "iq", "queue_group": "sferic", "instance": instance}));
    let id = info["id"].as_str().unwrap();
    assert_eq!(control(&world.client, &format!("health.{id}"), "").await.unwrap()["status"], "ok");
    let (code, _) = control(&world.client, &format!("breaker.{id}"), "[").await.unwrap_err();
    assert_eq!(code, "400");
}

/// The ids of so many daemons on the server, once all of them are there.
async fn ids(client: &async_nats::Client, count: usize) -> BTreeSet<String> {
    let inbox = client.new_inbox();
    let mut pongs = client.subscribe(inbox.clone()).await.unwrap();
    let mut ids = BTreeSet::new();
    let all = async {
        while ids.len() < count {
            client.publish_with_reply("$SRV.PING.sferic", inbox.clone(), "".into()).await.unwrap();
            let pong: serde_json::Value =
                serde_json::from_slice(&pongs.next().await.unwrap().payload).unwrap();
            ids.insert(pong["id"].as_str().unwrap().to_owned());
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("a daemon does not answer");
    ids
}

/// Sixteen frames at a time, each a request, until it is stopped; how they ended. One that is not answered
/// fails the test.
async fn play(
    client: async_nats::Client,
    bad_ones: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> BTreeMap<String, u64> {
    let sent = AtomicU64::default();
    let ask = async || {
        let id = sent.fetch_add(1, Relaxed).to_string();
        let frame = if bad_ones.load(Relaxed) { bad(&id, "m") } else { good(&id, "m") };
        let reply = client
            .request("iq.frames.p", pack(&frame).into())
            .await
            .unwrap_or_else(|error| panic!("frame {id}: {error}"));
        let reply = Reply::of(reply);
        assert_eq!(reply.body["frame_id"], *id);
        reply.body["code"].as_str().unwrap_or("predicted").to_owned()
    };
    let mut outcomes = BTreeMap::new();
    let mut asking: FuturesUnordered<_> = (0..16).map(|_| ask()).collect();
    while let Some(outcome) = asking.next().await {
        *outcomes.entry(outcome).or_default() += 1;
        if !stop.load(Relaxed) {
            asking.push(ask());
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_broken_model_pauses_in_favour_of_the_other_and_no_frame_is_lost() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let (well, broken) = (versions(&["degrees"]), versions(&["poison"]));
    let start = async |repository: &TempDir, more: &[(&str, &str)]| {
        let common =
            [("MODELS__DEFAULT", "m"), ("LIMITS__TIMEOUT", "20s"), ("MODELS__REPOSITORY", path(repository))];
        Daemon::start(server.url(), &[&common, more].concat()).await
    };
    let mut first = start(&well, &[]).await;
    let well_id = ids(&client, 1).await.pop_first().unwrap();
    let _second = start(&broken, &[("BREAKER__PAUSE_INPUT", "true"), ("BREAKER__OPEN_FOR", "1s")]).await;
    let broken_id = ids(&client, 2).await.into_iter().find(|id| *id != well_id).unwrap();
    let status = async |wanted: &str| {
        until(&client, &format!("health.{broken_id}"), |health| health["status"] == wanted).await
    };

    let (bad_ones, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::default()));
    let playing = tokio::spawn(play(client.clone(), Arc::clone(&bad_ones), Arc::clone(&stop)));
    // It pauses, joins again half-open, fails its probes and pauses again, under load.
    let has_opened = |stats: &serde_json::Value| stats["circuits"][0]["openings"].as_u64() >= Some(3);
    until(&client, &format!("breaker.{broken_id}"), has_opened).await;
    status("paused").await;
    for n in 0..50 {
        let reply =
            Reply::of(client.request("iq.frames.q", pack(&bad(&n.to_string(), "m")).into()).await.unwrap());
        assert!(reply.body["position"].is_object(), "its peer has all the frames: {}", reply.body);
    }
    bad_ones.store(false, Relaxed);
    let is_healthy =
        |health: &serde_json::Value| health["status"] == "ok" && health["models"][0]["state"] == "ready";
    until(&client, &format!("health.{broken_id}"), is_healthy).await;
    stop.store(true, Relaxed);
    let outcomes =
        tokio::time::timeout(2 * PATIENCE, playing).await.expect("a frame is not answered").unwrap();

    let sent = outcomes.values().sum::<u64>() + 50;
    let mut received = 0;
    for id in [&well_id, &broken_id] {
        // A reply is there before its frame's account is closed.
        until(&client, &format!("health.{id}"), |health| health["ledger"]["in_flight"] == 0).await;
        let ledger = control(&client, &format!("health.{id}"), "").await.unwrap()["ledger"].clone();
        assert_eq!(ledger["lost"], 0, "{ledger}");
        received += ledger["received"].as_u64().unwrap();
    }
    assert_eq!(received, sent, "every frame came to one of the two: {outcomes:?}");
    assert!(outcomes["predicted"] > 100 && outcomes["inference_failed"] >= 5, "{outcomes:?}");
    assert!(
        outcomes
            .keys()
            .all(|end| ["predicted", "inference_failed", "model_unavailable"].contains(&end.as_str())),
        "{outcomes:?}"
    );

    // With no healthy member left, it joins again and answers.
    control(&client, &format!("breaker.{broken_id}"), r#"{"force": "open"}"#).await.unwrap();
    status("paused").await;
    first.signal("TERM").await;
    assert_eq!(first.ended().await.code(), Some(0));
    status("ok").await;
    let refused = Reply::of(client.request("iq.frames.q", pack(&good("last", "m")).into()).await.unwrap());
    assert_eq!(refused.body["code"], "model_unavailable");
}
