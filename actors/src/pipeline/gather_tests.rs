//! Sessions through the whole pipeline: every member ends in exactly one outcome, whatever happens.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::tests::{codes, config, finish, lenient, start, until};
use super::*;
use crate::outcome::FailureCode::{self, *};
use crate::testing::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_session_is_answered_by_one_run() {
    for workers in [2, 0] {
        let (pipeline, mut fakes) = start(Config { workers, ..config() }).await;
        for source in ["a", "b", "c"] {
            fakes.send_in_session("s", source, GATHERED, source);
        }
        let codes = codes(fakes.outcomes(3).await);
        assert!(codes.values().all(Option::is_none), "{codes:?}");
        assert_eq!((fakes.frames_run.load(Relaxed), fakes.hits.load(Relaxed)), (1, 0));
        let stats = pipeline.shared_state().gathering.stats();
        assert_eq!((stats.sessions, stats.complete, stats.ended), (0, 1, 0));
        let counts = finish(pipeline, fakes).await;
        assert_eq!((counts.predictions, counts.failures), (3, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_over_with_its_window_and_what_comes_then_is_late() {
    let (pipeline, mut fakes) = start(config()).await;
    fakes.send_in_session("s", "a", GATHERED, "1");
    fakes.send_in_session("s", "a", GATHERED, "again");
    assert_eq!(fakes.outcomes(1).await, [("again".to_owned(), Some(Late))]);
    fakes.send_in_session("s", "b", GATHERED, "2");
    tokio::time::sleep(Duration::from_millis(199)).await;
    assert_eq!((fakes.published.len(), pipeline.shared_state().gathering.stats().waiting), (0, 2));
    // The clock stands still while the threads work.
    tokio::time::sleep(Duration::from_millis(2)).await;
    until(|| fakes.published.len() == 2).await;
    let first = codes(fakes.outcomes(2).await);
    assert!(first.values().all(Option::is_none), "{first:?}");
    fakes.send_in_session("s", "c", GATHERED, "3");
    assert_eq!(fakes.outcomes(1).await, [("3".to_owned(), Some(Late))]);
    fakes.send_in_session("t", "a", GATHERED, "4");
    assert_eq!(fakes.outcomes(1).await, [("4".to_owned(), Some(TooFewReceivers))]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    fakes.send_in_session("s", "a", GATHERED, "5");
    fakes.send_in_session("s", "c", GATHERED, "6");
    tokio::time::sleep(Duration::from_millis(201)).await;
    until(|| fakes.published.len() == 2).await;
    assert!(codes(fakes.outcomes(2).await).values().all(Option::is_none), "it is forgotten, and opens anew");
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.predictions, counts.failures), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn the_budgets_of_its_frames_begin_when_it_closes() {
    let (ports, mut fakes) = Fakes::new(Duration::from_millis(50), lenient());
    let pipeline = Pipeline::start(config(), ports).await.unwrap();
    fakes.send_in_session("s", "a", GATHERED_SLOW, "1");
    tokio::time::sleep(Duration::from_millis(100)).await;
    fakes.send_in_session("s", "b", GATHERED_SLOW, "2");
    let begun = Instant::now();
    let codes = codes(fakes.outcomes(2).await);
    assert!(codes.values().all(|code| *code == Some(DeadlineExceeded)), "{codes:?}");
    assert!(begun.elapsed() >= Duration::from_millis(145), "{:?}", begun.elapsed());
    fakes.gate.send_replace(true);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_wait_beside_the_limits_of_other_frames() {
    let narrow = Config { in_flight_frames: 1, ..config() };
    let (pipeline, mut fakes) = start(narrow).await;
    fakes.send(STUCK, "busy");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    for source in ["a", "b", "c"] {
        fakes.send_in_session("s", source, GATHERED, source);
    }
    let sessions = codes(fakes.outcomes(3).await);
    assert!(sessions.values().all(Option::is_none), "{sessions:?}");
    // By the session's subject, but for a model that gathers nothing: there is no room.
    fakes.send_in_session("s", "a", GOOD, "alone");
    assert_eq!(fakes.outcomes(1).await, [("alone".to_owned(), Some(Overloaded))]);
    fakes.gate.send_replace(true);
    assert_eq!(fakes.outcomes(1).await[0].1, None);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_their_bytes_are_bounded() {
    let gather = gather::Config { max_sessions: 1, max_bytes: 24, ..gather::Config::default() };
    let (pipeline, mut fakes) = start(Config { gather, ..config() }).await;
    // "gathered:1" has ten bytes.
    fakes.send_in_session("s", "a", GATHERED, "1");
    fakes.send_in_session("t", "a", GATHERED, "2");
    assert_eq!(fakes.outcomes(1).await, [("2".to_owned(), Some(Overloaded))]);
    fakes.send_in_session("s", "b", GATHERED, "3");
    fakes.send_in_session("s", "c", GATHERED, "4");
    assert_eq!(fakes.outcomes(1).await, [("4".to_owned(), Some(Overloaded))]);
    fakes.send_in_session("s", "c", GATHERED, "no payload may be so long");
    assert_eq!(fakes.outcomes(1).await[0].1, Some(FrameTooLarge));
    assert!(codes(fakes.outcomes(2).await).values().all(Option::is_none));
    until(|| pipeline.shared_state().gathering.stats().bytes == 0).await;
    finish(pipeline, fakes).await;
}

/// The actors end one after the other while sessions wait.
#[tokio::test(flavor = "multi_thread")]
async fn no_member_is_lost_or_answered_twice_whichever_actor_ends() {
    for role in ActorRole::ALL {
        let (pipeline, mut fakes) = start(config()).await;
        for session in 0..20 {
            for source in ["a", "b"] {
                let id = format!("{session}{source}");
                fakes.send_in_session(&session.to_string(), source, GATHERED, id);
            }
        }
        until(|| pipeline.shared_state().gathering.stats().waiting > 0).await;
        pipeline.find(role).await.unwrap().kill();
        for session in 0..20 {
            fakes.send_in_session(&session.to_string(), "c", GATHERED, format!("{session}c"));
        }
        let codes: Vec<Option<FailureCode>> = codes(fakes.outcomes(60).await).into_values().collect();
        let allowed = |code: &Option<FailureCode>| matches!(code, None | Some(Internal | Late));
        assert!(codes.iter().all(allowed), "{role:?}: {codes:?}");
        if role == ActorRole::Gather {
            assert!(!codes.contains(&Some(Internal)), "what waits outlives the gatherer");
        }
        let counts = finish(pipeline, fakes).await;
        assert_eq!(counts.received, 60, "{role:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_waits_when_the_daemon_stops_is_answered() {
    let mut rules = config();
    rules.gather.max_sessions = 64;
    let (pipeline, mut fakes) = start(rules).await;
    fakes.send_in_session("s", "a", GATHERED, "1");
    until(|| pipeline.shared_state().gathering.stats().waiting == 1).await;
    fakes.stop();
    pipeline.shut_down(Duration::from_millis(20)).await;
    assert_eq!(fakes.outcomes(1).await, [("1".to_owned(), Some(Internal))]);
}
