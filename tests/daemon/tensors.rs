//! Tensors in frames, and models of several inputs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmpv::Value;
use serde_json::json;

use crate::http_client::*;
use crate::support::*;

fn tensor(shape: &[u64], dtype: &str, data: Vec<u8>) -> Value {
    let shape = shape.iter().map(|&axis| axis.into()).collect();
    map(&[("shape", Value::Array(shape)), ("dtype", dtype.into()), ("data", Value::Binary(data))])
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A frame with one tensor, `levels`.
fn levels(frame: &Value, model: &str, levels: Value) -> Value {
    with(frame, &[("tensors", map(&[("levels", levels)])), ("model", model.into())])
}

/// The answer with its `bin`s.
async fn ask(world: &World, frame: &Value) -> Value {
    let message = world.client.request("iq.frames.t", pack(frame).into()).await.unwrap();
    rmpv::decode::read_value(&mut &message.payload[..]).unwrap()
}

fn alone(id: &str) -> Value {
    map(&[("frame_id", id.into())])
}

#[tokio::test]
async fn tensors_go_in_alone_or_beside_samples() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["given", "several"], &[]).await;
    let place = tensor(&[4], "float32", floats(&[45.0, 7.5, 9.0, -19.0]));
    let answer = world.ask(&levels(&alone("f"), "given", place.clone())).await.body;
    assert_eq!(answer["position"], json!({"latitude": 45.0, "longitude": 7.5}), "{answer}");
    assert_eq!((&answer["uncertainty"]["sigma_x"], &answer["frame_id"]), (&json!(10.0), &json!("f")));

    let four = tensor(&[4], "float64", doubles(&[1.0, 2.0, 3.0, 1e-3]));
    let answer = ask(&world, &levels(&steady("g"), "several", four)).await;
    let bytes = |name: &str| answer["tensors"][name]["data"].as_slice().unwrap().to_vec();
    assert_eq!(bytes("mean"), floats(&[0.5, 0.25]), "{answer}");
    assert_eq!(bytes("twice"), floats(&[2.0, 4.0, 6.0, 2e-3]));
    // 10·log10(0.25 + 0.0625).
    let level = f32::from_le_bytes(bytes("level").try_into().unwrap());
    assert!((level + 5.051_5).abs() < 1e-3, "{level}");

    // The same place again is a hit, another is none.
    let again = world.ask(&levels(&alone("h"), "given", place)).await.body;
    assert_eq!(again["_cache_hit"], true, "{again}");
    let other = tensor(&[4], "float32", floats(&[44.0, 7.5, 9.0, -19.0]));
    let other = world.ask(&levels(&alone("i"), "given", other)).await.body;
    assert_eq!((&other["_cache_hit"], &other["position"]["latitude"]), (&json!(false), &json!(44.0)));
    let ledger = world.ledger().await;
    assert_eq!((ledger.predictions, ledger.failures, ledger.lost), (4, 0, 0));
}

#[tokio::test]
async fn what_a_model_does_not_take_fails_with_both_sides() {
    if !tools_are_there() {
        return;
    }
    let world =
        World::start(&["given", "several", "types", "degrees"], &[("LIMITS__FRAME_SAMPLES", "1000")]).await;
    let good = || tensor(&[4], "float32", floats(&[45.0, 7.5, 9.0, 19.0]));
    let given = |tensor| levels(&alone("f"), "given", tensor);
    let of = |shape: &[u64], dtype: &str, data: usize| given(tensor(shape, dtype, vec![0; data]));
    let named = |name: &str, frame: &Value| {
        with(frame, &[("tensors", map(&[(name, good())])), ("model", "given".into())])
    };
    let small = |dtype: &str, size: usize| tensor(&[2], dtype, vec![0; size]);
    let types = |half: Value| {
        let tensors =
            map(&[("small", small("uint8", 2)), ("half", half), ("flag", tensor(&[], "bool", vec![1]))]);
        map(&[("tensors", tensors), ("model", "types".into())])
    };
    let flag = |byte: u8| {
        let tensors = map(&[
            ("small", small("uint8", 2)),
            ("half", small("float64", 16)),
            ("flag", tensor(&[], "bool", vec![byte])),
        ]);
        map(&[("tensors", tensors), ("model", "types".into())])
    };
    let huge = u64::MAX / 2;
    let cases: Vec<(Value, &str, &[&str])> = vec![
        (of(&[5], "float32", 20), "shape_mismatch", &["`levels` is float32 [5]", "takes float32 [4]"]),
        (of(&[1, 4], "float32", 16), "shape_mismatch", &["[1, 4]", "[4]"]),
        (of(&[4], "float64", 32), "shape_mismatch", &["float64 [4]", "float32 [4]"]),
        (of(&[4], "complex64", 32), "shape_mismatch", &["complex64", "float32"]),
        (named("level", &alone("f")), "shape_mismatch", &["\"level\"", "takes `levels`"]),
        (alone("f"), "invalid_frame", &["neither `samples` nor `iq_data`"]),
        (
            with(&steady("f"), &[("model", "given".into())]),
            "shape_mismatch",
            &["tensors: none", "`levels`, float32 [4]"],
        ),
        (named("levels", &steady("f")), "shape_mismatch", &["takes tensors alone"]),
        (with(&given(good()), &[("model", "several".into())]), "shape_mismatch", &["float64 [4]"]),
        (
            levels(&alone("f"), "several", tensor(&[4], "float64", vec![0; 32])),
            "invalid_frame",
            &["neither `samples` nor `iq_data`"],
        ),
        (levels(&steady("f"), "degrees", good()), "shape_mismatch", &["\"levels\"", "takes none"]),
        (of(&[4], "float32", 15), "invalid_frame", &["15 bytes", "float32 [4] needs 16"]),
        (of(&[huge, huge, huge], "float32", 16), "invalid_frame", &["more than there can be"]),
        (of(&[0, huge], "float32", 0), "invalid_frame", &["is empty"]),
        (of(&[1001], "float32", 4004), "frame_too_large", &["[1001]", "limits.frame_samples, 1000"]),
        (
            given(tensor(&[4], "float32", floats(&[0.0, f32::NAN, 1.0, 1.0]))),
            "invalid_frame",
            &["not finite at element 1"],
        ),
        (
            given(tensor(&[4], "float32", floats(&[0.0, 0.0, 1.0, f32::NEG_INFINITY]))),
            "invalid_frame",
            &["element 3"],
        ),
        (
            given(map(&[("shape", Value::Array(vec![(-4).into()]))])),
            "invalid_frame",
            &["tensors.levels", "-4"],
        ),
        (given(3.into()), "invalid_frame", &["tensors.levels"]),
        (with(&steady("f"), &[("tensors", 3.into())]), "invalid_frame", &["tensors"]),
        (types(tensor(&[2], "float64", doubles(&[1.0, 65_520.0]))), "invalid_frame", &["`half`", "65504"]),
        (flag(2), "invalid_frame", &["`flag` has 2 at element 0"]),
    ];
    let count = cases.len() as u64;
    for (frame, code, parts) in cases {
        let answer = world.ask(&frame).await.body;
        assert_eq!(answer["code"], code, "{answer} of {frame}");
        let message = answer["message"].as_str().unwrap();
        parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in {message:?}"));
    }
    assert_eq!(ask(&world, &flag(1)).await["kind"], "tensors".into());
    assert_eq!(world.ask(&given(good())).await.body["position"]["latitude"], 45.0);
    let ledger = world.ledger().await;
    assert_eq!((ledger.received, ledger.failures, ledger.predictions), (count + 2, count, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_over_http_and_in_batches_has_the_data_in_base64() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["given"], |_| ()).await;
    let data = STANDARD.encode(floats(&[45.0, 7.5, 9.0, 19.0]));
    let frame = json!({"tensors": {"levels": {"shape": [4], "dtype": "float32", "data": data}}});
    let answer = call(served.address, "POST", PREDICT, &[], frame.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.json()["position"], json!({"latitude": 45.0, "longitude": 7.5}));
    let bad = json!({"tensors": {"levels": {"shape": [4], "dtype": "float32", "data": "AAAA"}}});
    let batch = json!({"iq_samples": [frame, bad], "model": "given"});
    let path = format!("{PREDICT}/batch");
    let answer = call(served.address, "POST", &path, &[], batch.to_string().as_bytes()).await.json();
    assert_eq!((&answer["successful"], &answer["failed"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(answer["predictions"][1]["code"], "invalid_frame");
}
