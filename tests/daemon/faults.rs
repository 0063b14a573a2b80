//! Faults under load: N requests, N replies, and the outcome law after each.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sferic::app::App;
use sferic::nats::PrivateServer;
use sferic_actors::stages::ActorRole;

use crate::support::*;

/// One frame runs, one waits, and nothing hurries them.
const TWO_AT_ONCE: [(&str, &str); 5] = [
    ("LIMITS__IN_FLIGHT_FRAMES", "2"),
    ("LIMITS__TIMEOUT", "60s"),
    ("POOL__ACQUIRE_TIMEOUT", "60s"),
    ("POOL__SESSIONS", "1"),
    ("CACHE__ENABLED", "false"),
];

#[tokio::test(flavor = "multi_thread")]
async fn any_one_actor_can_be_killed_under_load() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["degrees"]);
    let mut settings = settings(&server, &models, "degrees");
    settings.limits.timeout = Duration::from_secs(10);
    settings.supervision.max_restarts = 100;
    let app = App::start(&settings).await.unwrap();
    app.ready().await;
    let client = async_nats::connect(server.url()).await.unwrap();

    let mut sent = 0;
    for role in ActorRole::ALL {
        let before = app.pipeline().find(role).await.unwrap();
        let mut replies = FuturesUnordered::new();
        let request = |n| {
            let frame = with(&steady(&format!("{role:?}-{n}")), &[("cache_enabled", (n % 2 == 0).into())]);
            client.request("iq.frames.k", pack(&frame).into())
        };
        replies.extend((0..=100).map(request));
        // The load is under way when its first reply is here.
        replies.next().await.unwrap().unwrap();
        let killed = tokio::time::Instant::now();
        before.kill();
        replies.extend((101..200).map(request));
        sent += 200;
        let answered = async {
            let mut count = 1;
            while let Some(reply) = replies.next().await {
                reply.unwrap_or_else(|error| panic!("{role:?}: a request without a reply: {error}"));
                count += 1;
            }
            count
        };
        let recovered = async {
            while app.pipeline().find(role).await.is_none_or(|actor| actor.get_id() == before.get_id())
                || app.pipeline().find(ActorRole::Ingest).await.is_none()
            {
                tokio::task::yield_now().await;
            }
        };
        // Two seconds from the kill, while the load goes on.
        let recovered = tokio::time::timeout_at(killed + Duration::from_secs(2), recovered);
        let (recovered, count) = tokio::join!(recovered, answered);
        recovered.unwrap_or_else(|_| panic!("{role:?} did not recover"));
        assert_eq!(count, 200);
        let after = Reply::of(client.request("iq.frames.k", pack(&steady("after")).into()).await.unwrap());
        sent += 1;
        assert!(after.body["position"].is_object(), "{role:?}: {}", after.body);
    }
    let shared_state = std::sync::Arc::clone(app.shared_state());
    app.shut_down().await;
    let counts = shared_state.ledger.counts();
    assert!(counts.balance() && counts.in_flight == 0, "{counts:?}");
    assert_eq!((counts.received, counts.lost), (sent, 0), "{counts:?}");
}

#[tokio::test]
async fn a_signal_under_load_ends_in_order_with_every_accepted_frame_answered() {
    if !tools_are_there() {
        return;
    }
    for signal in ["TERM", "INT"] {
        let mut world = World::start(&["degrees"], &[("LIMITS__TIMEOUT", "10s")]).await;
        let mut outcomes = world.client.subscribe("iq.*.s").await.unwrap();
        let client = world.client.clone();
        let publishing = tokio::spawn(async move {
            for n in 0u64.. {
                let frame = with(&steady(&n.to_string()), &[("cache_enabled", false.into())]);
                if client.publish("iq.frames.s", pack(&frame).into()).await.is_err() {
                    return;
                }
                client.flush().await.unwrap();
            }
        });
        let mut answered = 0u64;
        let mut next = async || loop {
            let message = tokio::time::timeout(PATIENCE, outcomes.next()).await.expect("no outcome").unwrap();
            if message.subject.as_str() != "iq.frames.s" {
                return Reply::of(message);
            }
        };
        while answered < 200 {
            next().await;
            answered += 1;
        }
        world.daemon.signal(signal).await;
        assert_eq!(world.daemon.ended().await.code(), Some(0), "SIG{signal}");
        publishing.abort();
        // The frames were accepted in order, so those answered are the first ones, without a gap.
        let marker = with(&steady("marker"), &[("cache_enabled", false.into())]);
        world.client.publish("iq.predictions.s", pack(&marker).into()).await.ok();
        // What was published before the daemon's end comes before what is published after it.
        let mut ids = std::collections::BTreeSet::new();
        loop {
            let message =
                tokio::time::timeout(PATIENCE, outcomes.next()).await.expect("the marker is lost").unwrap();
            if message.subject.as_str() == "iq.frames.s" {
                continue;
            }
            if message.headers.is_none() {
                break;
            }
            let body = Reply::of(message).body;
            ids.insert(body["frame_id"].as_str().unwrap().parse::<u64>().unwrap());
        }
        let highest = ids.last().copied().unwrap_or(answered - 1);
        assert_eq!(
            ids.len() as u64,
            highest + 1 - answered,
            "SIG{signal}: every accepted frame is answered once"
        );
    }
}

#[tokio::test]
async fn a_deadline_is_kept_while_the_model_still_runs() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(
        &["slow", "degrees"],
        &[("POOL__SESSIONS", "2"), ("POOL__ALLOW_OVERSUBSCRIBED", "true")],
    )
    .await;
    let late = with(&steady("late"), &[("timeout_ms", 100.into())]);
    let quick = with(&steady("quick"), &[("model", "degrees".into())]);
    let asked = Instant::now();
    let late = async { (world.ask(&late).await, asked.elapsed()) };
    let ((late, after), quick) = tokio::join!(late, world.ask(&quick));
    // The run takes two seconds; a busy machine is given some of them.
    assert!(after < Duration::from_secs(1), "answered after {after:?}");
    assert_eq!(
        (&late.body["code"], &late.body["retryable"]),
        (&"deadline_exceeded".into(), &true.into()),
        "{}",
        late.body
    );
    assert!(late.body["message"].as_str().unwrap().contains("100 ms"), "{}", late.body);
    assert_eq!(late.header("Nats-Service-Error-Code"), Some("504"));
    assert!(quick.body["position"].is_object(), "a slow neighbour holds nobody up: {}", quick.body);
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (1, 1, 0));
}

#[tokio::test]
async fn frames_over_the_limits_are_overloaded_and_counted() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["slow"], &TWO_AT_ONCE).await;
    let frames: Vec<_> = (0..10).map(|n| steady(&n.to_string())).collect();
    let replies = futures::future::join_all(frames.iter().map(|frame| world.ask(frame))).await;
    let overloaded: Vec<_> = replies.iter().filter(|reply| reply.body["code"] == "overloaded").collect();
    assert_eq!(overloaded.len(), 8, "{replies:?}");
    assert!(
        overloaded[0].body["message"].as_str().unwrap().contains("2 of 2 frames in flight"),
        "{:?}",
        overloaded[0]
    );
    assert_eq!(overloaded[0].header("Nats-Service-Error-Code"), Some("429"));
    let ledger = world.ledger().await;
    assert_eq!((ledger.received, ledger.predictions, ledger.failures, ledger.lost), (10, 2, 8, 0));
}

#[tokio::test]
async fn the_circuit_of_a_failing_model_opens_and_other_models_answer() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "poison"], &[]).await;
    let poison = |id| with(&frame(id, &[[-0.95, 0.1]; 16]), &[("model", "poison".into())]);
    for id in ["1", "2", "3"] {
        assert_eq!(world.ask(&poison(id)).await.body["code"], "inference_failed");
    }
    let refused = world.ask(&poison("4")).await;
    assert_eq!(
        (&refused.body["code"], &refused.body["retryable"]),
        (&"model_unavailable".into(), &true.into())
    );
    let wait = refused.number("retry_after_ms");
    assert!((40e3..=72e3).contains(&wait), "60 s with at most 20 % of jitter: {wait}");
    assert!(world.ask(&steady("5")).await.body["position"].is_object());
    assert_eq!(world.health().await["models"][1]["state"], "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_that_cannot_be_published_count_as_lost() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["slow"]);
    let mut settings = settings(&server, &models, "slow");
    settings.nats.publish_timeout = Duration::from_millis(200);
    settings.limits.timeout = Duration::from_secs(60);
    settings.pool.acquire_timeout = Duration::from_secs(60);
    let app = App::start(&settings).await.unwrap();
    app.ready().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    for n in 0..4 {
        client.publish("iq.frames.l", pack(&steady(&n.to_string())).into()).await.unwrap();
    }
    client.flush().await.unwrap();
    let shared_state = std::sync::Arc::clone(app.shared_state());
    let received = async {
        while shared_state.ledger.counts().received < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, received).await.expect("the frames do not arrive");
    server.kill().await.unwrap();
    tokio::time::timeout(PATIENCE, shared_state.ledger.idle()).await.expect("frames stay in flight");
    let counts = shared_state.ledger.counts();
    assert!(counts.balance(), "{counts:?}");
    assert_eq!(counts.predictions + counts.failures + counts.lost, 4);
    assert!(counts.lost >= 2, "what was computed after the end of the connection is lost: {counts:?}");
    app.shut_down().await;
}

#[tokio::test]
async fn when_full_decides_which_frame_is_shed() {
    if !tools_are_there() {
        return;
    }
    let settings = [&TWO_AT_ONCE[..], &[("LIMITS__WHEN_FULL", "shed_oldest")]].concat();
    let world = World::start(&["slow"], &settings).await;
    let runs = steady("runs");
    let waits = with(&steady("waits"), &[("priority", "low".into())]);
    let urgent = with(&steady("urgent"), &[("priority", "critical".into())]);
    // One after the other, each when the one before is where it should be.
    let pool = async |key: &str, count: u64| while world.statistics().await["pool"][key] != count {};
    let (runs, waits, urgent) = tokio::join!(
        world.ask(&runs),
        async {
            pool("active", 1).await;
            world.ask(&waits).await
        },
        async {
            pool("depth", 1).await;
            world.ask(&urgent).await
        }
    );
    assert!(runs.body["position"].is_object() && urgent.body["position"].is_object(), "{runs:?} {urgent:?}");
    assert_eq!(waits.body["code"], "overloaded", "{waits:?}");
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (2, 1, 0));
}
