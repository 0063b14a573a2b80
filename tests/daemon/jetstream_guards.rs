//! What a sender or an operator can do to streams, and what must not come of it.

use async_nats::HeaderMap;
use async_nats::jetstream::{consumer, stream};

use crate::jetstream::{Store, assert_once};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_does_not_make_the_daemon_speak_to_jetstream() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[]).await;
    for subject in ["$JS.API.STREAM.PURGE.IQ_OUTCOMES", "iq.frames.loop", "sferic.breaker"] {
        let mut headers = HeaderMap::new();
        headers.insert("Sferic-Reply", subject);
        let frame = pack(&with(&steady(subject), &[("cache_enabled", false.into())]));
        let sent = store.context.publish_with_headers("iq.frames.rx", headers, frame.into());
        sent.await.unwrap().await.unwrap();
    }
    assert_once(&store.outcomes(3).await, 3);
    store.settled().await;
    assert_once(&store.outcomes(3).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_never_fits_fails_and_holds_nothing_up() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[("LIMITS__IN_FLIGHT_BYTES", "100KiB")]).await;
    store.put("rx", pack(&frame("large", &vec![[0.5, 0.25]; 30_000]))).await;
    store.publish("rx", 0..5, &[]).await;
    let outcomes = store.outcomes(6).await;
    assert_once(&outcomes, 6);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.subject == "iq.failures.rx").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].body["code"], "frame_too_large", "{}", failed[0].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_memory_and_a_consumer_of_headers_are_refused() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let subjects = |kinds: [&str; 2]| kinds.map(|kind| format!("iq.{kind}.>")).to_vec();
    let both = stream::Config {
        max_bytes: 64 << 20,
        duplicate_window: std::time::Duration::from_secs(600),
        ..Default::default()
    };
    let outcomes = stream::Config {
        name: "IQ_OUTCOMES".into(),
        subjects: subjects(["failures", "predictions"]),
        max_age: std::time::Duration::from_secs(24 * 3600),
        max_messages_per_subject: 1,
        storage: stream::StorageType::Memory,
        ..both.clone()
    };
    store.context.create_stream(outcomes).await.unwrap();
    let refused = async || {
        let mut command = sferic(&["run", "--url", store.server.url()]);
        command.envs(store.settings(&[]).iter().map(|(key, value)| (format!("SFERIC__{key}"), value)));
        command.env("SFERIC__HTTP__LISTEN", "");
        let (code, _, err) = output(&mut command).await;
        assert_eq!(code, 1, "{err}");
        err
    };
    let err = refused().await;
    assert!(
        err.contains("storage is Memory, must be File") && err.contains("max_msgs_per_subject is 1"),
        "{err}"
    );
    store.context.delete_stream("IQ_OUTCOMES").await.unwrap();
    let frames = stream::Config {
        name: "IQ_FRAMES".into(),
        subjects: subjects(["frames", "sessions"]),
        discard: stream::DiscardPolicy::New,
        ..both
    };
    let frames = store.context.create_stream(frames).await.unwrap();
    let consumer = consumer::pull::Config {
        durable_name: Some("sferic".into()),
        filter_subject: "iq.frames.>".into(),
        max_ack_pending: 10_000,
        headers_only: true,
        ..Default::default()
    };
    frames.create_consumer(consumer.clone()).await.unwrap();
    let err = refused().await;
    assert!(err.contains("headers_only is true, must be false"), "{err}");
    // With these the requests of the daemon would be refused, one after the other.
    frames.delete_consumer("sferic").await.unwrap();
    let expires = std::time::Duration::from_secs(1);
    let narrow =
        consumer::pull::Config { headers_only: false, max_batch: 1, max_expires: expires, ..consumer };
    frames.create_consumer(narrow).await.unwrap();
    let err = refused().await;
    assert!(err.contains("max_batch is 1, must be 0") && err.contains("max_expires is 1s"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_the_servers_in_a_frame_does_not_stop_the_reading() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[]).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Pin-Id", "evil");
    let frame = pack(&steady("odd"));
    store.context.publish_with_headers("iq.frames.odd", headers, frame.into()).await.unwrap().await.unwrap();
    store.publish("rx", 0..40, &[]).await;
    let outcomes = store.outcomes(41).await;
    assert_once(&outcomes, 41);
    store.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_no_outcome_could_have_ends_its_frame_and_not_the_connection() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let mut daemon = Daemon::start_piped(store.server.url(), &store.settings(&[])).await;
    let frame = || pack(&with(&steady("odd"), &[("cache_enabled", false.into())]));
    let long = "\u{e9}".repeat(1950);
    store.put(&long, frame()).await;
    store.put(&format!("{}.{}", "a".repeat(1023), "b".repeat(1000)), frame()).await;
    let mut headers = HeaderMap::new();
    headers.insert("Sferic-Reply", "r".repeat(5000));
    store.context.publish_with_headers("iq.frames.rx", headers, frame().into()).await.unwrap().await.unwrap();
    store.publish("rx", 0..5, &[]).await;
    let outcomes = store.outcomes(8).await;
    assert_once(&outcomes, 8);
    store.settled().await;
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.body["code"] == "invalid_frame").collect();
    assert_eq!(failed.len(), 2, "{outcomes:?}");
    assert_eq!(failed[0].subject, format!("iq.failures.{}", "\u{e9}".repeat(512)));
    assert_eq!(failed[1].subject, format!("iq.failures.{}", "a".repeat(1023)));
    let message = failed[0].body["message"].as_str().unwrap();
    assert!(message.contains("3900 bytes") && message.contains("1024"), "{message}");
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert!(log.contains("no outcome goes to the reply subject") && !log.contains("disconnected"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_a_slow_model_waits_in_its_stream() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees", "slow"]).await;
    let sessions = [("POOL__SESSIONS", "2")];
    let mut daemon = store.daemon(&sessions).await;
    let slow = |timeout_ms: u64| {
        [("model", "slow".into()), ("timeout_ms", timeout_ms.into()), ("cache_enabled", false.into())]
    };
    // Both sessions at once, as fast as this machine is.
    let began = std::time::Instant::now();
    store.publish("rx", 0..2, &slow(60_000)).await;
    assert_once(&store.outcomes(2).await, 2);
    let run = began.elapsed();
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success());
    // A frame's time is that of four runs, the backlog's of twelve.
    store.publish("rx", 2..26, &slow(4 * run.as_millis() as u64)).await;
    let _daemon = store.daemon(&sessions).await;
    let outcomes = store.outcomes(26).await;
    assert_once(&outcomes, 26);
    let answered = outcomes.iter().filter(|outcome| outcome.subject == "iq.predictions.rx").count();
    assert!(answered >= 22, "{answered} of 26; the others were refused again and again");
}
