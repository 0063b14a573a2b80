//! The whole pipeline with fakes behind the ports: every kind of outcome and fault, and the outcome law after
//! each.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::account::ledger::LedgerCounts;
use crate::breaker;
use crate::outcome::FailureCode::{self, *};
use crate::testing::*;

pub(super) fn config() -> Config {
    Config {
        in_flight_frames: 64,
        in_flight_bytes: 1 << 20,
        per_source_share: 1.0,
        workers: 2,
        pool: queue::Config { sessions: 2, ..queue::Config::default() },
        cache: cache::Config::default(),
        gather: gather::Config::default(),
        supervision: supervision::Config {
            backoff_min: Duration::from_millis(10),
            ..supervision::Config::default()
        },
    }
}

/// A configuration with which circuits stay closed in these tests.
pub(super) fn lenient() -> breaker::Config {
    breaker::Config { failure_threshold: 100, ..breaker::Config::default() }
}

pub(super) async fn start(config: Config) -> (Pipeline, Fakes) {
    let (ports, fakes) = Fakes::new(Duration::from_secs(5), lenient());
    (Pipeline::start(config, ports).await.unwrap(), fakes)
}

/// Waits until the condition holds, for five seconds of real time at most. A paused clock stands still
/// meanwhile, however long the threads of the pipeline take; it goes on where a test waits for an outcome.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(5), "it does not happen");
        tokio::task::yield_now().await;
    }
}

/// Ends the pipeline and checks that every frame has a published outcome.
pub(super) async fn finish(pipeline: Pipeline, mut fakes: Fakes) -> LedgerCounts {
    fakes.stop();
    let shared_state = Arc::clone(pipeline.shared_state());
    pipeline.shut_down(Duration::from_secs(5)).await;
    let counts = shared_state.ledger.counts();
    assert!(counts.balance(), "{counts:?}");
    assert_eq!(counts.in_flight, 0, "{counts:?}");
    assert_eq!(shared_state.admission.in_use(), (0, 0), "all permits are released");
    counts
}

pub(super) fn codes(outcomes: Vec<(String, Option<FailureCode>)>) -> BTreeMap<String, Option<FailureCode>> {
    let count = outcomes.len();
    let codes: BTreeMap<_, _> = outcomes.into_iter().collect();
    assert_eq!(codes.len(), count, "no frame has two outcomes");
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_frame_has_its_own_outcome() {
    for workers in [2, 0] {
        each_has_its_own_outcome(Config { workers, ..config() }).await;
    }
}

async fn each_has_its_own_outcome(config: Config) {
    let (pipeline, mut fakes) = start(config).await;
    let cases = [
        (GOOD, None),
        (INVALID, Some(InvalidFrame)),
        (EXTRACTOR_PANICS, Some(Internal)),
        (POISON, Some(InferenceFailed)),
        (RUNNER_PANICS, Some(Internal)),
    ];
    for (behaviour, _) in cases {
        fakes.send(behaviour, behaviour);
        let (id, code) = fakes.outcomes(1).await.remove(0);
        assert_eq!(
            (id.as_str(), code),
            (behaviour, cases.iter().find(|case| case.0 == behaviour).unwrap().1)
        );
        fakes.send(GOOD, "neighbour");
        assert_eq!(fakes.outcomes(1).await[0].1, None, "after {behaviour}");
    }
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.predictions, counts.failures, counts.lost), (6, 4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_in_a_batch_fails_alone() {
    let one_session =
        Config { pool: queue::Config { sessions: 1, max_batch: 16, ..config().pool }, ..config() };
    let (pipeline, mut fakes) = start(one_session).await;
    fakes.send(SLOW, "first");
    while fakes.frames_run.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    for n in 0..10 {
        fakes.send(if n == 3 { POISON } else { GOOD }, n);
    }
    while pipeline.shared_state().queue.depth() < 10 {
        tokio::task::yield_now().await;
    }
    fakes.gate.send_replace(true);
    let codes = codes(fakes.outcomes(11).await);
    assert_eq!(
        codes.iter().filter(|(_, code)| code.is_some()).collect::<Vec<_>>(),
        [(&"3".to_owned(), &Some(InferenceFailed))]
    );
    assert_eq!(fakes.runs.lock().unwrap()[..2], [1, 10], "the ten shared a run first");
    finish(pipeline, fakes).await;
}

/// A pipeline of one session that also computes the features, and is kept busy by a frame until the gate is
/// opened.
async fn busy_without_workers(budget: Duration) -> (Pipeline, Fakes) {
    let (ports, fakes) = Fakes::new(budget, lenient());
    let pool = queue::Config { sessions: 1, max_batch: 16, ..config().pool };
    let pipeline = Pipeline::start(Config { workers: 0, pool, ..config() }, ports).await.unwrap();
    fakes.send(STUCK, "first");
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    (pipeline, fakes)
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_panic_in_a_session_fail_their_frame_alone() {
    let (pipeline, mut fakes) = busy_without_workers(Duration::from_secs(5)).await;
    for n in 0..10 {
        fakes.send(if n == 3 { EXTRACTOR_PANICS } else { GOOD }, n);
    }
    until(|| pipeline.shared_state().queue.depth() == 10).await;
    assert_eq!(fakes.frames_extracted.load(Relaxed), 1, "features are computed when their run is due");
    fakes.gate.send_replace(true);
    let codes = codes(fakes.outcomes(11).await);
    assert_eq!(
        codes.iter().filter(|(_, code)| code.is_some()).collect::<Vec<_>>(),
        [(&"3".to_owned(), &Some(Internal))]
    );
    assert_eq!(*fakes.runs.lock().unwrap(), [1, 9], "the others shared a run");
    finish(pipeline, fakes).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_computes_no_features_of_a_frame_that_has_expired() {
    let (pipeline, mut fakes) = busy_without_workers(Duration::from_millis(50)).await;
    (0..3).for_each(|n| fakes.send(GOOD, n));
    until(|| pipeline.shared_state().queue.depth() == 3).await;
    let answered = fakes.outcomes(4).await;
    assert!(answered.iter().all(|(_, code)| *code == Some(DeadlineExceeded)), "{answered:?}");
    fakes.gate.send_replace(true);
    all_permits_are_back(&pipeline).await;
    assert_eq!((fakes.frames_extracted.load(Relaxed), fakes.frames_run.load(Relaxed)), (1, 1));
    finish(pipeline, fakes).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_answers_while_a_session_holds_the_samples() {
    let (ports, mut fakes) = Fakes::new(Duration::from_millis(50), lenient());
    let one = Config { pool: queue::Config { sessions: 1, max_batch: 1, ..config().pool }, ..config() };
    let pipeline = Pipeline::start(one, ports).await.unwrap();
    for n in 0..3 {
        fakes.send(STUCK, n);
    }
    until(|| fakes.frames_run.load(Relaxed) == 1).await;
    let answered = fakes.outcomes(3).await;
    assert!(answered.iter().all(|(_, code)| *code == Some(DeadlineExceeded)), "{answered:?}");
    let (frames, bytes) = pipeline.shared_state().admission.in_use();
    assert!(frames >= 1 && bytes > 0, "the session still holds samples, so their permits are held");
    fakes.gate.send_replace(true);
    all_permits_are_back(&pipeline).await;
    let frames_run = Arc::clone(&fakes.frames_run);
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.predictions, counts.failures), (0, 3));
    assert_eq!(frames_run.load(Relaxed), 1, "expired work is never begun");
}

/// Waits until all permits are released.
pub(super) async fn all_permits_are_back(pipeline: &Pipeline) {
    until(|| pipeline.shared_state().admission.in_use() == (0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_cancelled_when_all_its_frames_expired_and_does_not_open_the_circuit() {
    let strict = breaker::Config { failure_threshold: 1, ..breaker::Config::default() };
    let (ports, mut fakes) = Fakes::new(Duration::from_millis(50), strict);
    let one = Config { pool: queue::Config { sessions: 1, max_batch: 8, ..config().pool }, ..config() };
    let pipeline = Pipeline::start(one, ports).await.unwrap();
    for n in 0..3 {
        fakes.send(SLOW, n);
        until(|| fakes.frames_run.load(Relaxed) == n + 1).await;
        assert_eq!(fakes.outcomes(1).await, [(n.to_string(), Some(DeadlineExceeded))]);
        all_permits_are_back(&pipeline).await;
    }
    let stats = pipeline.shared_state().queue.stats();
    assert_eq!((stats.cancelled, stats.frames_run), (3, 3), "{stats:?}");
    fakes.send(GOOD, "next");
    until(|| pipeline.shared_state().ledger.counts().predictions == 1).await;
    assert_eq!(
        fakes.outcomes(1).await,
        [("next".to_owned(), None)],
        "the canceller is reset and the circuit closed"
    );
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_frame_is_answered_from_the_cache() {
    let (pipeline, mut fakes) = start(config()).await;
    fakes.send(CACHED, "same");
    fakes.outcomes(1).await;
    fakes.send(CACHED, "same");
    assert_eq!(fakes.outcomes(1).await[0].1, None);
    assert_eq!(fakes.frames_run.load(Relaxed), 1);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_circuit_of_a_failing_model_opens() {
    let (ports, mut fakes) = Fakes::new(Duration::from_secs(5), breaker::Config::default());
    let pipeline = Pipeline::start(config(), ports).await.unwrap();
    for n in 0..3 {
        fakes.send(POISON, n);
        assert_eq!(fakes.outcomes(1).await[0].1, Some(InferenceFailed));
    }
    fakes.send(GOOD, "refused");
    assert_eq!(fakes.outcomes(1).await[0].1, Some(ModelUnavailable));
    finish(pipeline, fakes).await;
}

/// Waits until every actor runs and `role` is another actor than `ended`.
pub(super) async fn recovered(
    pipeline: &Pipeline,
    role: ActorRole,
    ended: Option<ractor::ActorId>,
) -> ActorCell {
    let waiting = async {
        loop {
            // The last actor is up only when all are.
            if let (Some(actor), Some(_)) =
                (pipeline.find(role).await, pipeline.find(ActorRole::Ingest).await)
                && Some(actor.get_id()) != ended
            {
                return actor;
            }
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(2), waiting).await;
    in_time.unwrap_or_else(|_| panic!("{role:?} did not recover within two seconds"))
}

/// N frames, every actor ended in turn under load, N outcomes.
async fn survives(end: impl Fn(&ActorCell)) {
    for role in ActorRole::ALL {
        let (pipeline, mut fakes) = start(config()).await;
        let mut ended = None;
        for round in 0..6 {
            let actor = recovered(&pipeline, role, ended).await;
            for n in 0..40 {
                // Every second frame is equal to others of its round.
                if n % 2 == 0 {
                    fakes.send(GOOD, format!("{round}-{n}"));
                } else {
                    fakes.send(CACHED, format!("{round}-{}#{n}", n % 3));
                }
                if n == 20 && round % 2 == 1 {
                    end(&actor);
                    ended = Some(actor.get_id());
                }
            }
            let codes = codes(fakes.outcomes(40).await);
            let of_this_round = |id: &String| id.starts_with(&format!("{round}-"));
            assert!(codes.keys().all(of_this_round), "{role:?}, round {round}: {codes:?}");
        }
        recovered(&pipeline, role, ended).await;
        fakes.send(GOOD, "after");
        assert_eq!(fakes.outcomes(1).await, [("after".to_owned(), None)], "{role:?}");
        let shared_state = Arc::clone(pipeline.shared_state());
        let counts = finish(pipeline, fakes).await;
        assert_eq!((counts.received, counts.lost), (241, 0), "{role:?}: {counts:?}");
        assert_eq!(
            ActorRole::ALL.map(|each| shared_state.restarts.of(each)),
            ActorRole::ALL.map(|each| if each == role { 3 } else { 0 })
        );
        assert!(
            counts.predictions > 120,
            "{role:?}: frames of undisturbed rounds get predictions: {counts:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_actor_can_be_killed_under_load() {
    survives(ActorCell::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_actor_can_be_stopped_under_load() {
    survives(|actor| actor.stop(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_decoder_costs_only_its_frame() {
    let (pipeline, mut fakes) = start(config()).await;
    fakes.send(DECODER_PANICS, "bad");
    fakes.send(GOOD, "good");
    let codes = codes(fakes.outcomes(2).await);
    assert_eq!(codes.values().flatten().collect::<Vec<_>>(), [&Internal]);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_crashes_the_publisher_is_abandoned_after_three_attempts() {
    let (pipeline, mut fakes) = start(config()).await;
    fakes.send(SINK_PANICS, "bad");
    fakes.send(GOOD, "neighbour");
    assert_eq!(
        fakes.outcomes(1).await[0].0,
        "neighbour",
        "published, though a restart may have cost it its prediction"
    );
    while pipeline.shared_state().ledger.counts().lost == 0 {
        tokio::task::yield_now().await;
    }
    // The publisher continues after abandoning an outcome.
    fakes.send(GOOD, "after");
    assert_eq!(fakes.outcomes(1).await, [("after".to_owned(), None)]);
    assert_eq!(*fakes.abandoned.lock().unwrap(), ["publisher_died"], "reported once");
    assert_eq!(pipeline.shared_state().restarts.of(ActorRole::Publish), 3);
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.received, counts.lost), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_restarts_end_the_pipeline() {
    let frail = supervision::Config {
        max_restarts: 2,
        backoff_min: Duration::from_millis(1),
        ..supervision::Config::default()
    };
    let (mut pipeline, _fakes) = start(Config { supervision: frail, ..config() }).await;
    let killing = async {
        loop {
            if let Some(actor) = pipeline.find(ActorRole::Cache).await {
                actor.kill();
            } else if pipeline.supervisor.get_status() == ractor::ActorStatus::Stopped {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), killing).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), pipeline.failed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_unfinished_at_the_bound_are_failed_and_published_before_the_end() {
    let singles = queue::Config { max_batch: 1, ..config().pool };
    let (pipeline, mut fakes) = start(Config { pool: singles, ..config() }).await;
    for n in 0..8 {
        fakes.send(SLOW, n);
    }
    until(|| fakes.frames_run.load(Relaxed) == 2).await;
    until(|| pipeline.shared_state().ledger.counts().received == 8).await;
    fakes.stop();
    let shared_state = Arc::clone(pipeline.shared_state());
    pipeline.shut_down(Duration::from_millis(100)).await;
    let published = fakes.outcomes(8).await;
    assert!(
        published.iter().all(|(_, code)| *code == Some(Internal)),
        "waiting and running frames are dropped, and published as failures: {published:?}"
    );
    assert_eq!(
        (shared_state.ledger.counts().in_flight, shared_state.queue.stats().cancelled),
        (0, 2),
        "the current runs were cancelled"
    );
    assert!(shared_state.ledger.counts().balance());
}
