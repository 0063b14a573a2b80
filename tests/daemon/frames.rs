//! Frames written in other ways than most, and outcomes that are larger than the server takes.

use async_nats::HeaderMap;
use futures::StreamExt;
use rmpv::Value;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn other_spellings_of_a_frame_mean_the_same() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let asked = world
        .ask(&with(
            &steady("o-1"),
            &[
                ("seq", Value::F64(7.0)),
                ("num_channels", Value::F32(1.0)),
                ("timeout_ms", Value::F64(5e3)),
                ("frequency", Value::F64(-28.5e6)),
                ("geolocation", point(-180.0, 90.0)),
                ("datetime", "2026-11-25T05:00:00.1234567890123+01:00".into()),
            ],
        ))
        .await;
    assert_eq!(asked.body["kind"], "localization", "{}", asked.body);
    assert_eq!((&asked.body["seq"], &asked.body["frequency"]), (&json!(7), &json!(-28.5e6)));
    assert_eq!(asked.body["datetime"], "2026-11-25T05:00:00.123456789+01:00");

    // Every place that a key may have in a struct, and some beyond.
    let Value::Map(mut entries) = steady("o-2") else { unreachable!() };
    entries.splice(1..1, (-3..20).map(|key| (key.into(), "by place".into())));
    let asked = world.ask(&Value::Map(entries)).await;
    assert_eq!(
        (&asked.body["kind"], &asked.body["frame_id"]),
        (&json!("localization"), &json!("o-2")),
        "{}",
        asked.body
    );
    assert_eq!((&asked.body["seq"], &asked.body["session_id"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn an_outcome_over_max_payload_becomes_a_failure_that_says_so() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("small.conf");
    std::fs::write(&config, "max_payload: 1024").unwrap();
    let server = sferic::nats::PrivateServer::start(&["--config", config.to_str().unwrap()]).await.unwrap();
    let world = World::on(server, &["tensors"], &[]).await;
    let (payload, headers) =
        as_json(&json!({"iq_data": vec![[0.5, 0.25]; 16], "session_id": "s".repeat(350)}));
    let reply = world.ask_raw(payload, headers).await;
    assert_eq!(reply.body["code"], "internal", "{}", reply.body);
    let message = reply.body["message"].as_str().unwrap();
    assert!(message.contains("max_payload") && message.contains("1024"), "{message}");

    // Echoes alone may be too much: of a prediction, of a failure, of the headers; then they are cut.
    let long = "s".repeat(700);
    let mut baggage = HeaderMap::new();
    baggage.insert("baggage", format!("k={}", "v".repeat(600)));
    let text = |length: usize| Value::from("é".repeat(length));
    let short = with(&steady("cut"), &[("samples", Value::Binary(vec![0; 16 * 8]))]);
    let empty = map(&[("frame_id", "cut".into())]);
    let cases = [
        (with(&short, &[("session_id", long.as_str().into())]), HeaderMap::new()),
        (with(&empty, &[("session_id", text(400))]), HeaderMap::new()),
        (with(&empty, &[("datetime", text(400))]), HeaderMap::new()),
        (with(&short, &[("session_id", "s".into())]), baggage),
    ];
    let mut published = world.client.subscribe("iq.failures.>").await.unwrap();
    for (frame, headers) in cases {
        let reply = world.ask_raw(pack(&frame), headers).await;
        assert_eq!(
            (&reply.body["code"], &reply.body["frame_id"]),
            (&json!("internal"), &json!("cut")),
            "{}",
            reply.body
        );
        assert!(reply.body["message"].as_str().unwrap().contains("max_payload of 1024"), "{}", reply.body);
        assert!(reply.body["session_id"].as_str().unwrap_or_default().len() <= 260, "{}", reply.body);
        assert_eq!(Reply::of(published.next().await.unwrap()).body, reply.body);
    }
    let ledger = world.ledger().await;
    assert_eq!((ledger.failures, ledger.predictions, ledger.lost), (5, 0, 0));
}

#[tokio::test]
async fn ellipses_have_the_radii_that_were_measured() {
    if !tools_are_there() {
        return;
    }
    let models = tempfile::TempDir::new().unwrap();
    let from = fixtures().join("degrees/1");
    let bundle = std::fs::read_to_string(from.join("model.toml")).unwrap();
    let measured = "\n[output.calibration]\nlevels = [0.68]\nradius_squared = [9.0]\n";
    for (name, bundle) in [("as-stated", bundle.clone()), ("measured", bundle + measured)] {
        let folder = models.path().join(name).join("1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(from.join("model.onnx"), folder.join("model.onnx")).unwrap();
        std::fs::write(folder.join("model.toml"), bundle).unwrap();
    }
    let repository = models.path().to_str().unwrap();
    let settings = [("MODELS__REPOSITORY", repository), ("MODELS__DEFAULT", "measured")];
    let world = World::start(&["degrees"], &settings).await;
    let stated = world.ask(&with(&steady("a"), &[("model", "as-stated".into())])).await;
    let measured = world.ask(&steady("b")).await;
    assert_eq!((stated.body.get("calibrated"), &measured.body["calibrated"]), (None, &true.into()));
    assert_eq!(stated.body["uncertainty"], measured.body["uncertainty"]);
    let ratio = measured.body["ellipse"]["semi_major"].as_f64().unwrap()
        / stated.body["ellipse"]["semi_major"].as_f64().unwrap();
    assert!((ratio - 3.0 / (-2.0 * 0.32f64.ln()).sqrt()).abs() < 1e-9, "{ratio}");
}
