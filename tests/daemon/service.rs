//! The micro service: its health, its endpoints' statistics, and daemons that share a queue group.

use futures::StreamExt;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn the_micro_service_answers_and_reports_its_health() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "classes"], &[]).await;
    world.ask(&steady("1")).await;
    world.ledger().await;
    let health = world.health().await;
    assert_eq!((&health["status"], &health["version"]), (&json!("ok"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(
        health["models"],
        json!([
            {"name": "classes", "version": "1", "state": "ready"},
            {"name": "degrees", "version": "1", "state": "ready"},
        ])
    );
    assert_eq!(
        health["ledger"],
        json!({
            "received": 1,
            "predictions": 1,
            "failures": 0,
            "lost": 0,
            "redelivered": 0,
            "duplicates_dropped": 0,
            "in_flight": 0,
        })
    );
    for subject in ["$SRV.PING", "$SRV.PING.sferic", "$SRV.INFO.sferic", "$SRV.STATS.sferic"] {
        let answer = world.client.request(subject, "".into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["name"], "sferic", "{subject}: {answer}");
        if subject == "$SRV.STATS.sferic" {
            let data = &answer["endpoints"][0]["data"];
            assert_eq!(
                (&data["buffers"]["misses"], &data["ledger"]["received"]),
                (&json!(1), &json!(1)),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn each_endpoints_requests_errors_and_time_are_counted() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    for request in ["", "", r#"{"model": "none"}"#, ""] {
        world.client.request("sferic.breaker", request.into()).await.unwrap();
    }
    let answer = world.client.request("$SRV.STATS.sferic", "".into()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    let of = |name: &str| {
        answer["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .find(|endpoint| endpoint["subject"] == name)
            .unwrap_or_else(|| panic!("no {name} in {answer}"))
    };
    let (breaker, health) = (of("sferic.breaker"), of("sferic.health"));
    assert_eq!((&breaker["num_requests"], &breaker["num_errors"]), (&json!(4), &json!(1)), "{breaker}");
    assert!(breaker["last_error"].to_string().contains("`model` is"), "{breaker}");
    let time = breaker["processing_time"].as_u64().unwrap();
    assert!(time > 0 && breaker["average_processing_time"] == time / 4, "{breaker}");
    assert!(
        health["num_requests"].as_u64().unwrap() >= 1 && health["num_errors"] == 0,
        "the test itself asked whether it is ready: {health}"
    );
}

#[tokio::test]
async fn a_frame_does_not_make_the_daemon_speak_for_its_sender() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let mut heard = world.client.subscribe("$KV.>").await.unwrap();
    for reply in ["$KV.bucket.key", "sferic.breaker", "iq.frames.loop", "iq.failures.other"] {
        world.client.publish_with_reply("iq.frames.s", reply, pack(&steady(reply)).into()).await.unwrap();
    }
    // A subject of the sender's is answered, whatever it begins with.
    let mut own = world.client.subscribe("iq.framesets").await.unwrap();
    world
        .client
        .publish_with_reply("iq.frames.s", "iq.framesets", pack(&steady("own")).into())
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, own.next()).await.expect("no reply");
    assert_eq!(world.ledger().await.received, 5);
    assert!(futures::FutureExt::now_or_never(heard.next()).is_none());
}

#[tokio::test]
async fn daemons_of_one_queue_group_share_the_frames() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let models = repository(&["degrees"]);
    let settings = [("MODELS__REPOSITORY", models.path().to_str().unwrap()), ("MODELS__DEFAULT", "degrees")];
    let _second = Daemon::start(world.server.url(), &settings).await;
    let mut pongs = world.client.subscribe("pongs").await.unwrap();
    let both = async {
        let mut daemons = std::collections::BTreeSet::new();
        while daemons.len() < 2 {
            world.client.publish_with_reply("$SRV.PING.sferic", "pongs", "".into()).await.unwrap();
            let pong: serde_json::Value =
                serde_json::from_slice(&pongs.next().await.unwrap().payload).unwrap();
            // A service answers the ping before its endpoints are there, and those before it is ready.
            let id = pong["id"].as_str().unwrap();
            let Ok(answer) = world.client.request(format!("sferic.health.{id}"), "".into()).await else {
                continue;
            };
            let health: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            if health["status"] == "ok" {
                daemons.insert(id.to_owned());
            }
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("two daemons are ready");
    let mut predictions = world.client.subscribe("iq.predictions.>").await.unwrap();
    for n in 0..100 {
        world.client.publish("iq.frames.shared", pack(&steady(&n.to_string())).into()).await.unwrap();
    }
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let message =
            tokio::time::timeout(PATIENCE, predictions.next()).await.expect("an outcome is missing").unwrap();
        assert!(
            ids.insert(Reply::of(message).body["frame_id"].as_str().unwrap().to_owned()),
            "each frame is answered by one daemon"
        );
    }
    let received = async {
        loop {
            let ledgers = [world.ledger().await.received, world.ledger().await.received];
            // Either may answer; once it was the one and once the other, both have had frames.
            if ledgers[0] != ledgers[1] || ledgers[0] == 50 {
                return ledgers;
            }
        }
    };
    let received = tokio::time::timeout(PATIENCE, received).await.expect("one daemon had none");
    assert!(received.iter().all(|&frames| frames > 0 && frames < 100), "{received:?}");
}
