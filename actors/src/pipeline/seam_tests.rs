//! Origins, and models that are replaced in service.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::tests::{config, finish, lenient, start};
use super::*;
use crate::account::ledger::End;
use crate::frame::Envelope;
use crate::outcome::{Failure, FailureCode, Origin, Prediction, PublishError};
use crate::ports::{Arrival, LoadedModel};
use crate::routing::Generation;
use crate::testing::*;

/// Notes how its frame ended.
#[derive(Debug, Default)]
struct Noted(Mutex<Vec<Result<End, &'static str>>>);

impl Origin for Noted {
    fn ended(&self, end: Result<End, &PublishError>, _: &Result<Prediction, Failure>) {
        self.0.lock().unwrap().push(end.map_err(|error| error.reason));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_is_notified_once_of_how_its_frame_ended() {
    let (pipeline, mut fakes) = start(config()).await;
    let cases = [
        (GOOD, Ok(End::Prediction)),
        (INVALID, Ok(End::Failure)),
        (EXTRACTOR_PANICS, Ok(End::Failure)),
        (SINK_PANICS, Err("publisher_died")),
    ];
    let origins = cases.map(|(behaviour, _)| {
        let origin = Arc::<Noted>::default();
        fakes.arrive(Arrival {
            payload: Bytes::from(format!("{behaviour}:{behaviour}")),
            envelope: Envelope::default(),
            origin: Some(Arc::<Noted>::clone(&origin)),
            received_at: Instant::now(),
            refused: None,
        });
        origin
    });
    fakes.outcomes(3).await;
    pipeline.shared_state().ledger.idle().await;
    let counts = finish(pipeline, fakes).await;
    assert_eq!((counts.received, counts.lost), (4, 1));
    for ((behaviour, end), origin) in cases.iter().zip(origins) {
        assert_eq!(*origin.0.lock().unwrap(), [*end], "{behaviour}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_model_serves_the_frames_it_has_and_is_then_freed() {
    let (ports, mut fakes) = Fakes::new(Duration::from_secs(5), lenient());
    let models = Arc::clone(&ports.models);
    let pipeline = Pipeline::start(config(), ports).await.unwrap();
    let generation = |version: &str| {
        let model = fake_model("fake", version);
        let freed: Weak<dyn LoadedModel> = Arc::downgrade(&model);
        (Generation::new("fake", vec![model], &[], Vec::new(), &pipeline.shared_state().circuits), freed)
    };
    let (first, old) = generation("1");
    models.replace(first);
    fakes.send(SLOW, "old");
    while fakes.frames_run.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let (second, new) = generation("2");
    models.replace(second);
    assert!(old.upgrade().is_some(), "a frame is being served by it");
    fakes.gate.send_replace(true);
    assert_eq!(fakes.outcomes(1).await, [("old".to_owned(), None)]);
    fakes.send(GOOD, "new");
    assert_eq!(fakes.outcomes(1).await, [("new".to_owned(), None)]);
    assert_eq!(*fakes.versions.lock().unwrap(), ["1", "2"]);
    while old.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(new.upgrade().is_some(), "it is in service");
    fakes.send(COSTLY, "gone");
    assert_eq!(fakes.outcomes(1).await, [("gone".to_owned(), Some(FailureCode::ModelNotFound))]);
    finish(pipeline, fakes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_wants_raw_outputs_shares_neither_answer_nor_run_with_others() {
    let one_session = Config { pool: queue::Config { sessions: 1, ..config().pool }, ..config() };
    let (pipeline, mut fakes) = start(one_session).await;
    let send = |id: &str, is_raw: bool| {
        fakes.arrive(Arrival {
            payload: Bytes::from(format!("{CACHED}:{id}")),
            envelope: Envelope { is_raw, ..Envelope::default() },
            origin: None,
            received_at: Instant::now(),
            refused: None,
        });
    };
    // While the one session is held, four frames wait, two of each kind.
    fakes.send(SLOW, "first");
    while fakes.frames_run.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    for (id, is_raw) in [("a", false), ("a", true), ("b", false), ("b", true)] {
        send(id, is_raw);
    }
    while pipeline.shared_state().queue.depth() < 4 {
        tokio::task::yield_now().await;
    }
    fakes.gate.send_replace(true);
    fakes.outcomes(5).await;
    assert_eq!(*fakes.runs.lock().unwrap(), [1, 2, 2], "equal samples, two answers each, in two runs");
    assert_eq!(fakes.hits.load(Relaxed), 0);
    for (id, is_raw) in [("a", false), ("a", true)] {
        fakes.arrive(Arrival {
            payload: Bytes::from(format!("{CACHED}:{id}")),
            envelope: Envelope { is_raw, ..Envelope::default() },
            origin: None,
            received_at: Instant::now(),
            refused: None,
        });
    }
    fakes.outcomes(2).await;
    assert_eq!((fakes.hits.load(Relaxed), fakes.frames_run.load(Relaxed)), (2, 5));
    assert_eq!(finish(pipeline, fakes).await.predictions, 7);
}
