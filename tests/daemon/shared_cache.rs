//! The cache's second level, shared by daemons: restarts that start warm, and a cache that fails.

use std::time::Instant;

use async_nats::jetstream;
use futures::StreamExt;
use futures::future::join_all;
use redis::AsyncCommands;
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::redis_server::RedisServer;
use crate::support::*;

/// A nats-server with JetStream, and the folder it keeps things in.
async fn with_jetstream() -> (PrivateServer, TempDir) {
    let folder = TempDir::new().unwrap();
    let server =
        PrivateServer::start(&["--jetstream", "--store_dir", folder.path().to_str().unwrap()]).await.unwrap();
    (server, folder)
}

/// As many different frames.
fn different(count: usize, from: usize) -> Vec<Value> {
    (from..from + count).map(|n| frame(&n.to_string(), &[[n as f32 / 10_000.0, 0.25]; 64])).collect()
}

/// Waits until the daemon has written so many answers to the shared cache.
async fn written(world: &World, count: u64) {
    let writes =
        async { while world.statistics().await["cache"]["shared"]["writes"].as_u64().unwrap() < count {} };
    tokio::time::timeout(PATIENCE, writes).await.expect("answers are not written");
}

/// Sends frames until the shared cache is in use.
async fn in_use(world: &World, from: usize) {
    let using = async {
        for n in from.. {
            world.ask(&different(1, n)[0]).await;
            if world.statistics().await["cache"]["shared"]["writes"].as_u64().unwrap() > 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, using).await.expect("the shared cache is not used");
}

/// One daemon computes, another that was started later has the answers.
async fn a_restart_starts_warm(server: PrivateServer, settings: &[(&str, &str)]) -> World {
    let models = ["degrees", "classes", "tensors"];
    let frame = |model: &str, n: usize| {
        as_json(&json!({"iq_data": vec![[n as f64 / 64.0, 0.25]; 64], "model": model}))
    };
    let frames: Vec<_> = models.iter().flat_map(|model| (0..5).map(|n| frame(model, n))).collect();
    let first = World::on(server, &models, settings).await;
    in_use(&first, 9_000).await;
    let before = first.statistics().await["cache"]["shared"]["writes"].as_u64().unwrap();
    let mut answers = Vec::new();
    for (payload, headers) in frames.clone() {
        let reply = first.ask_raw(payload, headers).await;
        assert_eq!(reply.body["_cache_hit"], false, "{}", reply.body);
        answers.push(reply.body);
    }
    written(&first, before + 15).await;
    let World { server, daemon, .. } = first;
    drop(daemon);

    let second = World::on(server, &models, settings).await;
    in_use(&second, 9_500).await;
    let runs = second.statistics().await["pool"]["frames_run"].clone();
    for ((payload, headers), answer) in frames.iter().cloned().zip(answers) {
        let again = second.ask_raw(payload, headers).await.body;
        assert_eq!(again["_cache_hit"], true, "{again}");
        for key in
            ["kind", "position", "uncertainty", "ellipse", "confidence", "labels", "tensors", "model_digest"]
        {
            assert_eq!(again[key], answer[key], "{key}");
        }
    }
    let statistics = second.statistics().await;
    assert_eq!(
        (&statistics["cache"]["shared"]["hits"], &statistics["pool"]["frames_run"]),
        (&json!(15), &runs),
        "{statistics}"
    );
    // Now they are cached here too.
    let (payload, headers) = frames[0].clone();
    second.ask_raw(payload, headers).await;
    assert_eq!(second.statistics().await["cache"]["shared"]["hits"], 15);
    second
}

#[tokio::test]
async fn a_restart_starts_warm_from_a_nats_bucket() {
    if !tools_are_there() {
        return;
    }
    let (server, _folder) = with_jetstream().await;
    let settings =
        [("CACHE__SHARED__KIND", "nats_kv"), ("CACHE__SHARED__TIMEOUT", "2s"), ("CACHE__TTL", "10m")];
    let world = a_restart_starts_warm(server, &settings).await;
    let stream = jetstream::new(world.client.clone()).get_stream("KV_sferic_cache").await.unwrap();
    let config = stream.cached_info().config.clone();
    assert_eq!(
        (config.max_age.as_secs(), config.max_bytes),
        (600, 1 << 30),
        "the bucket is made with its bounds"
    );
}

#[tokio::test]
async fn a_restart_starts_warm_from_redis() {
    if !tools_are_there() {
        return;
    }
    let Some(redis) = RedisServer::start(&[]).await else { return };
    let url = redis.url();
    let settings =
        [("CACHE__SHARED__KIND", "redis"), ("CACHE__SHARED__URL", &*url), ("CACHE__SHARED__TIMEOUT", "2s")];
    a_restart_starts_warm(PrivateServer::start(&[]).await.unwrap(), &settings).await;
    let mut connection = redis.connection().await;
    let keys: Vec<String> = connection.keys("sferic_cache:*").await.unwrap();
    let ttl: i64 = connection.pttl(&keys[0]).await.unwrap();
    assert!(
        keys.len() >= 15 && (3_000_000..=3_600_000).contains(&ttl),
        "{} keys, expire in {ttl} ms",
        keys.len()
    );
}

#[tokio::test]
async fn an_invalid_value_in_the_shared_cache_is_a_miss() {
    if !tools_are_there() {
        return;
    }
    let Some(redis) = RedisServer::start(&[]).await else { return };
    let url = redis.url();
    let settings =
        [("CACHE__SHARED__KIND", "redis"), ("CACHE__SHARED__URL", &*url), ("CACHE__SHARED__TIMEOUT", "2s")];
    let first = World::start(&["degrees"], &settings).await;
    let frames = different(4, 0);
    join_all(frames.iter().map(|frame| first.ask(frame))).await;
    written(&first, 4).await;
    drop(first);
    let mut connection = redis.connection().await;
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    let good: Vec<u8> = connection.get(&keys[0]).await.unwrap();
    // No text at all, a broken answer, another model's kind of answer, and what is no value at all.
    let _: () = connection.set(&keys[0], b"").await.unwrap();
    let _: () = connection.set(&keys[1], &good[..good.len() - 1]).await.unwrap();
    let labels =
        [&good[..12], &rmp_serde::to_vec(&json!({"Classification": [["x", 1.0]]})).unwrap()].concat();
    let _: () = connection.set(&keys[2], labels).await.unwrap();
    let _: () = connection.del(&keys[3]).await.unwrap();
    let _: () = connection.lpush(&keys[3], "a list").await.unwrap();

    let second = World::start(&["degrees"], &settings).await;
    for frame in &frames {
        let reply = second.ask(frame).await;
        assert_eq!(
            (&reply.body["kind"], &reply.body["_cache_hit"]),
            (&json!("localization"), &json!(false)),
            "{}",
            reply.body
        );
    }
    let shared = second.statistics().await["cache"]["shared"].clone();
    assert_eq!((&shared["errors"], &shared["hits"]), (&json!(4), &json!(0)), "{shared}");
}

/// Sends different frames, some at a time, and does something in the middle; every one is predicted.
async fn predicted_through(world: &World, meanwhile: impl AsyncFnOnce()) {
    let frames = different(2000, 0);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let load = async {
        let replies = futures::stream::iter(&frames).map(|frame| async {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            world.ask(frame).await
        });
        replies.buffer_unordered(16).collect::<Vec<_>>().await
    };
    let fault = async {
        while asked.load(std::sync::atomic::Ordering::Relaxed) < 500 {
            tokio::task::yield_now().await;
        }
        meanwhile().await;
        assert!(
            asked.load(std::sync::atomic::Ordering::Relaxed) < 2000,
            "it came too late to be in the middle"
        );
    };
    let (replies, ()) = tokio::join!(load, fault);
    let failed: Vec<_> = replies.iter().filter(|reply| reply.body["position"].is_null()).collect();
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), failed[0]);
    let ledger = world.ledger().await;
    assert_eq!((ledger.failures, ledger.lost), (0, 0), "{ledger:?}");
}

/// A frame may wait for what it has asked, but no longer than the timeout, and has time enough for that on a
/// busy machine.
const PATIENT: (&str, &str) = ("LIMITS__TIMEOUT", "20s");

#[tokio::test]
async fn redis_may_be_killed_in_the_middle_and_come_back() {
    if !tools_are_there() {
        return;
    }
    let Some(redis) = RedisServer::start(&[]).await else { return };
    let (url, port) = (redis.url(), redis.port());
    let world = World::start(
        &["degrees"],
        &[PATIENT, ("CACHE__SHARED__KIND", "redis"), ("CACHE__SHARED__URL", &url)],
    )
    .await;
    in_use(&world, 9_000).await;
    predicted_through(&world, async || redis.kill().await).await;
    let shared = world.statistics().await["cache"]["shared"].clone();
    assert!(shared["errors"].as_u64().unwrap() + shared["timeouts"].as_u64().unwrap() >= 5, "{shared}");
    assert!(shared["not_asked"].as_u64().unwrap() > 0, "what is gone is left alone: {shared}");

    let _again = RedisServer::start_on(port, &[]).await.unwrap();
    let before = shared["writes"].as_u64().unwrap();
    let back = async {
        for n in 9_100.. {
            world.ask(&different(1, n)[0]).await;
            let shared = world.statistics().await["cache"]["shared"].clone();
            if shared["writes"].as_u64().unwrap() > before {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is not used again");
}

#[tokio::test]
async fn a_nats_server_with_the_bucket_may_be_killed_in_the_middle() {
    if !tools_are_there() {
        return;
    }
    let (bucket, _folder) = with_jetstream().await;
    let url = bucket.url().to_owned();
    let world = World::start(
        &["degrees"],
        &[PATIENT, ("CACHE__SHARED__KIND", "nats_kv"), ("CACHE__SHARED__URL", &url)],
    )
    .await;
    in_use(&world, 9_000).await;
    predicted_through(&world, async || bucket.kill().await.unwrap()).await;
    let shared = world.statistics().await["cache"]["shared"].clone();
    assert!(shared["errors"].as_u64().unwrap() + shared["timeouts"].as_u64().unwrap() >= 5, "{shared}");
    assert!(shared["not_asked"].as_u64().unwrap() > 0, "{shared}");
}

#[tokio::test]
async fn a_shared_cache_that_hangs_costs_the_timeout_and_then_nothing() {
    if !tools_are_there() {
        return;
    }
    let Some(redis) = RedisServer::start(&[]).await else { return };
    let url = redis.url();
    let world = World::start(
        &["degrees"],
        &[PATIENT, ("CACHE__SHARED__KIND", "redis"), ("CACHE__SHARED__URL", &url)],
    )
    .await;
    in_use(&world, 9_000).await;
    redis.signal("STOP").await;
    let asked = Instant::now();
    for frame in different(100, 0) {
        assert!(world.ask(&frame).await.body["position"].is_object());
    }
    let (took, shared) = (asked.elapsed(), world.statistics().await["cache"]["shared"].clone());
    redis.signal("CONT").await;
    let (timeouts, not_asked) = (shared["timeouts"].as_u64().unwrap(), shared["not_asked"].as_u64().unwrap());
    assert!(timeouts >= 5 && not_asked > 0 && timeouts + not_asked >= 100, "{shared}");
    // A busy machine is given some time beside the timeouts.
    assert!(took.as_secs_f64() < timeouts as f64 * 0.02 + 5.0, "{took:?} with {timeouts} timeouts");
}

#[tokio::test]
async fn a_full_shared_cache_stores_nothing_and_fails_no_frame() {
    if !tools_are_there() {
        return;
    }
    let (server, _folder) = with_jetstream().await;
    let settings = [
        PATIENT,
        ("CACHE__SHARED__KIND", "nats_kv"),
        ("CACHE__SHARED__MAX_BYTES", "1KiB"),
        ("CACHE__SHARED__TIMEOUT", "2s"),
    ];
    let world = World::on(server, &["degrees"], &settings).await;
    in_use(&world, 9_000).await;
    for frame in different(50, 0) {
        assert!(world.ask(&frame).await.body["position"].is_object());
    }
    let shared = async {
        loop {
            let shared = world.statistics().await["cache"]["shared"].clone();
            if shared["writes"].as_u64().unwrap() + shared["dropped_writes"].as_u64().unwrap() >= 50 {
                return shared;
            }
        }
    };
    let shared = tokio::time::timeout(PATIENCE, shared).await.expect("writes are neither done nor dropped");
    assert!(shared["dropped_writes"].as_u64().unwrap() >= 40, "a KiB holds a few: {shared}");
}

#[tokio::test]
async fn a_daemon_starts_without_its_configured_shared_cache() {
    if !tools_are_there() {
        return;
    }
    // This server has no JetStream, and nothing listens on the port of the other.
    for (kind, url) in [("nats_kv", ""), ("redis", "redis://127.0.0.1:1")] {
        let world = World::start(
            &["degrees"],
            &[PATIENT, ("CACHE__SHARED__KIND", kind), ("CACHE__SHARED__URL", url)],
        )
        .await;
        for frame in different(20, 0) {
            assert!(world.ask(&frame).await.body["position"].is_object(), "{kind}");
        }
        let shared = world.statistics().await["cache"]["shared"].clone();
        assert!(
            shared["errors"].as_u64().unwrap() + shared["timeouts"].as_u64().unwrap() >= 5,
            "{kind}: {shared}"
        );
    }
}
