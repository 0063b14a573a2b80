//! Several daemons on one stream: in order, alike, or by their place in a group.

use std::time::Duration;

use crate::jetstream::{Store, assert_once};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_source_are_answered_in_their_order_by_daemons_that_come_and_go() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let ordered =
        [("JETSTREAM__ORDERED", "true"), ("JETSTREAM__PARTITIONS", "4"), ("JETSTREAM__ACK_WAIT", "2s")];
    let mut daemons = vec![store.daemon(&ordered).await, store.daemon(&ordered).await];
    let sources = ["north", "south.a", "south.b", "east", "west"];
    let frames = 60;
    let sending = async {
        for id in 0..frames {
            for source in sources {
                store.publish(source, id..=id, &[]).await;
            }
        }
    };
    let killing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut first = daemons.remove(0);
        first.signal("KILL").await;
        first.ended().await;
        daemons.push(store.daemon(&ordered).await);
    };
    tokio::join!(sending, killing);
    let outcomes = store.outcomes(sources.len() * frames as usize).await;
    assert_once(&outcomes, sources.len() as u64 * frames);
    for source in sources {
        let subject = format!("iq.predictions.{source}");
        let of_source = outcomes.iter().filter(|outcome| outcome.subject == subject);
        let ids: Vec<_> = of_source.map(|outcome| outcome.body["frame_id"].as_str().unwrap()).collect();
        let expected: Vec<_> = (0..frames).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_daemon_helps_only_with_a_backlog() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let group = ("JETSTREAM__GROUP", "site");
    let _spare = store.daemon(&[group, ("JETSTREAM__MIN_PENDING", "100")]).await;
    store.publish("rx", 0..90, &[]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.pending().await, 90);
    store.publish("rx", 90..300, &[]).await;
    let left = async {
        while store.pending().await >= 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("it does not help");
    let _near = store.daemon(&[group]).await;
    assert_once(&store.outcomes(300).await, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_daemon_gets_what_the_near_one_leaves() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let group = [("JETSTREAM__GROUP", "site"), ("JETSTREAM__GROUP_POLICY", "prioritized")];
    let _far = store.daemon(&[group[0], group[1], ("JETSTREAM__PRIORITY", "9")]).await;
    store.publish("rx", 0..20, &[]).await;
    assert_once(&store.outcomes(20).await, 20);
    let mut near = store.daemon(&group).await;
    store.joined(2).await;
    // No more at once than a daemon has room for that has just started.
    for tens in 2..7 {
        store.publish("rx", 10 * tens..10 * tens + 10, &[]).await;
        store.outcomes(10 * tens as usize + 10).await;
    }
    assert_once(&store.outcomes(70).await, 70);
    store.settled().await;
    let received = store.received().await;
    // Between two requests of the near one the other may get a frame; alike, they would share them.
    assert!(received[1] >= 40 && received.iter().sum::<u64>() == 70, "{received:?}");
    near.signal("TERM").await;
    assert!(near.ended().await.success());
    store.publish("rx", 70..80, &[]).await;
    assert_once(&store.outcomes(80).await, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pinned_daemon_gets_all_frames_until_it_is_gone() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let group =
        [("JETSTREAM__GROUP", "site"), ("JETSTREAM__GROUP_POLICY", "pinned"), ("JETSTREAM__ACK_WAIT", "2s")];
    let mut first = store.daemon(&group).await;
    store.publish("rx", 0..10, &[]).await;
    assert_once(&store.outcomes(10).await, 10);
    let mut second = store.daemon(&group).await;
    store.joined(2).await;
    store.publish("rx", 10..50, &[]).await;
    assert_once(&store.outcomes(50).await, 50);
    assert_eq!(store.received().await, [0, 50]);
    first.signal("KILL").await;
    first.ended().await;
    store.publish("rx", 50..60, &[]).await;
    assert_once(&store.outcomes(60).await, 60);
    // One that ends in order leaves the frames to the next at once.
    let _third = store.daemon(&group).await;
    store.joined(2).await;
    second.signal("TERM").await;
    assert!(second.ended().await.success());
    store.publish("rx", 60..70, &[]).await;
    assert_once(&store.outcomes(70).await, 70);
}
