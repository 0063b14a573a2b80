//! Outcomes as they are published, in both encodings, beside what was published before: `snapshots/`.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sferic_actors::frame::{Encoding, FrameInfo};
use sferic_actors::outcome::{
    Answer, Ellipse, Failure, FailureCode, Localization, NamedTensor, Outcome, Position, Uncertainty,
};
use sferic_actors::testing::{OutcomeBuilder, assert_snapshot};
use sferic_wire::{encode, within};

/// A MessagePack value as JSON holds it: binary in base64.
fn json(value: rmpv::Value) -> Value {
    match value {
        rmpv::Value::Binary(bytes) => STANDARD.encode(bytes).into(),
        rmpv::Value::Array(items) => items.into_iter().map(json).collect(),
        rmpv::Value::Map(entries) => {
            entries.into_iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value))).collect()
        }
        plain => serde_json::to_value(plain).unwrap(),
    }
}

/// The content of the message, which is the same in both encodings.
fn published(outcome: impl Fn() -> OutcomeBuilder) -> Value {
    let encoded = |encoding| encode(&outcome().encoding(encoding).build()).unwrap();
    let value: Value = serde_json::from_slice(&encoded(Encoding::Json)).unwrap();
    let packed = encoded(Encoding::MessagePack);
    assert_eq!(json(rmpv::decode::read_value(&mut packed.as_slice()).unwrap()), value);
    value
}

#[track_caller]
fn assert_published(name: &str, value: &Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    assert_snapshot(folder.join(name), &format!("{value:#}\n"));
}

fn localization() -> Answer {
    Answer::Localization(Localization {
        position: Position { latitude: 45.01, longitude: 7.62 },
        uncertainty: Uncertainty { sigma_x: 100.0, sigma_y: 60.0, theta: 0.0, confidence_interval: 0.68 },
        ellipse: Ellipse { semi_major: 151.0, semi_minor: 90.5, rotation: 0.0, area: 42979.0 },
        confidence: Some(0.9),
        calibrated: false,
    })
}

#[test]
fn a_prediction_of_each_head_has_its_keys() {
    let tensor =
        NamedTensor { name: "y".into(), shape: vec![1, 1], dtype: "float32", data: vec![0, 0, 128, 63] };
    assert_published("localization.json", &published(|| OutcomeBuilder::default().answer(localization())));
    assert_published("classification.json", &published(OutcomeBuilder::default));
    let tensors = || OutcomeBuilder::default().answer(Answer::Tensors(vec![tensor.clone()]));
    assert_published("tensors.json", &published(tensors));
    // As JSON, `bin` and base64 look alike.
    let packed = encode(&tensors().build()).unwrap();
    let message = rmpv::decode::read_value(&mut packed.as_slice()).unwrap();
    assert!(message["tensors"]["y"]["data"].is_bin(), "{message}");
}

#[test]
fn what_a_frame_does_not_say_is_null_and_a_stage_it_skipped_is_left_out() {
    let from_the_cache = |outcome: &mut Outcome| {
        outcome.info = FrameInfo { frame_id: "f-8".into(), ..FrameInfo::default() };
        outcome.trail.run = None;
        (outcome.trail.features_begun, outcome.trail.features_ended, outcome.trail.queued) =
            (None, None, None);
        outcome.result.iter_mut().for_each(|prediction| prediction.cache_hit = true);
    };
    assert_published("cached.json", &published(|| OutcomeBuilder::default().with(from_the_cache)));
}

#[test]
fn a_failure_of_each_code_has_its_keys() {
    let failure = |code| {
        let mut failure = Failure::new(code, "what was wrong");
        failure.retry_after = (code == FailureCode::ModelUnavailable).then_some(Duration::from_millis(1500));
        published(move || OutcomeBuilder::default().failure(failure.clone()))
    };
    assert_published("failures.json", &FailureCode::ALL.into_iter().map(failure).collect());
}

#[test]
fn an_outcome_over_the_limit_is_published_as_a_failure_with_fewer_echoes() {
    let make = |outcome: &Outcome| encode(outcome).map(|message| (message.clone(), message.len()));
    let long = |outcome: &mut Outcome| outcome.info.session_id = Some("s".repeat(1000));
    let mut outcome = OutcomeBuilder::default().with(long).encoding(Encoding::Json).build();
    let whole = encode(&outcome).unwrap();
    assert_eq!(within(&mut outcome, whole.len(), make).unwrap(), whole);
    let message = within(&mut outcome, 500, make).unwrap();
    assert!(message.len() <= 500);
    assert_published("over_the_limit.json", &serde_json::from_slice(&message).unwrap());
}
