//! Versions that see copies of the frames, and how their answers differ.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::canaries::Fleet;
use crate::support::*;

impl Fleet {
    /// The shadow of `m`, asked for with this request.
    async fn shadow(&self, request: Value) -> Value {
        let answer = self.client.request("sferic.models.shadow", request.to_string().into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Sends frames until the shadow has been compared on so many, and gives what it shows then.
    async fn compared(&self, frames: u64) -> Value {
        let begun = Instant::now();
        for n in 0.. {
            let outcome = self.ask(&n.to_string(), Some(&n.to_string())).await;
            assert_eq!(outcome["model_version"], "1", "{outcome}");
            let shown = self.shadow(json!({})).await;
            if shown["shadow"]["paired"]["frames"].as_u64() >= Some(frames) {
                return shown["shadow"].clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{shown}");
        }
        unreachable!()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_and_not_published() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(1, &["degrees/1", "degrees/1", "metres/1", "nan/1"]).await;
    let mut published = fleet.client.subscribe("iq.predictions.>").await.unwrap();
    fleet.shadow(json!({"version": 2})).await;
    let alike = fleet.compared(20).await;
    assert_eq!(
        (&alike["version"], &alike["active"], &alike["share"]),
        (&json!("2"), &json!("1"), &json!(1.0))
    );
    let paired = &alike["paired"];
    assert_eq!((&paired["equal"], &paired["positions"]["mean_m"]), (&json!(1.0), &json!(0.0)), "{paired}");
    assert_eq!(paired["failures"], json!({"active": 0, "shadow": 0}));
    // Another one: its answers are elsewhere.
    fleet.shadow(json!({"version": "3", "share": 0.9})).await;
    let paired = &fleet.compared(5).await["paired"];
    assert_eq!(paired["equal"], 0.0, "{paired}");
    assert!(paired["positions"]["p50_m"].as_f64() > Some(1000.0), "{paired}");
    // One that fails, which only the comparison shows.
    fleet.shadow(json!({"version": "4"})).await;
    let paired = &fleet.compared(5).await["paired"];
    assert_eq!(paired["failures"]["shadow"], paired["frames"], "{paired}");
    let text = fleet.models(&["shadow", "m"]).await;
    assert!(text.contains("version 4 in the shadow of 1, 100 % of the frames"), "{text}");
    let listed = fleet.models(&["list"]).await;
    assert!(listed.lines().any(|line| line.contains("  4 ") && line.contains("shadow")), "{listed}");
    let circuits = fleet.client.request("sferic.breaker", "".into()).await.unwrap();
    let circuits: Value = serde_json::from_slice(&circuits.payload).unwrap();
    let circuits = circuits["circuits"].as_array().unwrap();
    assert!(circuits.iter().all(|circuit| circuit["state"] == "closed"), "{circuits:?}");
    // Everything published is of the active version.
    fleet.client.flush().await.unwrap();
    let mut count = 0;
    while let Some(Some(message)) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut published))
    {
        assert_eq!(Reply::of(message).body["model_version"], "1");
        count += 1;
    }
    assert!(count >= 30, "{count} predictions");
    // It ends with the comparison that it is part of.
    fleet.models(&["promote", "m@2"]).await;
    let ended = async { while !fleet.shadow(json!({})).await["shadow"].is_null() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the shadow does not end");
    assert_eq!(fleet.shadow(json!({})).await["ended"], "ended: m@2 is active now, and was 1");
    for (request, says) in [
        (json!({"version": "2"}), "version 2 is active: a shadow is another version"),
        (json!({"version": "9"}), "version 9 is not loaded"),
        (json!({"version": "1", "share": 2}), "`share` is 2"),
        (json!({"versoin": "1"}), "`versoin`"),
    ] {
        let refused = fleet.shadow(request).await;
        assert!(refused["message"].as_str().unwrap().contains(says), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_truth_comes_both_versions_are_scored_on_the_same_frames() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(1, &["degrees/1", "metres/1"]).await;
    fleet.models(&["shadow", "m@2"]).await;
    for n in 0..20 {
        let outcome = fleet.ask(&n.to_string(), None).await;
        let is_over = async || {
            let shown = &fleet.shadow(json!({})).await["shadow"];
            let frames = shown["paired"]["frames"].as_u64().unwrap();
            frames + shown["skipped"].as_u64().unwrap() > n
        };
        let over = async { while !is_over().await {} };
        tokio::time::timeout(PATIENCE, over).await.expect("a copy is not over");
        // The truth is where the active version says.
        let truth = json!({"frame_id": n.to_string(), "position": outcome["position"]});
        fleet.client.publish("iq.truth.rx", truth.to_string().into()).await.unwrap();
    }
    fleet.client.flush().await.unwrap();
    let of = fleet.shadow(json!({})).await["shadow"]["paired"]["truth"].clone();
    assert!(of["frames"].as_u64() > Some(0), "{of}");
    assert!(of["error"]["active"].as_f64() < Some(1.0), "{of}");
    assert!(of["error"]["shadow"].as_f64() > Some(1000.0), "{of}");
    assert!(of["score"]["shadow"].as_f64() > of["score"]["active"].as_f64(), "{of}");
    let text = fleet.models(&["info", "m@2"]).await;
    assert!(text.contains("truth: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_never_ends_in_time_holds_up_nobody() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(1, &["degrees/1", "slow/1"]).await;
    fleet.models(&["shadow", "m@2"]).await;
    // Each of its runs takes about two seconds.
    let begun = Instant::now();
    for n in 0..500 {
        assert_eq!(fleet.ask(&n.to_string(), None).await["model_version"], "1");
    }
    let took = begun.elapsed();
    let shown = fleet.shadow(json!({})).await;
    let frames = shown["shadow"]["paired"]["frames"].as_u64().unwrap();
    assert!(frames < 100, "{frames} frames were compared in {took:?}");
    // Nor is who unloads it, by more than a run.
    let begun = Instant::now();
    fleet.models(&["unload", "m@2"]).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let ended = fleet.shadow(json!({})).await["ended"].clone();
    assert_eq!(ended, "ended: m@2 is not loaded any more, or with other files");
    fleet.models(&["load", "m@2"]).await;
    fleet.models(&["shadow", "m@2"]).await;
    let ended = fleet.models(&["shadow", "m", "--end"]).await;
    assert!(ended.contains("no shadow; the last one: ended on request"), "{ended}");
}
