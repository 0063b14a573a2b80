use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use sferic_actors::frame::Encoding::{Json as AsJson, MessagePack};

use super::*;

/// The batch in both encodings.
fn both(batch: &Json) -> [(Bytes, Encoding); 2] {
    [(batch.to_string().into(), AsJson), (rmp_serde::to_vec_named(batch).unwrap().into(), MessagePack)]
}

fn unpacked(payload: &[u8], encoding: Encoding) -> Json {
    match encoding {
        AsJson => serde_json::from_slice(payload).unwrap(),
        MessagePack => rmp_serde::from_slice(payload).unwrap(),
    }
}

fn refusal(batch: &Json) -> [String; 2] {
    both(batch).map(|(payload, encoding)| read_batch(&payload, encoding).unwrap_err().to_string())
}

#[test]
fn frames_get_the_defaults_that_they_have_not() {
    let batch = json!({
        "model": "a", "timeout_ms": 7, "source": "unused", "continue_on_error": false,
        "samples": [
            {"frame_id": "f", "model": null, "source": "north.rx2"},
            [[0.5, 0.25]],
            {},
            3,
            {"model": "b", "timeout_ms": 1},
        ],
    });
    for (payload, encoding) in both(&batch) {
        let Batch { frames, continue_on_error } = read_batch(&payload, encoding).unwrap();
        assert!(!continue_on_error);
        let bodies: Vec<_> = frames.iter().map(|frame| unpacked(&frame.payload, encoding)).collect();
        assert_eq!(
            json!(bodies),
            json!([
                {"frame_id": "f", "model": null, "source": "north.rx2", "timeout_ms": 7},
                {"model": "a", "timeout_ms": 7, "iq_data": [[0.5, 0.25]]},
                {"model": "a", "timeout_ms": 7},
                3,
                {"model": "b", "timeout_ms": 1},
            ])
        );
        let sources: Vec<_> = frames.iter().map(|frame| frame.source.as_deref()).collect();
        assert_eq!(sources, [Some("north.rx2"), None, None, None, None]);
        // What gets no default is not copied.
        for (frame, is_borrowed) in frames.iter().zip([false, false, false, true, true]) {
            assert_eq!(payload.as_ptr_range().contains(&frame.payload.as_ptr()), is_borrowed, "{encoding:?}");
        }
    }
}

#[test]
fn a_batch_that_cannot_be_told_apart_is_refused_with_the_number_and_the_limit() {
    let frames = |count: usize| json!({"iq_samples": vec![json!({}); count]});
    for (batch, part) in [
        (frames(0), "has 0 frames, must have 1 to 100"),
        (frames(101), "has 101 frames, must have 1 to 100"),
        (frames(5000), "has 5000 frames, must have 1 to 100"),
        (json!({}), "neither of `samples` and `iq_samples`"),
        (json!({"samples": [{}], "iq_samples": [{}]}), "more than one of `samples` and `iq_samples`"),
        (json!({"samples": "AAAA"}), "no list"),
        (json!({"samples": null}), "no list"),
        (json!({"samples": [{}], "continue_on_error": "no"}), "`continue_on_error` must be true or false"),
        (json!([{}]), "a map with string keys"),
    ] {
        for message in refusal(&batch) {
            assert!(message.contains(part), "{message:?} has no {part:?}");
        }
    }
    for (payload, encoding, part) in [
        (&b"{\"samples\": [{}"[..], AsJson, "EOF"),
        (b"{\"samples\": [{}]} {}", AsJson, "goes on after"),
        (b"{\"samples\": [{},]}", AsJson, "expected value at line 1 column 17"),
        (b"{\"samples\": [{}]}", MessagePack, "`Content-Type: application/json`"),
        (b"\x81\xa7samples\x91\x80\x00", MessagePack, "goes on after"),
        (b"\x81\xa7samples\x92\x80", MessagePack, "11 bytes is cut off"),
        (b"\x81\xa7samples\x91\x80", AsJson, "`Content-Type: application/msgpack`"),
        (b"", MessagePack, "a map with string keys"),
    ] {
        let message = read_batch(&Bytes::from_static(payload), encoding).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} has no {part:?}");
    }
    assert!(read_batch(&frames(100).to_string().into(), AsJson).is_ok());
}

#[test]
fn the_source_is_read_of_maps_alone() {
    for (payload, encoding) in both(&json!({"iq_data": [[1, 2]], "source": "a.b"})) {
        assert_eq!(read_source(&payload, encoding).as_deref(), Some("a.b"));
    }
    for body in [json!({"source": 3}), json!({}), json!([1]), json!("source")] {
        for (payload, encoding) in both(&body) {
            assert_eq!(read_source(&payload, encoding), None);
        }
    }
}

#[test]
fn a_reply_holds_the_outcomes_in_order_and_counts_them() {
    for encoding in [AsJson, MessagePack] {
        let outcomes = (0..17).map(|n| write(&json!({"n": n}), encoding).unwrap().into()).collect();
        let reply = BatchReply { outcomes, successful: 16, total_time: Duration::from_millis(500) };
        let reply = unpacked(&reply.encode(encoding).unwrap(), encoding);
        let order: Vec<_> = (0..17).map(|n| json!({"n": n})).collect();
        assert_eq!(
            reply,
            json!({
                "predictions": order, "successful": 16, "failed": 1, "batch_size": 17,
                "total_time_ms": 500.0, "samples_per_second": 34.0,
            })
        );
    }
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        "[ -~é☃\"\\\\]{0,12}".prop_map(Json::from),
        proptest::collection::vec(any::<i8>(), 0..4).prop_map(|all| json!(all)),
    ]
}

fn map() -> impl Strategy<Value = Json> {
    let key = prop_oneof![
        proptest::sample::select(&DEFAULTS[..]).prop_map(str::to_owned),
        proptest::sample::select(&["frame_id", "samples", "source"][..]).prop_map(str::to_owned),
        "[a-z\"\\\\{}]{0,8}",
    ];
    proptest::collection::btree_map(key, leaf(), 0..8)
        .prop_map(|map| Json::Object(map.into_iter().collect::<Map<_, _>>()))
}

proptest! {
    #[test]
    fn a_frame_is_its_own_keys_and_the_defaults_it_lacks(
        items in proptest::collection::vec(prop_oneof![3 => map(), 1 => leaf()], 1..12),
        others in map(),
        pretty in any::<bool>(),
    ) {
        let mut batch = others.as_object().unwrap().clone();
        batch.remove("samples");
        batch.insert("iq_samples".into(), json!(items));
        let [(json, _), (packed, _)] = both(&Json::Object(batch.clone()));
        let json = if pretty { serde_json::to_string_pretty(&batch).unwrap().into() } else { json };
        for (payload, encoding) in [(json, AsJson), (packed, MessagePack)] {
            let read = read_batch(&payload, encoding).unwrap();
            prop_assert_eq!(read.frames.len(), items.len());
            for (frame, item) in read.frames.iter().zip(&items) {
                let mut expected = match item {
                    Json::Array(_) => json!({"iq_data": item}),
                    item => item.clone(),
                };
                if let Some(expected) = expected.as_object_mut() {
                    for (key, value) in batch.iter().filter(|(key, _)| DEFAULTS.contains(&key.as_str())) {
                        expected.entry(key.clone()).or_insert(value.clone());
                    }
                }
                prop_assert_eq!(unpacked(&frame.payload, encoding), expected);
            }
        }
    }

    #[test]
    fn no_bytes_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        json in "[\\[\\]{}\",:a1 ]{0,40}",
    ) {
        let _ = read_batch(&payload.into(), MessagePack);
        let _ = read_batch(&json.into(), AsJson);
    }
}
