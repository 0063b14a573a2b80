//! Equal frames that arrive while one is computed, with fakes behind the ports; the outcome law and the
//! permits after each.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::tests::{all_permits_are_back, codes, config, finish, lenient, recovered, start, until};
use super::*;
use crate::breaker;
use crate::cache::{CacheKey, CacheStats};
use crate::frame::Priority;
use crate::outcome::Answer;
use crate::outcome::FailureCode::{self, *};
use crate::ports::{Remembered, SharedCacheError};
use crate::testing::*;

/// One session with batches of one.
fn one_by_one() -> Config {
    Config { pool: queue::Config { sessions: 1, max_batch: 1, ..config().pool }, ..config() }
}

fn stats(pipeline: &Pipeline) -> CacheStats {
    pipeline.shared_state().cache.stats()
}

/// 64 equal frames, of which one is computed and the others wait for it.
async fn sixty_four(behaviour: Behaviour) -> (Pipeline, Fakes) {
    let (pipeline, fakes) = start(config()).await;
    (0..64).for_each(|n| fakes.send(behaviour, format!("same#{n}")));
    until(|| stats(&pipeline).coalesced == 63).await;
    (pipeline, fakes)
}

/// Each of the 64 frames has its own outcome, this one, and nothing is left behind.
async fn all_end(pipeline: Pipeline, mut fakes: Fakes, expected: Option<FailureCode>, runs: u64) {
    let codes = codes(fakes.outcomes(64).await);
    assert!(codes.values().all(|code| *code == expected), "{codes:?}");
    assert_eq!(fakes.frames_run.load(Relaxed), runs);
    all_permits_are_back(&pipeline).await;
    // Nothing of it affects the next frame.
    fakes.gate.send_replace(true);
    fakes.send(CACHED, "same#next");
    assert_eq!(fakes.outcomes(1).await, [("same#next".to_owned(), None)]);
    let is_cached = expected.is_none();
    assert_eq!(
        fakes.frames_run.load(Relaxed),
        runs + u64::from(!is_cached),
        "answers are cached, failures are not"
    );
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.received, counts.lost), (65, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_frames_at_once_cost_one_run_and_one_frames_bytes() {
    let (pipeline, fakes) = sixty_four(CACHED_SLOW).await;
    let (frames, bytes) = pipeline.shared_state().admission.in_use();
    assert_eq!(
        (frames, bytes),
        (64, "cached-slow!2:same#0".len()),
        "waiting frames keep their frame permit and release their bytes"
    );
    fakes.gate.send_replace(true);
    let hits = Arc::clone(&fakes.hits);
    all_end(pipeline, fakes, None, 1).await;
    assert_eq!(hits.load(Relaxed), 64, "63, and the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_panic_fails_all_waiting_frames() {
    let (pipeline, fakes) = sixty_four(CACHED_HELD_PANICS).await;
    fakes.gate.send_replace(true);
    all_end(pipeline, fakes, Some(Internal), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_no_frame_without_an_outcome() {
    let (pipeline, fakes) = sixty_four(CACHED_HELD).await;
    let worker = pipeline.find(ActorRole::Preprocess).await.unwrap();
    worker.kill();
    // The thread finishes its current frame.
    fakes.gate.send_replace(true);
    recovered(&pipeline, ActorRole::Preprocess, Some(worker.get_id())).await;
    all_end(pipeline, fakes, None, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_fails_all_waiting_frames() {
    let (pipeline, fakes) = sixty_four(CACHED_HELD_POISON).await;
    fakes.gate.send_replace(true);
    all_end(pipeline, fakes, Some(InferenceFailed), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_run_of_many_frames_counts_once_against_the_model() {
    let strict = breaker::Config { failure_threshold: 2, ..breaker::Config::default() };
    let (ports, mut fakes) = Fakes::new(Duration::from_secs(5), strict);
    let pipeline = Pipeline::start(config(), ports).await.unwrap();
    (0..8).for_each(|n| fakes.send(CACHED_HELD_POISON, format!("same#{n}")));
    until(|| stats(&pipeline).coalesced == 7).await;
    fakes.gate.send_replace(true);
    fakes.outcomes(8).await;
    fakes.send(GOOD, "next");
    assert_eq!(
        fakes.outcomes(1).await,
        [("next".to_owned(), None)],
        "the circuit is closed after one failure of two"
    );
    finish(pipeline, fakes).await;
}

#[tokio::test(start_paused = true)]
async fn each_frame_expires_alone_and_the_run_continues_for_the_others() {
    let (pipeline, mut fakes) = start(one_by_one()).await;
    fakes.send_with_budget(Priority::Normal, 100, CACHED_SLOW, "same#first");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    fakes.send_with_budget(Priority::Normal, 5000, CACHED_SLOW, "same#patient");
    until(|| stats(&pipeline).coalesced == 1).await;
    fakes.send_with_budget(Priority::Normal, 50, CACHED_SLOW, "same#hasty");
    until(|| stats(&pipeline).coalesced == 2).await;
    let late = codes(fakes.outcomes(2).await);
    assert!(
        late.values().all(|code| *code == Some(DeadlineExceeded)) && !late.contains_key("same#patient"),
        "{late:?}"
    );
    fakes.gate.send_replace(true);
    all_permits_are_back(&pipeline).await;
    assert_eq!(fakes.outcomes(1).await, [("same#patient".to_owned(), None)]);
    let queue = pipeline.shared_state().queue.stats();
    assert_eq!((queue.cancelled, queue.frames_run), (0, 1));
    assert_eq!(fakes.hits.load(Relaxed), 0, "the last frame is not a cache hit");
    finish(pipeline, fakes).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_when_its_last_frame_expires_and_is_not_joined_after_that() {
    let (pipeline, mut fakes) = start(one_by_one()).await;
    fakes.send_with_budget(Priority::Normal, 50, CACHED_SLOW, "same#first");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    fakes.send_with_budget(Priority::Normal, 150, CACHED_SLOW, "same#second");
    until(|| stats(&pipeline).coalesced == 1).await;
    let late = codes(fakes.outcomes(2).await);
    assert!(late.values().all(|code| *code == Some(DeadlineExceeded)), "{late:?}");
    until(|| pipeline.shared_state().queue.stats().cancelled == 1).await;
    fakes.gate.send_replace(true);
    fakes.send(CACHED, "same#third");
    until(|| fakes.frames_run.load(Relaxed) == 2).await;
    all_permits_are_back(&pipeline).await;
    assert_eq!(fakes.outcomes(1).await, [("same#third".to_owned(), None)]);
    assert_eq!(fakes.frames_run.load(Relaxed), 2);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_first_frame_is_shed_the_next_takes_its_place() {
    let shedding = queue::Config { shed_oldest: true, ..one_by_one().pool };
    let (pipeline, mut fakes) = start(Config { in_flight_frames: 4, pool: shedding, ..one_by_one() }).await;
    fakes.send(SLOW, "runs");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    fakes.send_from("", Priority::Low, CACHED, "same#first");
    until(|| pipeline.shared_state().queue.depth() == 1).await;
    fakes.send_from("", Priority::Low, CACHED, "same#second");
    until(|| stats(&pipeline).coalesced == 1).await;
    fakes.send(GOOD, "other");
    until(|| pipeline.shared_state().queue.depth() == 2).await;
    fakes.send(GOOD, "arriving");
    assert_eq!(fakes.outcomes(1).await, [("same#first".to_owned(), Some(Overloaded))]);
    until(|| pipeline.shared_state().queue.depth() == 3).await;
    fakes.send(GOOD, "next");
    assert_eq!(
        fakes.outcomes(1).await,
        [("same#second".to_owned(), Some(Overloaded))],
        "after that the second is the first"
    );
    fakes.gate.send_replace(true);
    let rest = codes(fakes.outcomes(4).await);
    assert!(rest.values().all(Option::is_none), "{rest:?}");
    assert_eq!(pipeline.shared_state().queue.stats().not_begun.shed, 2);
    all_permits_are_back(&pipeline).await;
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_more_urgent_frame_raises_the_priority_of_the_flight_it_joins() {
    let (pipeline, mut fakes) = start(one_by_one()).await;
    fakes.send(SLOW, "runs");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    fakes.send(GOOD, "before");
    until(|| pipeline.shared_state().queue.depth() == 1).await;
    fakes.send_from("", Priority::Low, CACHED, "same#low");
    until(|| pipeline.shared_state().queue.depth() == 2).await;
    fakes.send_from("", Priority::Critical, CACHED, "same#critical");
    until(|| stats(&pipeline).coalesced == 1).await;
    fakes.gate.send_replace(true);
    let order: Vec<_> = fakes.outcomes(4).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, ["runs", "same#low", "same#critical", "before"]);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_while_frames_wait_for_a_worker() {
    let shedding = queue::Config { shed_oldest: true, ..one_by_one().pool };
    let (pipeline, mut fakes) =
        start(Config { in_flight_frames: 4, workers: 1, pool: shedding, ..one_by_one() }).await;
    fakes.send(CACHED_HELD, "held");
    until(|| fakes.frames_extracted.load(Relaxed) == 1).await;
    for (n, id) in ["same#first", "same#second", "same#third"].into_iter().enumerate() {
        fakes.send_from("", Priority::Low, CACHED, id);
        until(|| stats(&pipeline).coalesced == n as u64).await;
    }
    until(|| pipeline.shared_state().frames.depth() == 1).await;
    fakes.send(GOOD, "arriving");
    assert_eq!(fakes.outcomes(1).await, [("same#first".to_owned(), Some(Overloaded))]);
    until(|| pipeline.shared_state().frames.depth() == 2).await;
    fakes.send_from("", Priority::Critical, CACHED, "same#critical");
    assert_eq!(fakes.outcomes(1).await, [("same#second".to_owned(), Some(Overloaded))]);
    until(|| stats(&pipeline).coalesced == 3).await;
    fakes.gate.send_replace(true);
    let order = fakes.outcomes(4).await;
    assert!(order.iter().all(|(_, code)| code.is_none()), "{order:?}");
    // The held frame may be overtaken on its way to the session.
    let order: Vec<_> = order.iter().map(|(id, _)| &**id).filter(|id| *id != "held").collect();
    assert_eq!(order, ["same#third", "same#critical", "arriving"]);
    all_permits_are_back(&pipeline).await;
    finish(pipeline, fakes).await;
}

/// A second level that behaves as its mode says.
#[derive(Default)]
struct FakeShared {
    kept: Mutex<HashMap<CacheKey, Answer>>,
    asked: AtomicU64,
    mode: Mutex<Mode>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mode {
    #[default]
    Well,
    Silent,
    Broken,
}

impl SharedCache for FakeShared {
    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<Remembered>, SharedCacheError>> {
        self.asked.fetch_add(1, Relaxed);
        let mode = *self.mode.lock().unwrap();
        async move {
            match mode {
                Mode::Well => {
                    let answer = self.kept.lock().unwrap().get(&key).cloned();
                    Ok(answer.map(|answer| Remembered { answer, age: Duration::from_secs(1) }))
                }
                Mode::Silent => std::future::pending().await,
                Mode::Broken => Err(SharedCacheError("as asked".into())),
            }
        }
        .boxed()
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) -> BoxFuture<'_, Result<(), SharedCacheError>> {
        let mode = *self.mode.lock().unwrap();
        async move {
            match mode {
                Mode::Well => drop(self.kept.lock().unwrap().insert(key, Answer::clone(&answer))),
                Mode::Silent => std::future::pending().await,
                Mode::Broken => return Err(SharedCacheError("as asked".into())),
            }
            Ok(())
        }
        .boxed()
    }
}

async fn start_shared(shared: &Arc<FakeShared>) -> (Pipeline, Fakes) {
    let (ports, fakes) = Fakes::new(Duration::from_secs(5), lenient());
    let ports = Ports { shared_cache: Some(Arc::<FakeShared>::clone(shared)), ..ports };
    (Pipeline::start(config(), ports).await.unwrap(), fakes)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_computed_by_one_daemon_is_a_hit_in_another() {
    let shared = Arc::<FakeShared>::default();
    let (first, mut fakes) = start_shared(&shared).await;
    fakes.send(CACHED, "same#1");
    fakes.outcomes(1).await;
    until(|| shared.kept.lock().unwrap().len() == 1).await;
    finish(first, fakes).await;

    let (second, mut fakes) = start_shared(&shared).await;
    (0..8).for_each(|n| fakes.send(CACHED, format!("same#{n}")));
    assert!(codes(fakes.outcomes(8).await).values().all(Option::is_none));
    assert_eq!((fakes.frames_run.load(Relaxed), fakes.hits.load(Relaxed)), (0, 8));
    let stats = stats(&second);
    assert_eq!((stats.hits + stats.coalesced, stats.misses, stats.hit_rate), (8, 0, 1.0), "{stats:?}");
    assert_eq!(
        shared.asked.load(Relaxed),
        2,
        "one lookup by each daemon: equal frames wait for it, and then the answer is cached here"
    );
    finish(second, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_second_level_is_a_miss_within_the_timeout() {
    for mode in [Mode::Silent, Mode::Broken] {
        let shared = Arc::<FakeShared>::default();
        *shared.mode.lock().unwrap() = mode;
        let (pipeline, mut fakes) = start_shared(&shared).await;
        let began = Instant::now();
        for n in 0..200 {
            fakes.send(CACHED, n);
            assert_eq!(fakes.outcomes(1).await, [(n.to_string(), None)]);
        }
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "lookups pause after some failures: {:?}",
            began.elapsed()
        );
        let stats = stats(&pipeline).shared.unwrap();
        let failed = if mode == Mode::Silent { stats.timeouts } else { stats.errors };
        assert!(failed >= 5 && stats.not_asked > 0 && stats.hits + stats.misses == 0, "{stats:?}");
        assert_eq!(fakes.frames_run.load(Relaxed), 200);
        finish(pipeline, fakes).await;
    }
}
