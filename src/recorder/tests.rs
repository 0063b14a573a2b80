use std::time::UNIX_EPOCH;

use serde_json::json;
use sferic_recording::ring::{Rule, recorded};
use tempfile::TempDir;

use super::*;

fn finished(frame: &serde_json::Value, outcome: &serde_json::Value) -> Finished {
    Finished {
        source: "t.rx".to_owned(),
        payload: frame.to_string().into_bytes().into(),
        encoding: Encoding::Json,
        received_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        outcome: outcome.to_string().into_bytes(),
    }
}

#[test]
fn frames_are_recorded_and_counted() {
    let folder = TempDir::new().unwrap();
    let choice = Choice { rule: Rule::Failures, ..Choice::default() };
    let recorder = Recorder::start(folder.path(), 1 << 20, choice).unwrap();
    assert!(recorder.wants("t.rx") && !recorder.wants("replay.t.rx"));
    let frame = json!({"iq_data": [[0.5, -0.25], [1.0, 0.0]], "sample_rate": 1000, "extra": {"a": 1}});
    let failure = json!({"frame_id": "made", "code": "internal"});
    recorder.take(finished(&frame, &failure));
    recorder.take(finished(&frame, &json!({"frame_id": "b", "kind": "tensors"})));
    for wrong in [
        json!({}).to_string(),
        "no JSON".to_owned(),
        json!({"samples": "AAAA", "datatype": "cu8"}).to_string(),
    ] {
        recorder.take(Finished { payload: wrong.into_bytes().into(), ..finished(&frame, &failure) });
    }
    let counts = recorder.close();
    let RecordCounts { recorded: written, passed_over, undecodable, dropped, .. } = counts;
    assert_eq!((written, passed_over, undecodable, dropped), (1, 1, 3, 0));
    let frames = recorded(folder.path()).unwrap();
    assert_eq!(frames[0].frame["frame_id"], "made");
    assert_eq!((&frames[0].frame["extra"], frames[0].frame.get("iq_data")), (&json!({"a": 1}), None));
    let samples: Vec<u8> = [0.5f32, -0.25, 1.0, 0.0].into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!((frames[0].samples().unwrap(), frames[0].outcome.clone()), (samples, failure));
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_recording_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("records");
    let recorder = Recorder::start(&below, 1 << 20, Choice::default()).unwrap();
    std::fs::remove_dir_all(&below).unwrap();
    let frame = json!({"iq_data": [[0.5, -0.25]], "sample_rate": 1000});
    recorder.take(finished(&frame, &json!({"frame_id": "a", "kind": "tensors"})));
    let until = Instant::now() + Duration::from_secs(20);
    while recorder.stopped().is_none() {
        assert!(Instant::now() < until, "it goes on");
        std::thread::yield_now();
    }
    assert!(recorder.stopped().unwrap().contains("records"), "{:?}", recorder.stopped());
    assert!(!recorder.wants("t.rx"));
    recorder.take(finished(&frame, &json!({"frame_id": "b", "kind": "tensors"})));
    assert_eq!((recorder.counts().recorded, recorder.counts().dropped), (0, 2));
    recorder.close();
}
