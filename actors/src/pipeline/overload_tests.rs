//! What becomes of frames for which there is no room or no time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::tests::{codes, config, finish, start, until};
use super::*;
use crate::frame::Priority;
use crate::outcome::FailureCode::*;
use crate::testing::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_without_a_permit_is_refused_at_once() {
    let (pipeline, mut fakes) = start(Config { in_flight_frames: 4, ..config() }).await;
    for n in 0..4 {
        fakes.send(SLOW, n);
    }
    for n in 4..100 {
        fakes.send(GOOD, n);
    }
    let refused = codes(fakes.outcomes(96).await);
    assert!(refused.values().all(|code| *code == Some(Overloaded)), "{refused:?}");
    fakes.gate.send_replace(true);
    assert!(fakes.outcomes(4).await.iter().all(|(_, code)| code.is_none()));
    assert_eq!(finish(pipeline, fakes).await.failures, 96);
}

/// The pipeline is full: one long frame, which `begun` counts, and three that wait behind it.
async fn shed_oldest_sheds_a_waiting_frame(
    long: Behaviour,
    begun: fn(&Fakes) -> &AtomicU64,
    depth: fn(&SharedState) -> usize,
) {
    let shedding = queue::Config { sessions: 1, max_batch: 1, shed_oldest: true, ..config().pool };
    let (pipeline, mut fakes) =
        start(Config { in_flight_frames: 4, workers: 1, pool: shedding, ..config() }).await;
    let shared_state = Arc::clone(pipeline.shared_state());
    let waiting = async |count| {
        while depth(&shared_state) < count {
            tokio::task::yield_now().await;
        }
    };
    fakes.send(long, "long");
    while begun(&fakes).load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    for (priority, id) in [(Priority::High, "a"), (Priority::Low, "b"), (Priority::Low, "c")] {
        fakes.send_from("", priority, GOOD, id);
    }
    waiting(3).await;
    fakes.send_from("", Priority::Normal, GOOD, "d");
    assert_eq!(fakes.outcomes(1).await, [("b".to_owned(), Some(Overloaded))]);
    waiting(3).await;
    fakes.send_from("", Priority::Critical, GOOD, "e");
    assert_eq!(fakes.outcomes(1).await, [("c".to_owned(), Some(Overloaded))]);
    waiting(3).await;
    fakes.send_from("", Priority::Low, GOOD, "f");
    assert_eq!(
        fakes.outcomes(1).await,
        [("f".to_owned(), Some(Overloaded))],
        "no waiting frame is of this priority or below"
    );
    fakes.gate.send_replace(true);
    let mut rest = fakes.outcomes(4).await;
    assert!(rest.iter().all(|(_, code)| code.is_none()), "{rest:?}");
    // Where frames waited for a worker, the long frame takes its turn at the session by its own priority.
    rest.retain(|(id, _)| id != "long");
    assert!(rest.iter().map(|(id, _)| id.as_str()).eq(["e", "a", "d"]), "{rest:?}");
    assert_eq!(shared_state.queue.stats().not_begun.shed + shared_state.frames.shed_count(), 2);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_oldest_sheds_a_frame_that_waits_for_a_session() {
    shed_oldest_sheds_a_waiting_frame(
        SLOW,
        |fakes| &fakes.frames_run,
        |shared_state| shared_state.queue.depth(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_oldest_sheds_a_frame_that_waits_for_a_worker() {
    shed_oldest_sheds_a_waiting_frame(
        SLOW_FEATURES,
        |fakes| &fakes.frames_extracted,
        |shared_state| shared_state.frames.depth(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn per_source_share_leaves_room_for_other_sources() {
    let (pipeline, mut fakes) =
        start(Config { in_flight_frames: 4, per_source_share: 0.5, ..config() }).await;
    for n in 0..10 {
        fakes.send_from("loud", Priority::Critical, SLOW, n);
    }
    let refused = codes(fakes.outcomes(8).await);
    assert!(refused.values().all(|code| *code == Some(Overloaded)), "{refused:?}");
    fakes.gate.send_replace(true);
    fakes.send_from("quiet", Priority::Low, GOOD, "quiet");
    let rest = codes(fakes.outcomes(3).await);
    assert!(rest.values().all(Option::is_none) && rest.contains_key("quiet"), "{rest:?}");
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_make_its_deadline_is_refused_at_once() {
    let one = Config { pool: queue::Config { sessions: 1, max_batch: 1, ..config().pool }, ..config() };
    let (pipeline, mut fakes) = start(one).await;
    fakes.send(SLOW, "runs");
    while fakes.frames_run.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    fakes.send(COSTLY, "hopeless");
    assert_eq!(fakes.outcomes(1).await, [("hopeless".to_owned(), Some(Overloaded))]);
    assert_eq!(pipeline.shared_state().queue.stats().not_begun.too_late, 1);
    fakes.gate.send_replace(true);
    fakes.outcomes(1).await;
    finish(pipeline, fakes).await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_fails_after_the_acquire_timeout() {
    let impatient = queue::Config {
        sessions: 1,
        max_batch: 1,
        acquire_timeout: Duration::from_millis(30),
        ..config().pool
    };
    let (pipeline, mut fakes) = start(Config { pool: impatient, ..config() }).await;
    fakes.send(SLOW, "runs");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    fakes.send(GOOD, "waits");
    until(|| pipeline.shared_state().queue.depth() == 1).await;
    assert_eq!(fakes.outcomes(1).await, [("waits".to_owned(), Some(ModelUnavailable))]);
    fakes.gate.send_replace(true);
    until(|| pipeline.shared_state().ledger.counts().in_flight == 0).await;
    fakes.outcomes(1).await;
    finish(pipeline, fakes).await;
}
