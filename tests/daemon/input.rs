//! The subscription by itself: a member that leaves its queue group and joins it again loses nothing on the
//! way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use sferic::nats::{self, Input, PrivateServer, SessionInput};
use sferic_settings::Settings;
use tokio::sync::watch;

use crate::support::*;

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_and_joins_under_load_without_losing_a_frame() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let mut settings = Settings::default();
    settings.nats.url = server.url().to_owned();
    let connection = nats::connect(&settings.nats, "input").await.unwrap();
    let (gathers, in_use) = (watch::Sender::new(false).subscribe(), watch::Sender::new(false));
    let sessions = SessionInput { subject: "iq.sessions.>".to_owned(), gathers, in_use };
    let (mut source, frames) = nats::subscribe(&connection, "iq", "sferic", &sessions);
    frames.switch().pause(false);
    let (ours, theirs) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let reading = tokio::spawn({
        let (ours, client) = (Arc::clone(&ours), connection.client());
        async move {
            while source.next().await.is_some() {
                ours.fetch_add(1, Relaxed);
                // Outcomes leave by the same connection.
                client.publish("iq.failures.x", "outcome".into()).await.unwrap();
            }
        }
    });
    let peer = async_nats::connect(server.url()).await.unwrap();
    let mut shared = peer.queue_subscribe("iq.frames.>", "sferic".into()).await.unwrap();
    peer.flush().await.unwrap();
    tokio::spawn({
        let theirs = Arc::clone(&theirs);
        async move {
            while shared.next().await.is_some() {
                theirs.fetch_add(1, Relaxed);
            }
        }
    });

    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let publishing = tokio::spawn({
        let client = async_nats::connect(server.url()).await.unwrap();
        let (ours, theirs) = (Arc::clone(&ours), Arc::clone(&theirs));
        async move {
            let mut sent = 0u64;
            while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                for _ in 0..64 {
                    client.publish("iq.frames.x", "frame".into()).await.unwrap();
                }
                sent += 64;
                client.flush().await.unwrap();
                // No buffer overflows.
                until("read", || ours.load(Relaxed) + theirs.load(Relaxed) + 2000 > sent).await;
            }
            sent
        }
    });
    let switch = frames.switch().clone();
    for round in 0..30 {
        let before = ours.load(Relaxed);
        until("reading", || switch.state() == Input::Reading && ours.load(Relaxed) > before).await;
        switch.pause(true);
        until("paused", || switch.state() == Input::Paused).await;
        if round % 2 == 0 {
            // It has left when none comes to it while many come to the other.
            let counts = || (ours.load(Relaxed), theirs.load(Relaxed));
            let mut before = counts();
            until("left", || {
                let now = counts();
                if now.0 > before.0 {
                    before = now;
                }
                now.1 > before.1 + 2000
            })
            .await;
        }
        switch.pause(false);
    }
    until("reading", || switch.state() == Input::Reading).await;
    // It ends under load, too.
    frames.stop(PATIENCE).await;
    tokio::time::timeout(PATIENCE, reading).await.expect("the source does not end").unwrap();
    stop.send(()).unwrap();
    let sent = publishing.await.unwrap();
    until("all there", || ours.load(Relaxed) + theirs.load(Relaxed) >= sent).await;
    assert_eq!(ours.load(Relaxed) + theirs.load(Relaxed), sent);
}
