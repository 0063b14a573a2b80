use std::borrow::Cow;

use serde_json::json;
use sferic_actors::frame::Encoding::{Json, MessagePack};
use sferic_actors::frame::Priority;

use super::*;

fn msgpack(value: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn map(entries: Vec<(&str, rmpv::Value)>) -> Vec<u8> {
    let entries = entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(entries)).unwrap();
    bytes
}

#[test]
fn samples_are_borrowed_from_the_message() {
    let message = map(vec![("later", 1.into()), ("samples", rmpv::Value::Binary(vec![1, 2, 3, 4])), ("datatype", "ci8".into())]);
    let body = read(&message, MessagePack).unwrap();
    let Some(Cow::Borrowed(samples)) = body.samples.map(|binary| binary.0) else { panic!("the samples were copied") };
    assert_eq!(samples, [1, 2, 3, 4]);
    assert!(message.as_ptr_range().contains(&samples.as_ptr()));
}

#[test]
fn both_encodings_say_the_same() {
    let frame = json!({
        "iq_data": [[1, -0.5], [0.25, 2]], "sample_rate": 48000, "num_channels": 1, "frequency": 77500, "seq": 7,
        "datetime": "2026-11-23T09:00:00Z", "geolocation": {"type": "Point", "coordinates": [8.8, 46.5, 210]},
        "frame_id": "a b", "session_id": null, "model": "m@2", "cache_enabled": false, "timeout_ms": 20, "priority": "high", "x": {"y": [1]},
    });
    for (message, encoding) in [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)] {
        let body = read(&message, encoding).unwrap();
        let numbers: Vec<f32> = body.iq_data.unwrap().0.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers, [1.0, -0.5, 0.25, 2.0]);
        assert_eq!((body.sample_rate, body.frequency, body.seq), (Some(48e3), Some(77.5e3), Some(7)));
        assert_eq!((body.session_id, body.priority, body.timeout_ms), (None, Some(Priority::High), Some(20)));
    }
    let body = read(br#"{"samples": "AQID/w==", "datatype": "ci8"}"#, Json).unwrap();
    assert_eq!(body.samples.unwrap().0[..], [1, 2, 3, 255]);
}

#[test]
fn an_error_names_the_key_and_what_it_holds() {
    let cases = [
        (json!({"seq": -1}), "`seq`: invalid value: integer `-1`"),
        (json!({"seq": "7"}), "`seq`: invalid type: string \"7\""),
        (json!({"iq_data": [[1, 2], [3]]}), "`iq_data[1]`: invalid length 1"),
        (json!({"priority": "urgent"}), "`priority`: unknown variant `urgent`, expected one of `critical`, `high`, `normal`, `low`"),
        (json!({"geolocation": {"type": "Point", "coordinates": [1]}}), "is not [longitude, latitude, altitude?]"),
        (json!([1, 2]), "not a frame in"),
    ];
    for (frame, expected) in cases {
        for (message, encoding) in [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)] {
            let error = read(&message, encoding).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?} ({encoding:?})");
        }
    }
    let long = read(&msgpack(&json!({"seq": "7".repeat(100_000)})), MessagePack).unwrap_err().to_string();
    assert!(long.starts_with("`seq`: invalid type: string \"777") && long.len() < 1000, "{} characters", long.len());
    assert!(read(&map(vec![("samples", "text".into())]), MessagePack).unwrap_err().to_string().contains("`samples`"));
    assert!(read(b"", MessagePack).is_err() && read(b"{", Json).is_err());
}

#[test]
fn of_a_broken_frame_is_salvaged_what_can_be() {
    let frame = map(vec![
        ("frame_id", "f-1".into()),
        ("seq", 9.into()),
        ("session_id", "s".into()),
        ("samples", rmpv::Value::Binary(vec![0; 100])),
        ("frequency", 1e6.into()),
    ]);
    let whole = salvage(&frame, MessagePack);
    assert_eq!((whole.frame_id.as_str(), whole.seq, whole.frequency), ("f-1", Some(9), Some(1e6)));
    let cut = salvage(&frame[..60], MessagePack);
    assert_eq!((cut.frame_id.as_str(), cut.seq, cut.session_id.as_deref()), ("f-1", Some(9), Some("s")));
    let wrong = json!({"frame_id": "f-2", "seq": "nine"});
    for (message, encoding) in [(msgpack(&wrong), MessagePack), (wrong.to_string().into_bytes(), Json)] {
        let info = salvage(&message, encoding);
        assert_eq!((info.frame_id.as_str(), info.seq), ("f-2", None));
    }
    assert_eq!(salvage(b"\xc1nonsense", MessagePack).frame_id, "");
    assert_eq!(salvage(&map(vec![("frame_id", "line\nbreak".into())]), MessagePack).frame_id, "", "an id that breaks the rules is no id");
}

proptest::proptest! {
    /// Whatever arrives, reading and salvaging it ends without a panic.
    #[test]
    fn nonsense_does_no_harm(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        for encoding in [MessagePack, Json] {
            let _ = read(&bytes, encoding);
            let _ = salvage(&bytes, encoding);
        }
    }

    /// A good frame cut off anywhere is refused.
    #[test]
    fn a_cut_frame_is_refused(cut in 0usize..40) {
        let frame = map(vec![("frame_id", "f".into()), ("samples", rmpv::Value::Binary(vec![7; 32]))]);
        proptest::prop_assert!(read(&frame[..cut.min(frame.len() - 1)], MessagePack).is_err());
    }
}
