use serde_json::json;

use super::*;

fn verdict(recorded: &Value, answer: &Value) -> (u64, u64, u64) {
    let mut comparison = Comparison::default();
    assert!(comparison.sent(recorded));
    comparison.answered("f", recorded, answer);
    (comparison.bit_equal, comparison.equal, comparison.different)
}

const BIT_EQUAL: (u64, u64, u64) = (1, 1, 0);
const EQUAL: (u64, u64, u64) = (0, 1, 0);
const DIFFERENT: (u64, u64, u64) = (0, 0, 1);

#[test]
fn labels_agree_to_their_scores() {
    let outcome = |labels: Value| json!({"kind": "classification", "labels": labels, "inference_time_ms": 1});
    let pair = |a: &str, x: f64, b: &str, y: f64| {
        outcome(json!([{"label": a, "score": x}, {"label": b, "score": y}]))
    };
    let recorded = pair("am", 0.7, "fm", 0.3);
    for (answer, expected) in [
        (pair("am", 0.7, "fm", 0.3), BIT_EQUAL),
        (pair("am", 0.700_005, "fm", 0.299_995), EQUAL),
        (pair("am", 0.7001, "fm", 0.2999), DIFFERENT),
        (pair("fm", 0.7, "am", 0.3), DIFFERENT),
        (pair("am", 0.7, "ook", 0.3), EQUAL),
        (pair("am", 0.7, "ook", 0.2), DIFFERENT),
        (outcome(json!([{"label": "am", "score": 0.7}])), DIFFERENT),
        (json!({"code": "internal", "retryable": true}), DIFFERENT),
    ] {
        assert_eq!(verdict(&recorded, &answer), expected, "{answer}");
    }
    // Two labels of equal scores may change places.
    assert_eq!(verdict(&pair("am", 0.5, "fm", 0.5), &pair("fm", 0.5, "am", 0.5)), EQUAL);
    let mut comparison = Comparison::default();
    comparison.answered("f", &recorded, &pair("fm", 0.9, "am", 0.1));
    assert_eq!((comparison.relabelled, comparison.differences["f"].as_str()), (1, "am 0.70000 → fm 0.90000"));
    assert!((comparison.score_change[0] - 0.6).abs() < 1e-12);
}

#[test]
fn positions_agree_to_their_sigmas() {
    let outcome = |latitude: f64, sigma: f64| {
        json!({"kind": "localization", "position": {"latitude": latitude, "longitude": 7.0},
            "uncertainty": {"sigma_x": sigma, "sigma_y": 2.0 * sigma}, "confidence": null,
            "ellipse": {"semi_major": 3.0 * sigma, "semi_minor": 1.5 * sigma, "rotation": 90.0}})
    };
    let mut wider = outcome(45.0, 100.0);
    wider["ellipse"]["semi_major"] = json!(3000.0);
    assert_eq!(verdict(&outcome(45.0, 100.0), &wider), DIFFERENT);
    // A hundredth of a metre of 100 m; a degree is 111 km.
    for (answer, expected) in [
        (outcome(45.0, 100.0), BIT_EQUAL),
        (outcome(45.0 + 0.009 / 111_132.0, 100.0), EQUAL),
        (outcome(45.0 + 0.012 / 111_132.0, 100.0), DIFFERENT),
        (outcome(45.0, 101.0), DIFFERENT),
        (json!({"kind": "tensors", "tensors": {}}), DIFFERENT),
    ] {
        assert_eq!(verdict(&outcome(45.0, 100.0), &answer), expected, "{answer}");
    }
}

#[test]
fn tensors_agree_to_their_numbers() {
    let outcome = |dtype: &str, data: Vec<u8>, shape: Value| {
        let data = BASE64_STANDARD.encode(data);
        json!({"kind": "tensors", "tensors": {"y": {"dtype": dtype, "shape": shape, "data": data}}})
    };
    let floats = |x: f32| outcome("float32", x.to_le_bytes().to_vec(), json!([1]));
    for (recorded, answer, expected) in [
        (floats(100.0), floats(100.0), BIT_EQUAL),
        (floats(100.0), floats(100.0005), EQUAL),
        (floats(100.0), floats(100.01), DIFFERENT),
        (floats(f32::NAN), floats(f32::NAN), BIT_EQUAL),
        (floats(f32::INFINITY), floats(f32::INFINITY), BIT_EQUAL),
        (floats(f32::INFINITY), floats(1.0), DIFFERENT),
        (floats(f32::INFINITY), floats(f32::NEG_INFINITY), DIFFERENT),
        (json!({"kind": "tensors", "tensors": {}}), floats(1.0), DIFFERENT),
        (floats(1.0), outcome("float32", vec![0; 8], json!([2])), DIFFERENT),
        (outcome("int64", vec![1; 8], json!([1])), outcome("int64", vec![1; 8], json!([1])), BIT_EQUAL),
        (outcome("int64", vec![1; 8], json!([1])), outcome("int64", vec![2; 8], json!([1])), DIFFERENT),
    ] {
        assert_eq!(verdict(&recorded, &answer), expected, "{recorded} {answer}");
    }
}

#[test]
fn failures_are_compared_where_they_are_the_frames_own() {
    let failure = |code: &str, retryable: bool| json!({"code": code, "retryable": retryable});
    assert_eq!(verdict(&failure("invalid_frame", false), &failure("invalid_frame", false)), BIT_EQUAL);
    assert_eq!(verdict(&failure("invalid_frame", false), &json!({"kind": "tensors"})), DIFFERENT);
    let mut comparison = Comparison::default();
    assert!(!comparison.sent(&failure("overloaded", true)) && !comparison.sent(&Value::Null));
    comparison.unanswered(1);
    assert!(!comparison.is_equal());
    let text = comparison.to_string();
    assert!(text.contains("1 without an answer, 2 not compared"), "{text}");
    assert_eq!(serde_json::to_value(&comparison).unwrap()["moved_m"], Value::Null);
}
