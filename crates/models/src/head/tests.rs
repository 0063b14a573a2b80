use sferic_actors::outcome::FailureCode;

use super::super::output_section::{Activation, LocalOrigin, Scale, Units};
use super::super::values::{Class, ScoreMap};
use super::*;

fn port(name: &str, dtype: Dtype, axes: &str) -> Port {
    let axes = axes
        .split(' ')
        .map(|axis| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed))
        .collect();
    Port { name: name.into(), elements: Elements::Numbers(dtype), axes }
}

fn localization(confidence: Option<&str>) -> OutputConfig {
    OutputConfig::Localization {
        position: "position".into(),
        origin: Some(LocalOrigin { latitude: 45.0, longitude: 7.6 }),
        uncertainty: "sigma".into(),
        uncertainty_units: Units::Metres,
        uncertainty_scale: Scale::Linear,
        confidence: confidence.map(Into::into),
        residual: None,
        calibration: None,
    }
}

fn classification() -> OutputConfig {
    OutputConfig::Classification {
        logits: "logits".into(),
        activation: Some(Activation::None),
        labels: vec!["a".into(), "b".into(), "c".into()],
        top_k: 2,
    }
}

fn floats<'a>(shape: &'a [usize], values: &'a [f32]) -> Output<'a> {
    Output { shape, values: Values::Floats(values) }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, String>, parts: &[&str]) {
    let error = result.expect_err("accepted");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn outputs_are_found_by_name_in_any_order() {
    let ports = [
        port("sigma", Dtype::Float32, "B 3"),
        port("extra", Dtype::Int64, "7"),
        port("confidence", Dtype::Float32, "B 1"),
        port("position", Dtype::Float32, "B W"),
    ];
    let head = Head::new(&localization(Some("confidence")), &ports).expect("refused");
    assert_eq!(
        head.outputs().collect::<Vec<_>>(),
        ["position", "sigma", "confidence"].map(|name| (name, Reading::Floats))
    );
    assert!(!head.batch_of_one());
    let fixed = [port("sigma", Dtype::Float32, "1 2"), port("position", Dtype::Float32, "1 2")];
    assert!(Head::new(&localization(None), &fixed).expect("refused").batch_of_one());
}

#[test]
fn a_refusal_names_the_output_and_what_was_expected() {
    let sigma = port("sigma", Dtype::Float32, "B 2");
    let head = |position: Port| Head::new(&localization(None), &[sigma.clone(), position]);
    refused(head(port("location", Dtype::Float32, "B 2")), &["`position`", "it has `sigma`, `location`"]);
    refused(
        head(port("position", Dtype::Bool, "B 2")),
        &["`position`, bool [B, 2]", "expected float32 [B, 2]"],
    );
    refused(
        head(Port { elements: Elements::Strings, ..port("position", Dtype::Bool, "B 2") }),
        &["`position`, string [B, 2]"],
    );
    refused(head(port("position", Dtype::Float32, "B 3")), &["float32 [B, 3]", "expected float32 [B, 2]"]);
    refused(head(port("position", Dtype::Float32, "2")), &["float32 [2]"]);
    refused(head(port("position", Dtype::Float32, "4 2")), &["float32 [4, 2]"]);
    let wide = [port("sigma", Dtype::Float32, "B 4"), port("position", Dtype::Float32, "B 2")];
    refused(Head::new(&localization(None), &wide), &["`sigma`, float32 [B, 4]", "float32 [B, 2] or [B, 3]"]);
    let logits = [port("logits", Dtype::Float32, "B 4")];
    refused(Head::new(&classification(), &logits), &["`logits`, float32 [B, 4]", "float32 [B, 3]"]);
    let text = Port { elements: Elements::Unsupported, ..port("text", Dtype::Bool, "B") };
    refused(
        Head::new(&OutputConfig::Tensors, std::slice::from_ref(&text)),
        &["`text`, an unsupported type [B]", "tensor of numbers"],
    );
    refused(
        Head::new(&OutputConfig::Tensors, &[Port { elements: Elements::Strings, ..text }]),
        &["`text`, string [B]"],
    );
    refused(
        Head::new(&classification(), &[port("logits", Dtype::Int64, "4")]),
        &["`logits`, int64 [4]", "[B] or [B, 1]"],
    );
}

#[test]
fn numbers_of_any_type_are_read_as_float32_and_tensors_as_they_are() {
    for dtype in [Dtype::Float16, Dtype::Bfloat16, Dtype::Float64, Dtype::Int32] {
        let ports = [port("sigma", dtype, "B 2"), port("position", dtype, "B 2")];
        let head = Head::new(&localization(None), &ports).expect("refused");
        assert!(head.outputs().all(|(_, reading)| reading == Reading::Floats));
        let head = Head::new(&OutputConfig::Tensors, &ports).expect("refused");
        assert!(head.outputs().all(|(_, reading)| reading == Reading::AsIs));
    }
}

#[test]
fn labels_and_maps_are_answers() {
    let maps = Port { elements: Elements::ScoreMaps, ..port("logits", Dtype::Float32, "B") };
    let head = Head::new(&classification(), &[Port { axes: Vec::new(), ..maps }]).expect("refused");
    let map = |scores: [f32; 3]| {
        scores.into_iter().zip(0..).map(|(score, class)| (Class::Number(class), score)).collect::<ScoreMap>()
    };
    let maps = [map([0.5, 0.25, 0.25]), map([0.0, f32::NAN, 0.0])];
    let outputs = [Output { shape: &[2], values: Values::ScoreMaps(&maps) }];
    assert_eq!(head.check(&outputs, 2), Ok(()));
    let Ok(Answer::Classification(labels)) = head.answer(&outputs, 0) else { panic!("refused") };
    assert_eq!((labels.len(), &*labels[0].label, labels[0].score), (2, "a", Some(0.5)));
    assert_eq!(
        head.answer(&outputs, 1).expect_err("answered").message,
        "output `logits` is not finite at element 1"
    );
    refused(
        head.check(&[Output { shape: &[1], values: Values::ScoreMaps(&maps[..1]) }], 2),
        &["maps from class to score [1]"],
    );
    let few = [vec![(Class::Number(0), 1.0)]];
    refused(
        head.check(&[Output { shape: &[1], values: Values::ScoreMaps(&few) }], 1),
        &["`logits` has no score for the label \"b\""],
    );

    let head = Head::new(&classification(), &[port("logits", Dtype::Int64, "B 1")]).expect("refused");
    let classes = [Class::Number(2), Class::Number(3)];
    let outputs = [Output { shape: &[2, 1], values: Values::Classes(&classes) }];
    assert_eq!(head.check(&outputs, 2), Ok(()));
    let Ok(Answer::Classification(labels)) = head.answer(&outputs, 0) else { panic!("refused") };
    assert_eq!((labels.len(), &*labels[0].label, labels[0].score), (1, "c", None));
    let failure = head.answer(&outputs, 1).expect_err("answered");
    assert_eq!(failure.code, FailureCode::InferenceFailed);
    assert_eq!(failure.message, "output `logits` gives the class 3, none of the 3 labels of model.toml");
    refused(
        head.check(&[Output { shape: &[1, 2], values: Values::Classes(&classes) }], 1),
        &["classes [1, 2]", "[1] or [1, 1]"],
    );
}

#[test]
fn outputs_are_checked_again_because_axes_may_be_free() {
    let ports = [port("sigma", Dtype::Float32, "B S"), port("position", Dtype::Float32, "B P")];
    let head = Head::new(&localization(None), &ports).expect("refused");
    let position = [0.0; 4];
    assert_eq!(head.check(&[floats(&[2, 2], &position), floats(&[2, 2], &position)], 2), Ok(()));
    refused(
        head.check(&[floats(&[2, 2], &position), floats(&[2, 1], &position[..2])], 2),
        &["`sigma` came as float32 [2, 1]", "[2, 3]"],
    );
    refused(
        head.check(&[floats(&[1, 2], &position), floats(&[2, 2], &position)], 2),
        &["`position` came as float32 [1, 2]"],
    );
}

#[test]
fn a_value_that_is_not_finite_fails_its_frame_alone() {
    let ports = [port("sigma", Dtype::Float32, "B 2"), port("position", Dtype::Float32, "B 2")];
    let head = Head::new(&localization(None), &ports).expect("refused");
    let outputs = [floats(&[3, 2], &[0.0; 6]), floats(&[3, 2], &[1.0, 1.0, 1.0, f32::NAN, 2.0, 1.0])];
    assert!(matches!(head.answer(&outputs, 0), Ok(Answer::Localization(_))));
    let failure = head.answer(&outputs, 1).expect_err("answered");
    assert_eq!(failure.code, FailureCode::InferenceFailed);
    assert_eq!(failure.message, "output `sigma` is not finite at element 1");
    let Ok(Answer::Localization(third)) = head.answer(&outputs, 2) else { panic!("refused") };
    assert_eq!((third.uncertainty.sigma_x, third.position.latitude.round()), (2.0, 45.0));
}

#[test]
fn classes_are_read_frame_by_frame() {
    let head = Head::new(&classification(), &[port("logits", Dtype::Float32, "B 3")]).expect("refused");
    let Ok(Answer::Classification(labels)) =
        head.answer(&[floats(&[2, 3], &[3.0, 2.0, 1.0, 1.0, 2.0, 3.0])], 1)
    else {
        panic!("refused")
    };
    let best: Vec<_> = labels.iter().map(|label| (&*label.label, label.score)).collect();
    assert_eq!(best, [("c", Some(3.0)), ("b", Some(2.0))]);
}

#[test]
fn tensors_keep_their_type_and_get_a_batch_axis_of_one() {
    let ports = [port("a", Dtype::Float32, "B 2 1"), port("b", Dtype::Int16, "B")];
    let head = Head::new(&OutputConfig::Tensors, &ports).expect("refused");
    let b = Output { shape: &[2], values: Values::Bytes(Dtype::Int16, &[1, 2, 3, 4]) };
    let outputs = [floats(&[2, 2, 1], &[0.0, 0.0, 1.0, -2.0]), b];
    assert_eq!(head.check(&outputs, 2), Ok(()));
    let Ok(Answer::Tensors(tensors)) = head.answer(&outputs, 1) else { panic!("refused") };
    assert_eq!(
        (&*tensors[0].name, &tensors[0].shape[..], tensors[0].dtype),
        ("a", &[1, 2, 1][..], "float32")
    );
    assert_eq!(tensors[0].data, [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    assert_eq!((&*tensors[1].name, &tensors[1].shape[..], tensors[1].dtype), ("b", &[1][..], "int16"));
    assert_eq!(tensors[1].data, [3, 4]);
}
