//! Frames whose outcomes the server may have forgotten, and frames whose ids were another's.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{consumer, stream};
use futures::StreamExt;

use crate::jetstream::{Store, assert_once};
use crate::odd_messages::UNREADABLE;
use crate::support::*;
use crate::wire::Wire;

/// The shortest duplicate window that the settings allow, and what they need for it.
const WINDOW: [(&str, &str); 4] = [
    ("JETSTREAM__MAX_DELIVER", "1"),
    ("JETSTREAM__ACK_WAIT", "1s"),
    ("JETSTREAM__OUTAGE", "0s"),
    ("JETSTREAM__DUPLICATE_WINDOW", "31s"),
];

/// Longer than it.
const PAST: Duration = Duration::from_secs(32);

async fn stopped(mut daemon: Daemon) {
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success());
}

/// Predictions, failures and duplicates of a ledger.
fn ended(ledger: &serde_json::Value) -> [u64; 3] {
    ["predictions", "failures", "duplicates_dropped"].map(|key| ledger[key].as_u64().unwrap())
}

impl Store {
    /// Puts an outcome into its stream, as a daemon would have that is gone.
    async fn answered_before(&self, subject: &str, id: &str) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let outcome = pack(&map(&[("kind", "localization".into())]));
        let publishing = self.context.publish_with_headers(subject.to_owned(), headers, outcome.into());
        publishing.await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_older_than_the_duplicate_window_is_looked_up() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    stopped(store.daemon(&WINDOW).await).await;
    // Another daemon takes two frames, publishes the outcome of the first, and is gone. So is one that has
    // failed a frame that no client can read, and could not remove it.
    store.publish("rx", 0..2, &[]).await;
    let frames = store.context.get_stream("IQ_FRAMES").await.unwrap();
    let consumer: consumer::PullConsumer = frames.get_consumer("sferic").await.unwrap();
    let mut taken = consumer.fetch().max_messages(2).messages().await.unwrap();
    for _ in 0..2 {
        taken.next().await.unwrap().unwrap();
    }
    let (_, subject, headers) = UNREADABLE[0];
    let mut wire = Wire::connect(store.server.url()).await;
    wire.send(&Wire::message(subject, b"", headers, &pack(&steady("odd")))).await;
    wire.ping().await;
    store.answered_before("iq.predictions.rx", "IQ_FRAMES:1").await;
    store.answered_before("iq.failures.odd", "IQ_FRAMES:3").await;
    tokio::time::sleep(PAST).await;
    let _daemon = store.daemon(&WINDOW).await;
    let outcomes = store.outcomes(3).await;
    store.settled().await;
    assert_once(&outcomes, 3);
    let body = &outcomes[2].body;
    // Once more where it was delivered together with the frame that no client can read.
    let deliveries = body["deliveries"].as_u64().unwrap();
    assert!(body["code"] == "internal" && (2..=3).contains(&deliveries), "{body}");
    assert_eq!(ended(&store.ledger().await), [0, 1, 2]);
    let gone = frames.get_raw_message(3).await;
    assert!(gone.is_err(), "the frame that no client can read is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_deleted_begins_again_and_nothing_is_answered_twice() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&WINDOW).await;
    store.publish("a", 0..30, &[]).await;
    store.publish("b", 0..30, &[]).await;
    store.outcomes(60).await;
    store.settled().await;
    tokio::time::sleep(PAST).await;
    // These are within the window.
    store.publish("a", 30..40, &[]).await;
    store.outcomes(70).await;
    store.settled().await;
    let frames = store.context.get_stream("IQ_FRAMES").await.unwrap();
    frames.delete_consumer("sferic").await.unwrap();
    let made = async {
        while frames.consumer_info("sferic").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the consumer is not made anew");
    store.publish("b", 30..40, &[]).await;
    store.settled().await;
    assert_once(&store.outcomes(80).await, 80);
    let ledger = store.ledger().await;
    // nats-server may begin the new consumer where it had written down that the old one was.
    let [predictions, failures, duplicates] = ended(&ledger);
    assert!((predictions, failures) == (80, 0) && (1..=70).contains(&duplicates), "{ledger}");
    let outcomes = store.context.get_stream("IQ_OUTCOMES").await.unwrap();
    // Two are this test's own.
    assert_eq!(outcomes.cached_info().state.consumer_count, 2, "look-ups leave their consumers");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_stream_that_was_made_anew_are_no_duplicates() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let daemon = store.daemon(&[]).await;
    store.publish("a", 0..20, &[]).await;
    store.outcomes(20).await;
    store.settled().await;
    // The last outcome is not that of a frame of the stream.
    store.answered_before("iq.predictions.batch", "daemon:1").await;
    store.context.delete_stream("IQ_FRAMES").await.unwrap();
    let made = async {
        while store.context.get_stream("IQ_FRAMES").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the stream is not made anew");
    store.publish("b", 0..20, &[]).await;
    store.outcomes(41).await;
    // Also by a daemon that has seen none of them,
    stopped(daemon).await;
    store.context.delete_stream("IQ_FRAMES").await.unwrap();
    let daemon = store.daemon(&[]).await;
    store.publish("c", 0..20, &[]).await;
    store.outcomes(61).await;
    store.settled().await;
    stopped(daemon).await;
    // and where it is made by somebody who counts from 1: those ids were used within the window.
    let config = store.context.get_stream("IQ_FRAMES").await.unwrap().cached_info().config.clone();
    store.context.delete_stream("IQ_FRAMES").await.unwrap();
    store.context.create_stream(stream::Config { first_sequence: None, ..config }).await.unwrap();
    let _daemon = store.daemon(&[]).await;
    store.publish("d", 0..30, &[]).await;
    let outcomes = store.outcomes(91).await;
    store.settled().await;
    for (source, count) in [("a", 20), ("b", 20), ("c", 20), ("d", 30)] {
        let subject = format!("iq.predictions.{source}");
        let answered = outcomes.iter().filter(|outcome| outcome.subject == subject).count();
        assert_eq!(answered, count, "{source}");
    }
    let ids: std::collections::BTreeSet<_> = outcomes.iter().map(|outcome| &outcome.id).collect();
    assert_eq!(ids.len(), 91);
    assert_eq!(ended(&store.ledger().await), [30, 0, 0]);
}
