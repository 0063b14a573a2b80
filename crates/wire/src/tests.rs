use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use sferic_actors::frame::Encoding::{Json, MessagePack};
use sferic_actors::frame::Priority;

use super::*;

fn msgpack(value: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn map(entries: Vec<(&str, rmpv::Value)>) -> Vec<u8> {
    encoded(&rmpv::Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}

fn encoded(value: &rmpv::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

#[test]
fn no_number_makes_a_message_long() {
    let keys = [
        "samples",
        "iq_data",
        "datatype",
        "sample_rate",
        "num_channels",
        "frequency",
        "datetime",
        "seq",
        "geolocation",
        "frame_id",
        "session_id",
        "model",
        "cache_enabled",
        "timeout_ms",
        "priority",
    ];
    let mut refused = 0;
    for key in keys {
        for frame in [json!({key: 1e300}), json!({key: [[1e300]]}), json!({key: {"type": 1e300}})] {
            for (message, encoding) in
                [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)]
            {
                let Err(error) = read(&message, encoding) else { continue };
                let error = error.to_string();
                assert!(error.starts_with(&format!("`{key}")) && error.len() < 160, "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 2 * (3 * keys.len() - 2), "all but a sample rate and a frequency of that size");
}

#[test]
fn samples_are_borrowed_from_the_message() {
    let message = map(vec![
        ("later", 1.into()),
        ("samples", rmpv::Value::Binary(vec![1, 2, 3, 4])),
        ("datatype", "ci8".into()),
    ]);
    let body = read(&message, MessagePack).unwrap();
    let Some(Cow::Borrowed(samples)) = body.samples.map(|binary| binary.0) else {
        panic!("the samples were copied")
    };
    assert_eq!(samples, [1, 2, 3, 4]);
    assert!(message.as_ptr_range().contains(&samples.as_ptr()));
}

#[test]
fn unescaped_texts_are_borrowed_too() {
    let message = map(vec![("datatype", "ci8".into()), ("model", rmpv::Value::Binary(b"m@1".to_vec()))]);
    let body = read(&message, MessagePack).unwrap();
    for (text, expected) in [(body.datatype, "ci8"), (body.model, "m@1")] {
        let Some(Text(Cow::Borrowed(text))) = text else { panic!("{expected} was copied") };
        assert_eq!(text, expected);
    }
    let body = read(br#"{"frame\u005fid": "a\u0020b"}"#, Json).unwrap();
    assert_eq!(
        body.frame_id,
        Some(Text("a b".into())),
        "an escape in JSON is what it stands for, in keys too"
    );
    assert_eq!(salvage(br#"{"frame\u005fid": "a\u0020b", "seq": "#, Json).frame_id, "a b");
    let broken = read(b"\x81\xa5model\xa1\xff", MessagePack).unwrap_err().to_string();
    assert!(broken.starts_with("`model`: "), "{broken}");
}

#[test]
fn both_encodings_have_the_same_content() {
    let frame = json!({
        "iq_data": [[1, -0.5], [0.25, 2]], "sample_rate": 48000, "num_channels": 1, "frequency": 77500,
        "seq": 7,
        "datetime": "2026-11-23T09:00:00Z", "geolocation": {"type": "Point", "coordinates": [8.8, 46.5, 210]},
        "frame_id": "a b", "session_id": null, "model": "m@2", "cache_enabled": false, "timeout_ms": 20,
        "priority": "high", "x": {"y": [1]},
    });
    for (message, encoding) in [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)] {
        let body = read(&message, encoding).unwrap();
        let numbers: Vec<f32> = body
            .iq_data
            .unwrap()
            .0
            .chunks(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
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
        (
            json!({"priority": "urgent"}),
            "`priority`: unknown variant `urgent`, expected one of `critical`, `high`, `normal`, `low`",
        ),
        (
            json!({"geolocation": {"type": "Point", "coordinates": [1]}}),
            "is not [longitude, latitude, altitude?]",
        ),
        (json!([1, 2]), "not a frame in"),
    ];
    for (frame, expected) in cases {
        for (message, encoding) in [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)] {
            let error = read(&message, encoding).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?} ({encoding:?})");
        }
    }
    let long = read(&msgpack(&json!({"seq": "7".repeat(100_000)})), MessagePack).unwrap_err().to_string();
    assert!(
        long.starts_with("`seq`: invalid type: string \"777") && long.len() < 1000,
        "{} characters",
        long.len()
    );
    assert!(
        read(&map(vec![("samples", "text".into())]), MessagePack)
            .unwrap_err()
            .to_string()
            .contains("`samples`")
    );
    assert!(read(b"", MessagePack).is_err() && read(b"{", Json).is_err());
}

#[test]
fn the_readable_part_of_a_broken_frame_is_salvaged() {
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
    // Text as `bin`, which a frame that is read may have too.
    let bin = |text: &str| rmpv::Value::Binary(text.into());
    let message = map(vec![("frame_id", bin("b-1")), ("session_id", bin("s"))]);
    let info = salvage(&message, MessagePack);
    assert_eq!((info.frame_id.as_str(), info.session_id.as_deref()), ("b-1", Some("s")));
    assert_eq!(salvage(b"\xc1nonsense", MessagePack).frame_id, "");
    assert_eq!(
        salvage(&map(vec![("frame_id", "line\nbreak".into())]), MessagePack).frame_id,
        "",
        "an id that breaks the rules is no id"
    );
}

#[test]
fn a_float_without_a_fraction_is_that_integer() {
    let whole = json!({"seq": 3.0, "num_channels": 2.0, "timeout_ms": 1e3});
    for (message, encoding) in [(msgpack(&whole), MessagePack), (whole.to_string().into_bytes(), Json)] {
        let body = read(&message, encoding).unwrap();
        assert_eq!(
            (body.seq, body.num_channels, body.timeout_ms),
            (Some(3), Some(2), Some(1000)),
            "{encoding:?}"
        );
        assert_eq!(salvage(&message, encoding).seq, Some(3), "{encoding:?}");
    }
    let single = map(vec![("seq", rmpv::Value::F32(16_777_216.0)), ("num_channels", rmpv::Value::F64(-0.0))]);
    let body = read(&single, MessagePack).unwrap();
    assert_eq!((body.seq, body.num_channels), (Some(1 << 24), Some(0)));
    assert_eq!(
        read(br#"{"seq": 18446744073709551615}"#, Json).unwrap().seq,
        Some(u64::MAX),
        "integers stay exact"
    );

    for key in ["seq", "num_channels", "timeout_ms"] {
        for number in [3.5, -1.0, 1e300, 2f64.powi(64), f64::MIN_POSITIVE] {
            let frame = json!({key: number});
            for (message, encoding) in
                [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)]
            {
                let error = read(&message, encoding).unwrap_err().to_string();
                assert!(error.starts_with(&format!("`{key}`: invalid value: floating point `")), "{error}");
                assert!(error.contains("expected a whole number from 0") && error.len() < 160, "{error}");
            }
        }
    }
    for number in [f64::NAN, f64::INFINITY] {
        assert!(read(&map(vec![("seq", number.into())]), MessagePack).is_err());
    }
}

#[test]
fn an_enum_value_is_a_name_not_an_index() {
    let point = |kind| json!({"geolocation": {"type": kind, "coordinates": [7, 45]}});
    for frame in [
        json!({"priority": 1}),
        json!({"priority": {"high": null}}),
        point(json!(0)),
        json!({"geolocation": ["Point", [7, 45]]}),
    ] {
        for (message, encoding) in [(msgpack(&frame), MessagePack), (frame.to_string().into_bytes(), Json)] {
            let error = read(&message, encoding).unwrap_err().to_string();
            assert!(error.contains("invalid type"), "{frame}: {error}");
        }
    }
    assert!(read(&msgpack(&point(json!("Point"))), MessagePack).is_ok());
}

#[test]
fn a_message_is_one_map_and_nothing_after_it() {
    let frame = map(vec![("frame_id", "first".into()), ("samples", rmpv::Value::Binary(vec![0; 16]))]);
    for rest in [&frame[..], b"\n", b"\xc0", b"\xc1", b"\xdb\xff", &[0; 1000]] {
        let message = [&frame, rest].concat();
        let error = read(&message, MessagePack).unwrap_err().to_string();
        assert_eq!(error, "the message goes on after the frame's map, must be one MessagePack map alone");
        assert_eq!(salvage(&message, MessagePack).frame_id, "first");
    }
    let error = read(br#"{"seq": 1} {"seq": 2}"#, Json).unwrap_err().to_string();
    assert_eq!(error, "the message goes on after the frame's map, must be one JSON map alone");
    assert!(read(b" {\"seq\": 1}\r\n", Json).is_ok(), "white space around JSON is JSON");
}

#[test]
fn a_frame_in_the_other_encoding_is_told_which_header_it_needs() {
    for (message, encoding, header) in [
        (&br#"{"seq": 1}"#[..], MessagePack, "`Content-Type: application/json`"),
        (b"\r\n\t {}", MessagePack, "`Content-Type: application/json`"),
        (b"\x81\xa3seq\x01", Json, "`Content-Type: application/msgpack`"),
    ] {
        let error = read(message, encoding).unwrap_err().to_string();
        assert!(
            error.contains(header) && error.contains(&format!("not a frame in {}", encoding.name())),
            "{error}"
        );
    }
    for (message, encoding) in [(&b"\x93\x01"[..], MessagePack), (b"seq=1", MessagePack), (b"[1]", Json)] {
        let error = read(message, encoding).unwrap_err().to_string();
        assert!(error.contains("a map with string keys") && !error.contains("Content-Type"), "{error}");
    }
}

#[test]
fn a_place_is_finite_and_on_the_earth() {
    let read_point = |coordinates: &[f64]| {
        let coordinates = rmpv::Value::Array(coordinates.iter().map(|&x| x.into()).collect());
        let point =
            rmpv::Value::Map(vec![("type".into(), "Point".into()), ("coordinates".into(), coordinates)]);
        read(&map(vec![("geolocation", point)]), MessagePack).map(|_| ()).map_err(|error| error.to_string())
    };
    for good in [&[7.5, 45.0][..], &[-180.0, 90.0], &[180.0, -90.0, 8848.0], &[0.0, -0.0, -430.5]] {
        assert_eq!(read_point(good), Ok(()), "{good:?}");
    }
    for (bad, expected) in [
        (&[45.0, 91.5][..], "the latitude is 91.5, must be from -90 to 90 degrees"),
        (&[-180.5, 0.0], "the longitude is -180.5, must be from -180 to 180 degrees"),
        (&[f64::NAN, 0.0], "the longitude is NaN,"),
        (&[0.0, f64::NEG_INFINITY], "the latitude is -inf,"),
        (&[1e300, 0.0], "the longitude is 1e300,"),
        (&[0.0, 0.0, f64::NAN], "the altitude is NaN, must be from -12000 to 50000000 metres"),
        (&[0.0, 0.0, 1e300], "the altitude is 1e300,"),
        (&[], "is not [longitude, latitude, altitude?]"),
        (&[1.0, 2.0, 3.0, 4.0], "is not [longitude, latitude, altitude?]"),
    ] {
        let error = read_point(bad).unwrap_err();
        assert!(error.starts_with("`geolocation") && error.contains(expected), "{error}");
        assert!(error.len() < 160, "{error}");
    }
}

#[test]
fn non_text_keys_are_ignored_in_a_salvaged_frame() {
    let mut entries: Vec<(rmpv::Value, rmpv::Value)> =
        (0..16).map(|key| (key.into(), "by place".into())).collect();
    entries.push(("seq".into(), 9.into()));
    entries.push(("samples".into(), "broken".into()));
    let info = salvage(&encoded(&rmpv::Value::Map(entries)), MessagePack);
    assert_eq!(info, sferic_actors::frame::FrameInfo { seq: Some(9), ..Default::default() });
    assert_eq!(
        salvage(br#"{"frame_id": "j", "seq": 1, "iq_data": [[0.1, "#, Json).frame_id,
        "j",
        "JSON too is read as far as it goes"
    );
    assert_eq!(salvage(b"\x91\xa1f", MessagePack).frame_id, "", "an array has no keys");
}

/// Any MessagePack value, a few levels deep.
fn any_value() -> impl Strategy<Value = rmpv::Value> {
    use rmpv::Value;
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-40i64..40).prop_map(Value::from),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        ".{0,6}".prop_map(Value::from),
        vec(any::<u8>(), 0..6).prop_map(Value::Binary),
        (any::<i8>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

proptest! {
    /// Keys that are no text are as if they were not there, at any place of the frame and of the maps in it.
    #[test]
    fn only_text_keys_count(
        strangers in vec(
            (any_value().prop_filter("text", |key| !key.is_str()), any_value(), any::<prop::sample::Index>()),
            1..5,
        ),
        deep in any::<bool>(),
    ) {
        let coordinates = rmpv::Value::Array(vec![7.into(), 45.into()]);
        let point = vec![("type".into(), "Point".into()), ("coordinates".into(), coordinates)];
        let mut frame = vec![
            ("samples".into(), rmpv::Value::Binary(vec![7; 32])),
            ("datatype".into(), "cf32_le".into()),
            ("seq".into(), 4.into()),
            ("geolocation".into(), rmpv::Value::Map(point)),
            ("priority".into(), "low".into()),
        ];
        let plain = encoded(&rmpv::Value::Map(frame.clone()));
        for (key, value, at) in strangers {
            let is_place = |entry: &&mut (rmpv::Value, rmpv::Value)| entry.0.as_str() == Some("geolocation");
            let map = match &mut frame.iter_mut().find(is_place).unwrap().1 {
                rmpv::Value::Map(point) if deep => point,
                _ => &mut frame,
            };
            map.insert(at.index(map.len() + 1), (key, value));
        }
        let odd = encoded(&rmpv::Value::Map(frame));
        let bodies = [&odd, &plain].map(|frame| format!("{:?}", read(frame, MessagePack).unwrap()));
        prop_assert_eq!(&bodies[0], &bodies[1]);
        prop_assert_eq!(salvage(&odd, MessagePack), salvage(&plain, MessagePack));
    }

    /// Whatever comes after the map, and however long, the frame is refused.
    #[test]
    fn nothing_may_follow(rest in vec(any::<u8>(), 1..40)) {
        let frame = map(vec![("frame_id", "f".into())]);
        prop_assert!(read(&[frame, rest].concat(), MessagePack).is_err());
    }

    /// Whatever arrives, reading and salvaging it ends without a panic.
    #[test]
    fn invalid_data_does_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        for encoding in [MessagePack, Json] {
            let _ = read(&bytes, encoding);
            let _ = salvage(&bytes, encoding);
        }
    }

    /// A good frame cut off anywhere is refused.
    #[test]
    fn a_cut_frame_is_refused(cut in 0usize..40) {
        let frame = map(vec![("frame_id", "f".into()), ("samples", rmpv::Value::Binary(vec![7; 32]))]);
        prop_assert!(read(&frame[..cut.min(frame.len() - 1)], MessagePack).is_err());
    }
}
