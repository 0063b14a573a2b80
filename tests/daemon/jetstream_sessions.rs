//! Sessions from a stream: a member is acknowledged after its session's outcome, so a daemon that dies loses
//! none of them, and answers none twice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::jetstream::Store;
use crate::sessions::heard;
use crate::support::*;

const SESSIONS: u64 = 20;
const SOURCES: [(&str, f64); 3] = [("a", 7.6), ("b", 7.7), ("c.d", 7.8)];

async fn publish(store: &Store, session: u64, sources: &[(&str, f64)]) {
    for (source, longitude) in sources {
        let frame = heard(&format!("{session}{source}"), 0.5, Some((*longitude, 45.0)), 1_000);
        let subject = format!("iq.sessions.{session}.{source}");
        store.context.publish(subject, pack(&frame).into()).await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_with_open_sessions_gathers_them_again() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["placed"]).await;
    let settings = [("MODELS__DEFAULT", "placed"), ("JETSTREAM__ACK_WAIT", "2s")];
    let mut daemon = store.daemon(&settings).await;
    // Complete sessions are answered at once, by the consumer of sessions.
    publish(&store, 100, &SOURCES).await;
    let first = store.outcomes(3).await;
    assert!(first.iter().all(|outcome| outcome.body["session"]["size"] == 3), "{first:?}");
    let frames = store.context.get_stream("IQ_FRAMES").await.unwrap();
    let consumer = frames.consumer_info("sferic-iq-sessions").await.unwrap();
    assert_eq!(consumer.num_pending, 0);

    // Two members of each are there when the daemon is killed; the third comes after its successor.
    for session in 0..SESSIONS {
        publish(&store, session, &SOURCES[..2]).await;
    }
    daemon.signal("KILL").await;
    daemon.ended().await;
    let _daemon = store.daemon(&settings).await;
    for session in 0..SESSIONS {
        publish(&store, 1000 + session, &SOURCES).await;
    }
    let wanted = 3 + 5 * SESSIONS as usize;
    let outcomes = store.outcomes(wanted).await;
    let mut by_frame: BTreeMap<String, u32> = BTreeMap::new();
    for outcome in &outcomes {
        *by_frame.entry(outcome.body["frame_id"].as_str().unwrap().to_owned()).or_default() += 1;
        assert_eq!(outcome.body["kind"], "localization", "none fails: {}", outcome.body);
        // Redelivered members meet again.
        assert!(outcome.body["session"]["size"].as_u64().unwrap() >= 2, "{}", outcome.body);
    }
    assert!(by_frame.len() == wanted && by_frame.values().all(|&count| count == 1), "{by_frame:?}");
    // Nothing more comes, and everything is acknowledged.
    let settled = async {
        loop {
            let consumer = frames.consumer_info("sferic-iq-sessions").await.unwrap();
            if consumer.num_ack_pending == 0 && consumer.num_pending == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("members stay unacknowledged");
    assert_eq!(store.outcomes(wanted).await.len(), wanted);
}
