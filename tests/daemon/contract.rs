//! The contract from outside: good frames, and every row of its table of failures.

use async_nats::HeaderMap;
use futures::StreamExt;
use rmpv::Value;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_prediction_has_every_key_of_the_contract() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let mut published = world.client.subscribe("iq.predictions.>").await.unwrap();
    let sent = with(
        &steady("f-1"),
        &[
            ("seq", 7.into()),
            ("session_id", "s".into()),
            ("datetime", "2026-11-25T05:00:00Z".into()),
            ("frequency", 868.3e6.into()),
            ("unknown", Value::Array(vec![1.into()])),
        ],
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
        ("baggage", "k=v"),
    ] {
        headers.insert(name, value);
    }
    let reply = world.ask_raw(pack(&sent), headers).await;
    let message = published.next().await.unwrap();
    assert_eq!(message.subject.as_str(), "iq.predictions.t.rx");
    let copy = Reply::of(message);
    assert_eq!(copy.body, reply.body, "the reply and the publication are the same");
    for reply in [&reply, &copy] {
        assert_eq!(reply.header("Nats-Msg-Id"), Some("f-1"));
        let trace = reply.header("traceparent").unwrap();
        assert!(
            trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && trace.ends_with("-01"),
            "{trace}"
        );
        assert_eq!((reply.header("tracestate"), reply.header("baggage")), (Some("a=b"), Some("k=v")));
        assert_eq!(reply.header("Nats-Service-Error-Code"), None);
    }

    let body = &reply.body;
    for (key, expected) in [
        ("frame_id", json!("f-1")),
        ("source", json!("t.rx")),
        ("session_id", json!("s")),
        ("seq", json!(7)),
        ("datetime", json!("2026-11-25T05:00:00Z")),
        ("frequency", json!(868.3e6)),
        ("kind", json!("localization")),
        ("model", json!("degrees")),
        ("model_version", json!("1")),
        ("model_digest", json!("590674cbe11d934a6d4dbc78b625f2ae6b03794b8965332738e0ce2faf2d1ac2")),
        ("batch_size", json!(1)),
        ("_cache_hit", json!(false)),
    ] {
        assert_eq!(body[key], expected, "{key}");
    }
    assert_eq!(body["position"], json!({"latitude": 45.0, "longitude": 90.0}));
    // RMS of 0.5 and 0.25, sigmas of 10 and 20 times that, the first axis 30 degrees from east.
    let rms = (0.3125f64 / 2.0).sqrt();
    let near = |value: &serde_json::Value, expected: f64| {
        (value.as_f64().unwrap() - expected).abs() < 1e-4 * expected.abs()
    };
    assert!(
        near(&body["uncertainty"]["sigma_x"], 10.0 * rms)
            && near(&body["uncertainty"]["sigma_y"], 20.0 * rms),
        "{body}"
    );
    assert!(
        near(&body["uncertainty"]["theta"], 30.0) && body["uncertainty"]["confidence_interval"] == 0.68,
        "{body}"
    );
    let factor = (-2.0 * 0.32f64.ln()).sqrt();
    assert!(
        near(&body["ellipse"]["semi_major"], 20.0 * rms * factor)
            && near(&body["ellipse"]["semi_minor"], 10.0 * rms * factor),
        "{body}"
    );
    assert!(near(&body["ellipse"]["area"], std::f64::consts::PI * 200.0 * (rms * factor).powi(2)), "{body}");
    assert!(near(&body["confidence"], rms), "{body}");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
    let stages: f64 = body["stages_ms"].as_object().unwrap().values().map(|ms| ms.as_f64().unwrap()).sum();
    assert!(stages > 0.0 && stages <= reply.number("inference_time_ms"), "{body}");

    let again = world.ask(&with(&sent, &[("frame_id", "f-2".into())])).await;
    assert_eq!((&again.body["_cache_hit"], &again.body["frame_id"]), (&json!(true), &json!("f-2")));
    assert_eq!(again.body["position"], body["position"]);
    let fresh = world.ask(&with(&sent, &[("cache_enabled", false.into())])).await;
    assert_eq!(fresh.body["_cache_hit"], false);
}

#[tokio::test]
async fn json_frames_get_json_answers_with_the_same_meaning() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "tensors", "classes"], &[]).await;
    let (payload, headers) = as_json(&json!({"iq_data": vec![[0.5, 0.25]; 16], "frame_id": "j"}));
    let reply = world.ask_raw(payload, headers).await;
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(reply.body["position"], json!({"latitude": 45.0, "longitude": 90.0}));
    assert!(reply.body["session_id"].is_null() && reply.body["seq"].is_null());

    // 0x40, 0x20 of ci8 are 0.5 and 0.25; the outputs come as standard base64.
    let (payload, headers) =
        as_json(&json!({"samples": "QCBAIEAg".repeat(5) + "QCA=", "datatype": "ci8", "model": "tensors"}));
    let reply = world.ask_raw(payload, headers).await;
    assert_eq!(reply.body["kind"], "tensors");
    let mean = &reply.body["tensors"]["mean"];
    assert_eq!(
        (&mean["shape"], &mean["dtype"], &mean["data"]),
        (&json!([1, 2]), &json!("float32"), &json!("AAAAPwAAgD4="))
    );

    let reply = world.ask(&with(&steady("c"), &[("model", "classes@1".into())])).await;
    assert_eq!(
        (&reply.body["kind"], reply.body["labels"].as_array().unwrap().len()),
        (&json!("classification"), 2)
    );
    assert_eq!(reply.body["labels"][0]["label"], "i");
    assert!(reply.body["confidence"].is_null(), "never invented");
}

#[tokio::test]
async fn a_name_without_version_selects_the_highest_version_as_a_number() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["versions"], &[]).await;
    for (asked, version, label) in
        [("versions", "10", "ten"), ("versions@9", "9", "nine"), ("versions@2", "2", "two")]
    {
        let reply = world.ask(&with(&steady("v"), &[("model", asked.into())])).await;
        assert_eq!(
            (&reply.body["model_version"], &reply.body["labels"][0]["label"]),
            (&json!(version), &json!(label)),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn the_id_is_from_the_body_else_the_header_else_new() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "from-header");
    let anonymous = with(&steady(""), &[("frame_id", Value::Nil)]);
    assert_eq!(world.ask_raw(pack(&steady("own")), headers.clone()).await.body["frame_id"], "own");
    assert_eq!(world.ask_raw(pack(&anonymous), headers.clone()).await.body["frame_id"], "from-header");
    assert_eq!(world.ask_raw(b"\xc1".to_vec(), headers).await.body["frame_id"], "from-header");
    let made: uuid::Uuid = world.ask(&anonymous).await.body["frame_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(made.get_version_num(), 7);
}

#[tokio::test]
async fn bad_input_gets_its_code_and_affects_no_other_frame() {
    if !tools_are_there() {
        return;
    }
    let settings = [
        ("LIMITS__FRAME_SAMPLES", "1000"),
        ("NATS__QUEUE_GROUP", "g"),
        ("BREAKER__FAILURE_THRESHOLD", "1000"),
    ];
    let world = World::start(&["degrees", "poison", "width32"], &settings).await;
    let mut failures = world.client.subscribe("iq.failures.>").await.unwrap();
    let good = steady("x");
    let bad = |changes: &[(&str, Value)]| pack(&with(&good, changes));
    let bytes = |length| Value::Binary(vec![0; length]);
    let cases: Vec<(&str, u16, Vec<u8>, &[&str])> = vec![
        ("invalid_frame", 400, b"\xc1".to_vec(), &["MessagePack"]),
        ("invalid_frame", 400, Vec::new(), &["MessagePack"]),
        ("invalid_frame", 400, pack(&Value::Array(vec![good.clone()])), &["map"]),
        ("invalid_frame", 400, bad(&[("seq", "seven".into())]), &["`seq`", "seven"]),
        ("invalid_frame", 400, bad(&[("samples", "text".into())]), &["`samples`"]),
        ("invalid_frame", 400, bad(&[("samples", Value::Nil)]), &["neither", "samples", "iq_data"]),
        (
            "invalid_frame",
            400,
            bad(&[("iq_data", Value::Array(vec![Value::Array(vec![1.0.into(), 1.0.into()])]))]),
            &["both", "samples", "iq_data"],
        ),
        (
            "invalid_frame",
            400,
            bad(&[("samples", Value::Nil), ("iq_data", Value::Array(vec![]))]),
            &["no samples"],
        ),
        ("invalid_frame", 400, bad(&[("samples", bytes(0))]), &["no samples"]),
        ("invalid_frame", 400, bad(&[("samples", bytes(13))]), &["13", "8"]),
        ("invalid_frame", 400, bad(&[("datatype", Value::Nil)]), &["datatype"]),
        ("invalid_frame", 400, pack(&frame("x", &[[0.1, f32::NAN]; 64])), &["NaN"]),
        ("invalid_frame", 400, pack(&frame("x", &[[f32::INFINITY, 0.1]; 64])), &["inf"]),
        ("invalid_frame", 400, bad(&[("num_channels", 0.into())]), &["`num_channels`", "0"]),
        ("invalid_frame", 400, bad(&[("sample_rate", Value::F64(-5.0))]), &["`sample_rate`", "-5"]),
        (
            "invalid_frame",
            400,
            bad(&[("frequency", Value::F64(f64::NEG_INFINITY))]),
            &["`frequency`", "-inf", "finite"],
        ),
        (
            "invalid_frame",
            400,
            bad(&[("num_channels", Value::F64(1.5))]),
            &["`num_channels`", "1.5", "whole number"],
        ),
        (
            "invalid_frame",
            400,
            bad(&[("geolocation", point(7.5, 90.5))]),
            &["`geolocation", "latitude", "90.5", "-90 to 90"],
        ),
        ("invalid_frame", 400, [pack(&good), pack(&good)].concat(), &["goes on after"]),
        (
            "invalid_frame",
            400,
            br#"{"iq_data": [[0.1, 0.2]]}"#.to_vec(),
            &["JSON", "`Content-Type: application/json`"],
        ),
        ("invalid_frame", 400, bad(&[("datetime", "yesterday".into())]), &["`datetime`", "yesterday"]),
        ("invalid_frame", 400, bad(&[("priority", "urgent".into())]), &["`priority`", "urgent", "critical"]),
        ("invalid_frame", 400, bad(&[("frame_id", "a\nb".into())]), &["`frame_id`", "256"]),
        ("invalid_frame", 400, bad(&[("frame_id", "i".repeat(257).into())]), &["`frame_id`", "257", "256"]),
        ("unsupported_datatype", 400, bad(&[("datatype", "ci12_le".into())]), &["ci12_le", "cf32_le"]),
        ("shape_mismatch", 400, bad(&[("num_channels", 2.into())]), &["2", "1"]),
        ("shape_mismatch", 400, bad(&[("model", "width32".into())]), &["64", "32"]),
        (
            "frame_too_large",
            413,
            pack(&frame("x", &[[0.1, 0.1]; 1001])),
            &["1001", "1000", "limits.frame_samples"],
        ),
        ("model_not_found", 404, bad(&[("model", "nobody".into())]), &["nobody", "degrees@1"]),
        ("model_not_found", 404, bad(&[("model", "degrees@2".into())]), &["degrees@2", "degrees@1"]),
        (
            "inference_failed",
            500,
            bad(&[
                ("model", "poison".into()),
                ("samples", frame("x", &[[0.95, 0.1]; 64]).as_map().unwrap()[2].1.clone()),
            ]),
            &["position"],
        ),
        (
            "inference_failed",
            500,
            bad(&[
                ("model", "poison".into()),
                ("samples", frame("x", &[[-0.95, 0.1]; 64]).as_map().unwrap()[2].1.clone()),
            ]),
            &["poison@1"],
        ),
    ];
    let count = cases.len();
    for (code, service_code, payload, parts) in cases {
        let reply = world.ask_raw(payload, HeaderMap::new()).await;
        let message =
            reply.body["message"].as_str().unwrap_or_else(|| panic!("expected {code}: {}", reply.body));
        assert_eq!(reply.body["code"], code, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?} ({code})");
        }
        assert!(!message.contains('\n'), "{message:?}");
        assert_eq!(
            (&reply.body["retryable"], &reply.body["retry_after_ms"]),
            (&json!(false), &json!(null)),
            "{code}"
        );
        assert_eq!(reply.body["source"], "t.rx");
        assert_eq!(
            reply.header("Nats-Service-Error-Code"),
            Some(service_code.to_string().as_str()),
            "{code}"
        );
        assert_eq!(reply.header("Nats-Service-Error"), Some(message));
        let published = failures.next().await.unwrap();
        assert_eq!(published.subject.as_str(), "iq.failures.t.rx");
        assert_eq!(Reply::of(published).body, reply.body);
        let neighbour =
            world.ask(&with(&good, &[("frame_id", "good".into()), ("cache_enabled", false.into())])).await;
        assert_eq!(neighbour.body["frame_id"], "good", "after {code}: {}", neighbour.body);
        assert!(neighbour.body["position"].is_object());
    }
    let ledger = world.ledger().await;
    assert_eq!((ledger.failures, ledger.predictions, ledger.lost), (count as u64, count as u64, 0));
}

#[tokio::test]
async fn one_sample_less_than_a_window_is_not_enough() {
    if !tools_are_there() {
        return;
    }
    // The shipped models: a window of 256 samples, 192 kHz, three channels.
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let _daemon = Daemon::start(server.url(), &[]).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let ask = async |samples: usize, rate: f64| {
        let frame = with(
            &frame("w", &vec![[0.01, 0.02]; 3 * samples]),
            &[("num_channels", 3.into()), ("sample_rate", Value::F64(rate))],
        );
        Reply::of(client.request("iq.frames.w", pack(&frame).into()).await.unwrap()).body
    };
    let short = ask(255, 192e3).await;
    assert_eq!(short["code"], "not_enough_samples", "{short}");
    assert!(["255", "256"].iter().all(|part| short["message"].as_str().unwrap().contains(part)), "{short}");
    assert_eq!(ask(256, 192e3).await["kind"], "localization");
    assert_eq!(ask(256, 192e3 * 1.0009).await["kind"], "localization", "0.1 % either way is accepted");
    let off = ask(256, 192e3 * 1.002).await;
    assert_eq!(off["code"], "shape_mismatch", "{off}");
}
