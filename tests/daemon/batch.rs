//! Batches on NATS.

use async_nats::{HeaderMap, Message};
use futures::StreamExt;
use rmpv::Value;
use serde_json::json;
use sferic::nats::PrivateServer;
use sferic_settings::Mode;

use crate::http_client::*;
use crate::odd_messages::UNREADABLE;
use crate::support::*;
use crate::wire::Wire;

/// The message of a batch.
pub fn batch(frames: Vec<Value>, more: &[(&str, Value)]) -> Vec<u8> {
    pack(&with(&map(&[("samples", Value::Array(frames))]), more))
}

/// Its answer.
pub async fn ask(client: &async_nats::Client, headers: HeaderMap, payload: Vec<u8>) -> Message {
    let asked = client.request_with_headers("iq.batch", headers, payload.into());
    tokio::time::timeout(PATIENCE, asked).await.expect("no answer").expect("no answer")
}

fn error(message: &Message) -> Option<(u16, String)> {
    let headers = message.headers.as_ref()?;
    let code = headers.get("Nats-Service-Error-Code")?.as_str().parse().unwrap();
    Some((code, headers.get("Nats-Service-Error").unwrap().to_string()))
}

#[tokio::test]
async fn a_batch_of_a_hundred_with_one_bad_frame_answers_the_others() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[("LIMITS__TIMEOUT", "20s")]).await;
    let mut outcomes = world.client.subscribe("iq.*.>").await.unwrap();
    let mut frames: Vec<_> =
        (0..100).map(|n| with(&steady(&n.to_string()), &[("seq", (7 * n).into())])).collect();
    frames[3] = with(&frames[3], &[("samples", "text".into())]);
    frames[4] = with(&frames[4], &[("source", "own.source".into())]);
    let message =
        ask(&world.client, HeaderMap::new(), batch(frames, &[("cache_enabled", false.into())])).await;
    assert_eq!(error(&message), None);
    let reply = Reply::of(message).body;
    assert_eq!(
        (&reply["successful"], &reply["failed"], &reply["batch_size"]),
        (&json!(99), &json!(1), &json!(100))
    );
    let mut expected = Vec::new();
    for (n, outcome) in reply["predictions"].as_array().unwrap().iter().enumerate() {
        assert_eq!(outcome["frame_id"], n.to_string(), "in order");
        let subject = match n {
            3 => "iq.failures.batch",
            4 => "iq.predictions.own.source",
            _ => "iq.predictions.batch",
        };
        expected.push((n.to_string(), subject.to_owned(), outcome.clone()));
    }
    let mut published = Vec::new();
    while published.len() < 100 {
        let message =
            tokio::time::timeout(PATIENCE, outcomes.next()).await.expect("outcomes are missing").unwrap();
        let subject = message.subject.to_string();
        if subject == "iq.batch" {
            continue;
        }
        let body = Reply::of(message).body;
        published.push((body["frame_id"].as_str().unwrap().to_owned(), subject, body));
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    published.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(published, expected);
    let ledger = world.ledger().await;
    assert_eq!(
        (ledger.received, ledger.predictions, ledger.failures, ledger.lost),
        (100, 99, 1, 0),
        "no gap in `seq`"
    );
}

#[tokio::test]
async fn json_is_answered_in_kind_and_no_batch_is_an_error() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let (payload, headers) = as_json(&json!({"iq_samples": [vec![[0.5, 0.25]; 64]], "session_id": "s"}));
    let message = ask(&world.client, headers, payload).await;
    let reply: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&reply["successful"], &reply["predictions"][0]["session_id"]), (&json!(1), &json!("s")));
    for (payload, part) in [
        (batch(vec![], &[]), "0 frames, must have 1 to 100"),
        (batch(vec![steady("x"); 101], &[]), "101 frames, must have 1 to 100"),
        (pack(&map(&[])), "neither of `samples` and `iq_samples`"),
        (b"{}".to_vec(), "Content-Type: application/json"),
        (Vec::new(), "not a batch in MessagePack"),
    ] {
        let message = ask(&world.client, HeaderMap::new(), payload).await;
        let (code, words) = error(&message).expect("it is taken");
        assert!(code == 400 && words.contains(part), "{code} {words}");
        let body = Reply::of(message).body;
        assert_eq!((&body["code"], &body["message"]), (&json!("invalid_frame"), &json!(words)));
    }
    assert_eq!(world.ledger().await.received, 1);
}

#[tokio::test]
async fn after_a_failure_what_is_not_begun_ends_likewise_where_the_batch_says_so() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[("POOL__SESSIONS", "1"), ("LIMITS__TIMEOUT", "20s")]).await;
    let mut frames = vec![steady("good"); 100];
    frames[0] = with(&frames[0], &[("model", "nobody".into())]);
    let payload = batch(frames, &[("continue_on_error", false.into())]);
    let reply = Reply::of(ask(&world.client, HeaderMap::new(), payload).await).body;
    let outcomes = reply["predictions"].as_array().unwrap();
    assert_eq!(
        (outcomes[0]["code"].as_str(), outcomes[99]["code"].as_str()),
        (Some("model_not_found"), Some("model_not_found"))
    );
    assert!(
        outcomes[99]["message"].as_str().unwrap().contains("frame 1 of the batch failed"),
        "{}",
        outcomes[99]
    );
    assert!(reply["failed"].as_u64().unwrap() >= 90, "{}", reply["failed"]);
    let ledger = world.ledger().await;
    assert_eq!((ledger.received, ledger.failures), (100, reply["failed"].as_u64().unwrap()));
}

#[tokio::test]
async fn a_reply_over_max_payload_is_internal_with_both_sizes() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let config = folder.path().join("nats.conf");
    std::fs::write(&config, "max_payload: 4096").unwrap();
    let server = PrivateServer::start(&["-c", config.to_str().unwrap()]).await.unwrap();
    let world = World::on(server, &["degrees"], &[]).await;
    let frames =
        (0..20).map(|_| Value::Array(vec![Value::Array(vec![0.5.into(), 0.25.into()]); 3])).collect();
    let message = ask(&world.client, HeaderMap::new(), batch(frames, &[])).await;
    let (code, words) = error(&message).expect("it fits");
    assert!(code == 500 && words.contains("max_payload of 4096"), "{words}");
    assert_eq!(Reply::of(message).body["code"], "internal");
    assert_eq!(world.ledger().await.received, 20, "the frames had their outcomes all the same");
}

#[tokio::test]
async fn batches_are_answered_after_the_client_was_replaced() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let mut wire = Wire::connect(world.server.url()).await;
    for (what, subject, headers) in UNREADABLE.iter().take(2) {
        wire.send(&Wire::message(subject, b"", *headers, b"x")).await;
        let answered = async {
            loop {
                let request = world.client.request("iq.batch", batch(vec![steady("x")], &[]).into());
                match tokio::time::timeout(std::time::Duration::from_secs(1), request).await {
                    Ok(Ok(message)) => return message,
                    // Between two clients nobody listens.
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                }
            }
        };
        let message = tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("{what}"));
        assert_eq!(Reply::of(message).body["successful"], 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_no_batch() {
    if !tools_are_there() {
        return;
    }
    let settings = [("LIMITS__TIMEOUT", "20s")];
    let mut world = World::start(&["degrees"], &settings).await;
    let models = repository(&["degrees"]);
    let client = world.client.clone();
    let asking = tokio::spawn(async move {
        let mut answered = 0;
        for _ in 0..300 {
            let frames = vec![with(&steady("r"), &[("cache_enabled", false.into())]); 3];
            let message = ask(&client, HeaderMap::new(), batch(frames, &[])).await;
            assert_eq!(error(&message), None);
            answered += Reply::of(message).body["successful"].as_u64().unwrap();
        }
        answered
    });
    let default = [("MODELS__REPOSITORY", models.path().to_str().unwrap()), ("MODELS__DEFAULT", "degrees")];
    let second: Vec<_> = default.iter().chain(&settings).copied().collect();
    let _second = Daemon::start(world.server.url(), &second).await;
    // The service answers for either; both are in the group only when both answer.
    let both = async {
        let mut statistics = world.client.subscribe("answers").await.unwrap();
        loop {
            world.client.publish_with_reply("$SRV.STATS.sferic", "answers", "".into()).await.unwrap();
            let mut reading = 0;
            while let Ok(Some(message)) =
                tokio::time::timeout(std::time::Duration::from_millis(300), statistics.next()).await
            {
                let statistics: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                reading += u32::from(statistics["endpoints"][0]["data"]["input"]["state"] == "reading");
            }
            if reading == 2 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the second daemon does not read");
    world.daemon.signal("TERM").await;
    assert!(world.daemon.ended().await.success());
    assert_eq!(asking.await.unwrap(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_streams_outcomes_have_ids_of_their_own() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let server = PrivateServer::start(&["-js", "-sd", folder.path().to_str().unwrap()]).await.unwrap();
    let served = Served::on(server, &["degrees"], |settings| {
        settings.nats.mode = Mode::Jetstream;
        settings.jetstream.max_bytes = 64 << 20;
    })
    .await;
    // Equal frame ids, which the stream would take for one outcome sent again.
    let payload = batch(vec![steady("same"); 3], &[]);
    let reply = Reply::of(ask(&served.client, HeaderMap::new(), payload).await).body;
    assert_eq!(reply["successful"], 3);
    let body = json!({"frame_id": "same", "iq_data": vec![[0.5, 0.25]; 64]});
    for _ in 0..2 {
        assert_eq!(served.post(PREDICT, &body).await.status, 200);
    }
    let context = async_nats::jetstream::new(served.client.clone());
    let stream = context.get_stream("IQ_OUTCOMES").await.unwrap();
    let mut ids = Vec::new();
    for sequence in 1..=5 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        ids.push(message.headers.get("Nats-Msg-Id").unwrap().to_string());
    }
    let daemon: uuid::Uuid = ids[0].split_once(':').unwrap().0.parse().unwrap();
    let expected: Vec<_> = (1..=5).map(|n| format!("{daemon}:{n}")).collect();
    ids.sort();
    assert_eq!(ids, expected);
    assert_eq!(served.end().await, [5, 5, 0]);
}
