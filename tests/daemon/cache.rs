//! Equal frames: cached, and computed once for many.

use futures::future::join_all;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn many_equal_frames_at_once_cost_one_run_and_each_has_its_own_outcome() {
    if !tools_are_there() {
        return;
    }
    // Its run takes two seconds.
    let world =
        World::start(&["slow"], &[("LIMITS__TIMEOUT", "60s"), ("POOL__ACQUIRE_TIMEOUT", "60s")]).await;
    let frames: Vec<_> = (0..64).map(|n| with(&steady(&n.to_string()), &[("seq", n.into())])).collect();
    let replies = join_all(frames.iter().map(|frame| world.ask(frame))).await;
    for (n, reply) in replies.iter().enumerate() {
        assert_eq!(
            (&reply.body["frame_id"], &reply.body["seq"]),
            (&json!(n.to_string()), &json!(n)),
            "{}",
            reply.body
        );
        assert_eq!(reply.body["position"], replies[0].body["position"]);
        let stages: f64 =
            reply.body["stages_ms"].as_object().unwrap().values().map(|ms| ms.as_f64().unwrap()).sum();
        assert!(stages <= reply.number("inference_time_ms"), "{}", reply.body);
    }
    let hits = replies.iter().filter(|reply| reply.body["_cache_hit"] == true).count();
    let statistics = world.statistics().await;
    assert_eq!((hits, &statistics["pool"]["frames_run"]), (63, &json!(1)), "{statistics}");
    let cache = &statistics["cache"];
    assert_eq!(
        (cache["coalesced"].as_u64().unwrap() + cache["hits"].as_u64().unwrap(), &cache["misses"]),
        (63, &json!(1)),
        "{cache}"
    );
    assert_eq!(cache["hit_rate"], json!(63.0 / 64.0));
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (64, 0, 0));
    assert_eq!(world.statistics().await["in_flight"], json!({"frames": 0, "bytes": 0}));
}

#[tokio::test]
async fn a_frame_that_wants_no_cache_neither_reads_nor_fills_it() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let without = with(&steady("without"), &[("cache_enabled", false.into())]);
    for _ in 0..2 {
        assert_eq!(world.ask(&without).await.body["_cache_hit"], false);
    }
    let cache = world.statistics().await["cache"].clone();
    assert_eq!(
        (&cache["hits"], &cache["misses"], &cache["entries"], &cache["hit_rate"]),
        (&json!(0), &json!(0), &json!(0), &json!(0.0))
    );
    assert_eq!(world.ask(&steady("first")).await.body["_cache_hit"], false, "nothing was remembered");
    assert_eq!(world.ask(&steady("again")).await.body["_cache_hit"], true);
    assert_eq!(world.ask(&without).await.body["_cache_hit"], false);
}

#[tokio::test]
async fn failures_are_not_cached() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["poison"], &[("BREAKER__FAILURE_THRESHOLD", "100")]).await;
    for n in 1..=3 {
        assert_eq!(
            world.ask(&frame(&n.to_string(), &[[-0.95, 0.1]; 16])).await.body["code"],
            "inference_failed"
        );
        assert_eq!(world.statistics().await["cache"]["misses"], n, "each is tried anew");
    }
}
