//! Who gets into a session, and by which version it is answered.

use std::time::Duration;

use async_nats::HeaderMap;
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;

use crate::batch::{ask, batch};
use crate::sessions::{Outcomes, json_of, level, send};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_the_first_frame_answers_the_whole_session() {
    if !tools_are_there() {
        return;
    }
    let repository = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        let to = repository.path().join("gathered").join(version);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["model.onnx", "model.toml"] {
            std::fs::copy(fixtures().join("gathered/1").join(file), to.join(file)).unwrap();
        }
    }
    let settings =
        [("MODELS__REPOSITORY", repository.path().to_str().unwrap()), ("MODELS__DEFAULT", "gathered")];
    let world = World::start(&["gathered"], &settings).await;
    let mut outcomes = Outcomes::of(&world).await;
    for (session, first, others) in [("s", "gathered@1", "gathered@2"), ("t", "gathered@2", "gathered@1")] {
        for (source, model) in [("a", first), ("b", others), ("c", others)] {
            let changes = [("session_size", 3.into()), ("model", model.into())];
            let frame = with(&level(source, 1.0), &changes);
            send(&world, &format!("iq.sessions.{session}.{source}"), &frame).await;
        }
        let answers = outcomes.next(3).await;
        let version = first.split_once('@').unwrap().1;
        assert!(answers.values().all(|answer| answer["model_version"] == version), "{answers:?}");
        assert!(answers.values().all(|answer| answer["session"]["size"] == 3), "{answers:?}");
    }
}

/// Of more frames than a batch may begin with on a fresh daemon.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_be_a_session() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["gathered"], &[("POOL__SESSIONS", "1")]).await;
    let member = |source: &str| {
        let changes = [("source", source.into()), ("session_id", "s".into()), ("session_size", 5.into())];
        with(&level(source, 1.0), &changes)
    };
    let members: Vec<Value> = ["a", "b", "c", "d", "e"].map(member).into();
    let reply = ask(&world.client, HeaderMap::new(), batch(members, &[])).await;
    let reply = json_of(&rmpv::decode::read_value(&mut &reply.payload[..]).unwrap());
    assert_eq!((&reply["successful"], &reply["failed"]), (&json!(5), &json!(0)), "{reply}");
    for outcome in reply["predictions"].as_array().unwrap() {
        assert_eq!(outcome["session"]["used"], json!(["a", "b", "c", "d", "e"]), "{outcome}");
    }
}

/// Daemons that begin to gather later, with the default model of another kind, see each other, too.
#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_load_a_gathered_model_later_see_that_they_overlap() {
    if !tools_are_there() {
        return;
    }
    let repository = repository(&["degrees"]);
    let path = repository.path().to_str().unwrap();
    let settings =
        [("MODELS__REPOSITORY", path), ("MODELS__DEFAULT", "degrees"), ("GATHER__SUBJECT", "iq.sessions.>")];
    let server = PrivateServer::start(&[]).await.unwrap();
    let daemons =
        [Daemon::start(server.url(), &settings).await, Daemon::start(server.url(), &settings).await];
    let client = client(server.url()).await;
    let until = async |is_ok: bool, reason: &str| {
        let seen = async {
            loop {
                let health = health(&client).await.unwrap_or_default();
                let why = health["reason"].as_str().unwrap_or_default();
                if (health["status"] == "ok") == is_ok && why.contains(reason) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("never ready: {is_ok}, {reason:?}"));
    };
    until(true, "").await;
    std::os::unix::fs::symlink(fixtures().join("gathered"), repository.path().join("gathered")).unwrap();
    until(false, "divide").await;
    drop(daemons);
}
