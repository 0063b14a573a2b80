//! Inputs against an ONNX file, and frames against both.

use sferic_actors::frame::IqSamples;
use sferic_features::Kind;
use sferic_samples::Datatype;

use super::super::input_section::TensorConfig;
use super::super::port::{Axis, Elements};
use super::*;

fn port(name: &str, dtype: Dtype, axes: &str) -> Port {
    let axis = |axis: &str| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed);
    Port { name: name.into(), elements: Elements::Numbers(dtype), axes: axes.split(' ').map(axis).collect() }
}

fn ports() -> [Port; 3] {
    [
        port("levels", Dtype::Float32, "B 4"),
        port("iq", Dtype::Float32, "B 1 2 N"),
        port("power", Dtype::Float32, "B 1"),
    ]
}

fn computed(name: &str, kind: Kind, rate: f64) -> InputConfig {
    let features =
        FeatureConfig { kind, sample_rate_hz: Some(rate), min_samples: Some(2), ..FeatureConfig::default() };
    InputConfig { name: Some(name.into()), source: InputSource::Features(features) }
}

fn levels() -> InputConfig {
    let tensor = TensorConfig::new(vec![4], Some(Dtype::Float64));
    InputConfig { name: Some("levels".into()), source: InputSource::Tensor(tensor) }
}

fn three() -> Inputs {
    let configs = [computed("iq", Kind::Iq, 48e3), computed("power", Kind::Power, 48e3), levels()];
    Inputs::new(&configs, &ports()).expect("refused")
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> InputTensor {
    let data = vec![0; dtype.size() * shape.iter().product::<usize>()].into();
    InputTensor { name: name.into(), dtype, shape: shape.into(), data }
}

fn content(rate: Option<f64>, tensors: Vec<InputTensor>, is_raw: bool) -> Content {
    let samples = rate.map(|rate| IqSamples {
        bytes: vec![0; 8].into(),
        datatype: Datatype::Ci8,
        channels: 1,
        sample_rate: Some(rate),
    });
    Content { samples, tensors, is_raw, ..Content::default() }
}

#[test]
fn each_input_of_the_file_is_listed_once() {
    let names = three().iter().map(|input| input.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names, ["iq", "power", "levels"], "in the order of model.toml");
    let (iq, power) = (computed("iq", Kind::Iq, 1.0), computed("power", Kind::Power, 1.0));
    let other = InputConfig { name: Some("other".into()), ..iq.clone() };
    let unnamed = InputConfig { name: None, ..iq.clone() };
    for (configs, parts) in [
        (&[iq.clone(), power.clone()][..], &["`levels`, float32 [B, 4]", "does not list"][..]),
        (&[iq.clone(), power.clone(), iq.clone()], &["`iq` twice"]),
        (&[iq, power, levels(), other], &["`other`", "no such input", "`levels`, `iq`, `power`"]),
        (&[unnamed], &["3 inputs (`levels`, `iq`, `power`)", "[[inputs]]"]),
    ] {
        let error = Inputs::new(configs, &ports()).expect_err("accepted");
        parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in {error:?}"));
    }
}

#[test]
fn a_frame_suits_all_inputs_or_says_which_it_does_not() {
    let inputs = three();
    let good = || tensor("levels", Dtype::Float64, &[4]);
    assert_eq!(inputs.fits(&content(Some(48e3), vec![good()], false)), Ok(()));
    let unknown = tensor("power", Dtype::Float32, &[1]);
    for (content, code, parts) in [
        (
            content(Some(48e3), vec![], false),
            FailureCode::ShapeMismatch,
            &["tensors: none", "`levels`, float64 [4]"][..],
        ),
        (
            content(Some(48e3), vec![tensor("level", Dtype::Float64, &[4])], false),
            FailureCode::ShapeMismatch,
            &["\"level\"", "`levels`"],
        ),
        (
            content(Some(48e3), vec![tensor("levels", Dtype::Float32, &[4])], false),
            FailureCode::ShapeMismatch,
            &["float32 [4]", "float64 [4]"],
        ),
        (
            content(Some(48e3), vec![tensor("levels", Dtype::Float64, &[2, 2])], false),
            FailureCode::ShapeMismatch,
            &["[2, 2]", "[4]"],
        ),
        (
            content(Some(48e3), vec![good(), unknown], false),
            FailureCode::ShapeMismatch,
            &["\"power\"", "takes `levels`"],
        ),
        (content(None, vec![good()], false), FailureCode::InvalidFrame, &["neither `samples` nor `iq_data`"]),
        (content(Some(44e3), vec![good()], false), FailureCode::ShapeMismatch, &["44000"]),
    ] {
        let failure = inputs.fits(&content).expect_err("taken");
        assert_eq!(failure.code, code, "{failure:?}");
        parts.iter().for_each(|part| assert!(failure.message.contains(part), "{part:?}: {failure:?}"));
    }
    // Two inputs that want different rates suit no frame.
    let apart = [computed("iq", Kind::Iq, 48e3), computed("power", Kind::Power, 96e3), levels()];
    let apart = Inputs::new(&apart, &ports()).expect("refused");
    for rate in [48e3, 96e3] {
        assert!(apart.fits(&content(Some(rate), vec![good()], false)).is_err());
    }
}

#[test]
fn tensors_alone_are_for_a_model_without_other_inputs() {
    let inputs = Inputs::new(&[levels()], &ports()[..1]).expect("refused");
    let good = || vec![tensor("levels", Dtype::Float64, &[4])];
    assert_eq!(inputs.fits(&content(None, good(), false)), Ok(()));
    let failure = inputs.fits(&content(Some(48e3), good(), false)).expect_err("taken");
    assert!(failure.code == FailureCode::ShapeMismatch && failure.message.contains("tensors alone"));
}

#[test]
fn raw_tensors_stand_for_any_input_in_the_type_of_the_file() {
    let inputs = three();
    let levels = || tensor("levels", Dtype::Float32, &[4]);
    let (iq, power) = (tensor("iq", Dtype::Float32, &[1, 2, 9]), tensor("power", Dtype::Float32, &[1]));
    assert_eq!(inputs.fits(&content(None, vec![iq.clone(), levels(), power.clone()], true)), Ok(()));
    assert_eq!(inputs.fits(&content(Some(48e3), vec![levels()], true)), Ok(()), "the others are computed");
    for (content, part) in [
        (content(None, vec![iq, levels()], true), "neither `samples`"),
        (content(Some(48e3), vec![tensor("levels", Dtype::Float32, &[5])], true), "`levels`, float32 [B, 4]"),
        (
            content(Some(48e3), vec![levels(), tensor("x", Dtype::Int8, &[1])], true),
            "takes `iq`, `power`, `levels`",
        ),
        (content(None, vec![tensor("x", Dtype::Int8, &[1])], true), "\"x\""),
    ] {
        let failure = inputs.fits(&content).expect_err("taken");
        assert!(failure.message.contains(part), "{part:?}: {failure:?}");
    }
}
