//! Predictions over HTTP: the same frames, the same outcomes.

use async_nats::Subscriber;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::http_client::*;
use crate::support::*;

fn frame_of(samples: usize) -> Value {
    json!({"iq_data": vec![[0.5, 0.25]; samples]})
}

async fn next(outcomes: &mut Subscriber) -> (String, Reply) {
    let message =
        tokio::time::timeout(PATIENCE, outcomes.next()).await.expect("nothing is published").unwrap();
    (message.subject.to_string(), Reply::of(message))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prediction_is_answered_and_published() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut outcomes = served.subscribe("iq.*.>").await;
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
        ("baggage", "k=v"),
    ];
    let body = json!({"frame_id": "f", "session_id": "s", "iq_data": vec![[0.5, 0.25]; 64], "unknown": 1});
    let answer = call(served.address, "POST", PREDICT, &trace, body.to_string().as_bytes()).await;
    let prediction = answer.json();
    assert_eq!(answer.status, 200, "{prediction}");
    assert_eq!(prediction["position"], json!({"latitude": 45.0, "longitude": 90.0}));
    for (key, expected) in
        [("frame_id", "f"), ("session_id", "s"), ("source", "http"), ("kind", "localization")]
    {
        assert_eq!(prediction[key], expected, "{key}");
    }
    assert!(answer.header("traceparent").unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!((answer.header("tracestate"), answer.header("baggage")), (Some("a=b"), Some("k=v")));
    let (subject, published) = next(&mut outcomes).await;
    assert_eq!((subject.as_str(), &published.body), ("iq.predictions.http", &prediction));
    assert_eq!(published.header("Nats-Msg-Id"), Some("f"));

    for (source, subject) in [
        ("north.rx2", "iq.predictions.north.rx2"),
        ("a b", "iq.predictions.http"),
        ("x.>", "iq.predictions.http"),
    ] {
        let mut body = frame_of(64);
        body["source"] = source.into();
        let answer = served.post(PREDICT, &body).await.json();
        let (is, published) = next(&mut outcomes).await;
        assert_eq!((is.as_str(), published.body), (subject, answer));
    }
    assert_eq!(served.end().await, [4, 4, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_encodings_go_in_and_out() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["tensors"], |_| ()).await;
    let packed = pack(&steady("m"));
    let json = frame_of(64).to_string().into_bytes();
    let (messagepack, json_type) = ("application/msgpack", "application/json");
    for (content_type, body) in [(messagepack, &packed), (json_type, &json)] {
        for (accept, expected) in
            [("", content_type), ("*/*", content_type), (messagepack, messagepack), (json_type, json_type)]
        {
            let headers = [("Content-Type", content_type), ("Accept", accept)];
            let answer = call(served.address, "POST", PREDICT, &headers, body).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(expected)));
            let data = match expected == messagepack {
                true => {
                    let value = rmpv::decode::read_value(&mut answer.body.as_slice()).unwrap();
                    value["tensors"]["mean"]["data"].as_slice().unwrap().to_vec()
                }
                false => {
                    assert_eq!(answer.json()["tensors"]["mean"]["data"], "AAAAPwAAgD4=");
                    [0.5f32, 0.25].map(f32::to_le_bytes).concat()
                }
            };
            assert_eq!(data, [0.5f32, 0.25].map(f32::to_le_bytes).concat(), "{content_type} to {expected}");
        }
    }
    let headers = [("Content-Type", messagepack)];
    let answer =
        call(served.address, "POST", PREDICT, &headers, &pack(&map(&[("frame_id", "e".into())]))).await;
    let error = unpack(&answer.body);
    assert_eq!(
        (answer.status, &error["error"], &error["request_id"]),
        (400, &json!("invalid_frame"), &json!("e"))
    );
    assert_eq!(served.end().await, [9, 8, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_has_its_code_as_the_status_and_is_published() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees", "poison"], |settings| settings.limits.frame_samples = 100).await;
    let mut outcomes = served.subscribe("iq.failures.http").await;
    let poison = json!({"iq_data": vec![[0.95, 0.1]; 64], "model": "poison"});
    for (body, status, code) in [
        ("{".to_owned(), 400, "invalid_frame"),
        ("[]".to_owned(), 400, "invalid_frame"),
        (json!({"iq_data": []}).to_string(), 400, "invalid_frame"),
        (
            json!({"frame_id": "x", "samples": "AA==", "datatype": "ci12"}).to_string(),
            400,
            "unsupported_datatype",
        ),
        (json!({"iq_data": [[1, 1]], "model": "nobody"}).to_string(), 404, "model_not_found"),
        (frame_of(101).to_string(), 413, "frame_too_large"),
        (poison.to_string(), 500, "inference_failed"),
    ] {
        let answer = call(served.address, "POST", PREDICT, &[], body.as_bytes()).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, code), "{body}");
        let (error, published) = (answer.json(), next(&mut outcomes).await.1.body);
        assert_eq!((&published["code"], &published["message"]), (&error["error"], &error["message"]));
        assert_eq!(
            (&published["frame_id"], &published["timestamp"]),
            (&error["request_id"], &error["timestamp"])
        );
    }
    assert_eq!(served.end().await, [7, 0, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_hundred_with_one_bad_frame_answers_the_others() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let mut outcomes = served.subscribe("iq.*.>").await;
    let mut frames: Vec<_> =
        (0..100).map(|n| json!({"frame_id": n.to_string(), "iq_data": vec![[0.5, 0.25]; 32]})).collect();
    frames[41] = json!({"frame_id": "41", "iq_data": "none"});
    frames[42] = json!(vec![[0.5, 0.25]; 32]);
    frames[43]["source"] = "own.source".into();
    let body = json!({"iq_samples": frames, "session_id": "s", "cache_enabled": false});
    let answer = served.post(BATCH, &body).await;
    let reply = answer.json();
    assert_eq!(answer.status, 200, "{reply}");
    assert_eq!(
        (&reply["successful"], &reply["failed"], &reply["batch_size"]),
        (&json!(99), &json!(1), &json!(100))
    );
    assert!(
        reply["total_time_ms"].as_f64().unwrap() > 0.0 && reply["samples_per_second"].as_f64().unwrap() > 0.0
    );
    let predictions = reply["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 100);
    let mut expected = Vec::new();
    for (n, prediction) in predictions.iter().enumerate() {
        let subject = match n {
            41 => "iq.failures.http",
            43 => "iq.predictions.own.source",
            _ => "iq.predictions.http",
        };
        expected.push((subject.to_owned(), prediction.clone()));
        if n != 42 {
            assert_eq!(prediction["frame_id"], n.to_string(), "in order");
        }
        assert_eq!(prediction["code"] == "invalid_frame", n == 41, "{prediction}");
        if n != 41 {
            assert_eq!((&prediction["session_id"], &prediction["_cache_hit"]), (&json!("s"), &json!(false)));
        }
    }
    let mut published = Vec::new();
    for _ in 0..100 {
        let (subject, reply) = next(&mut outcomes).await;
        published.push((subject, reply.body));
    }
    let order = |all: &mut Vec<(String, Value)>| all.sort_by_key(|(_, body)| body["frame_id"].to_string());
    order(&mut expected);
    order(&mut published);
    assert_eq!(published, expected);
    for body in [json!({"samples": []}), json!({"samples": vec![1; 101]}), json!({})] {
        let answer = served.post(BATCH, &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_frame"));
    }
    assert_eq!(served.end().await, [100, 99, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_is_there() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| {
        settings.cache.enabled = false;
        settings.nats.publish_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let health = call(served.address, "GET", "/api/v1/inference/health", &[], b"").await.json();
    assert_eq!(
        (&health["status"], &health["service"], &health["model_loaded"], &health["cache_available"]),
        (&json!("ok"), &json!("sferic"), &json!(true), &json!(false))
    );
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'));
    drop(served.server);
    let degraded = async {
        while call(served.address, "GET", "/api/v1/inference/health", &[], b"").await.json()["status"]
            != "degraded"
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, degraded).await.expect("the server is gone, and nobody says so");
    // What cannot be published counts as lost, so the caller gets an error.
    let body = frame_of(64).to_string();
    let answer = call(served.address, "POST", PREDICT, &[], body.as_bytes()).await;
    assert_eq!((answer.status, answer.error().as_str()), (500, "internal"));
    assert!(answer.json()["message"].as_str().unwrap().contains("could not be published: the connection"));
    let counts = served.app.shared_state().ledger.counts();
    assert_eq!((counts.received, counts.lost, counts.balance()), (1, 1, true), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_under_load_loses_no_call() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let (address, body) = (served.address, frame_of(64).to_string());
    let request = format!(
        "POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The statuses of a client's calls, until nobody listens.
    let calling = |request: String| async move {
        let mut statuses = Vec::new();
        // A call that nobody had read may see its connection closed.
        while let Ok(bytes) = exchange(address, request.as_bytes()).await {
            let Some(answer) = Answer::of(&bytes) else { break };
            statuses.push(answer.status);
            if answer.status == 503 {
                assert_eq!(answer.error(), "model_unavailable");
                assert!(answer.json()["message"].as_str().unwrap().contains("stopping"));
            }
        }
        statuses
    };
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(calling(request.clone()))).collect();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let [received, predictions, failures] = served.end().await;
    let mut statuses = Vec::new();
    for client in clients {
        statuses.extend(client.await.unwrap());
    }
    let count = |status| statuses.iter().filter(|is| **is == status).count() as u64;
    assert!(count(200) > 50, "{} calls are no load", count(200));
    assert_eq!((predictions, failures, received), (count(200), 0, count(200)), "every frame was answered");
    assert_eq!(count(200) + count(503), statuses.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_shown_and_reloaded() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["versions"], |settings| settings.models.default = "versions".into()).await;
    let get = async |path: &str| call(served.address, "GET", path, &[], b"").await;
    let versions = get("/model/versions").await.json();
    assert_eq!(
        (&versions["models"][0]["name"], &versions["models"][0]["active"]),
        (&json!("versions"), &json!("10"))
    );
    let info = get("/model/info").await.json();
    assert_eq!(
        (&info["model"], &info["version"], &info["active"]),
        (&json!("versions"), &json!("10"), &json!(true))
    );
    assert_eq!(get("/model/info?version=2").await.json()["active"], false);
    for (path, status, error) in [
        ("/model/info?version=7", 404, "model_not_found"),
        ("/model/info?model=none", 404, "model_not_found"),
        ("/model/info?vresion=7", 400, "invalid_request"),
    ] {
        let answer = get(path).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{path}");
    }
    let change = served.post("/model/reload", &json!({"version": "2", "force": true})).await.json();
    assert_eq!(
        (&change["previous_version"], &change["new_version"]),
        (&json!("10"), &json!("2")),
        "{change}"
    );
    let prediction = served.post(PREDICT, &frame_of(64)).await.json();
    assert_eq!(prediction["model_version"], "2", "{prediction}");
    // Nothing at all is the default model's highest version; MessagePack is taken, too.
    let change = call(served.address, "POST", "/model/reload", &[], b"").await.json();
    assert_eq!(change["new_version"], "10", "{change}");
    let body = rmp_serde::to_vec_named(&json!({"version": 9})).unwrap();
    let headers = [("Content-Type", "application/msgpack")];
    let change = call(served.address, "POST", "/model/reload", &headers, &body).await.json();
    assert_eq!(change["new_version"], "9", "{change}");
    for (body, status, error) in [
        (json!({"version": "../9"}), 404, "model_not_found"),
        (json!({"versoin": "9"}), 400, "invalid_request"),
        (json!([1]), 400, "invalid_request"),
    ] {
        let answer = served.post("/model/reload", &body).await;
        assert_eq!((answer.status, answer.error().as_str()), (status, error), "{body}");
    }
    let performance = get("/model/performance").await.json();
    assert_eq!(
        (&performance["predictions"], &performance["success_rate"]),
        (&json!(1), &json!(1.0)),
        "{performance}"
    );
    assert!(performance["p50_ms"].as_f64().unwrap() > 0.0, "{performance}");
    served.end().await;
}
