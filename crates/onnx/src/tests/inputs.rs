//! Models of several inputs, tensors that frames bring, and raw access.

use sferic_actors::tensor::{Dtype, Input, InputTensor};

use super::*;

fn catalog() -> Option<Arc<Catalog>> {
    const NAMES: [&str; 5] = ["degrees", "given", "several", "static1", "types"];
    static CATALOG: LazyLock<Option<Arc<Catalog>>> = LazyLock::new(|| load(&NAMES));
    CATALOG.clone()
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Input {
    Input::Given(InputTensor { name: name.into(), dtype, shape: shape.into(), data: data.into() })
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn inputs(first: Input, others: Vec<Input>) -> Inputs {
    Inputs { first, others, is_raw: false, left_out: Vec::new(), clocks: Vec::new() }
}

/// The raw outputs, by name: type, shape and bytes.
type Raw = Vec<(String, &'static str, Vec<usize>, Vec<u8>)>;

fn tensors(answer: &Result<Answer, sferic_actors::outcome::Failure>) -> Raw {
    let Ok(Answer::Tensors(tensors)) = answer else { panic!("{answer:?}") };
    let one = |tensor: &sferic_actors::outcome::NamedTensor| {
        (tensor.name.to_string(), tensor.dtype, tensor.shape.clone(), tensor.data.clone())
    };
    tensors.iter().map(one).collect()
}

fn several(level: f32) -> Inputs {
    let iq = Tensor { shape: [1, 2, 8], data: [vec![level; 8], vec![-level; 8]].concat().into() };
    let power = Tensor { shape: [1, 1, 1], data: vec![10.0 * level].into() };
    let levels = [1.0, 2.0, 3.0, level].map(f64::from);
    inputs(
        tensor("levels", Dtype::Float64, &[4], doubles(&levels)),
        vec![Input::Computed(iq), Input::Computed(power)],
    )
}

#[test]
fn each_input_gets_its_own_alone_and_in_a_batch() {
    let Some(catalog) = catalog() else { return };
    assert_eq!(catalog.refused(), []);
    assert!(catalog.models().iter().all(|model| !model.batch_variant()));
    let batch = [0.25, 0.5, 0.75].map(several);
    for round in 0..3 {
        let together = run(&catalog, "several", &batch).expect("failed");
        for (answer, level) in together.iter().zip([0.25f32, 0.5, 0.75]) {
            let expected = [
                ("mean".to_owned(), "float32", vec![1, 2], floats(&[level, -level])),
                ("level".to_owned(), "float32", vec![1, 1], floats(&[10.0 * level])),
                ("twice".to_owned(), "float32", vec![1, 4], floats(&[2.0, 4.0, 6.0, 2.0 * level])),
            ];
            assert_eq!(tensors(answer), expected, "round {round}");
            let alone = run(&catalog, "several", &[several(level)]).expect("failed");
            assert_eq!(tensors(&alone[0]), expected);
        }
    }
    let other = inputs(several(0.5).first, vec![several(0.5).others.remove(0)]);
    assert!(run(&catalog, "several", &[other]).expect_err("ran").contains("2 inputs, expected 3"));
}

#[test]
fn tensors_are_converted_to_the_types_of_the_file() {
    let Some(catalog) = catalog() else { return };
    let frame = |small: [u8; 2], half: [f64; 2], flag: u8| {
        inputs(
            tensor("small", Dtype::Uint8, &[2], small.into()),
            vec![
                tensor("half", Dtype::Float64, &[2], doubles(&half)),
                tensor("flag", Dtype::Bool, &[], vec![flag]),
            ],
        )
    };
    let batch = [frame([0, 255], [1.5, -0.1], 1), frame([7, 8], [65_504.0, 2e-24], 0)];
    let answers = run(&catalog, "types", &batch).expect("failed");
    let int64 = |values: [i64; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let named = |small: [i64; 2], half: [u8; 4], flag: u8| {
        vec![
            ("small_out".to_owned(), "int64", vec![1, 2], int64(small)),
            ("half_out".to_owned(), "float16", vec![1, 2], half.to_vec()),
            ("flag_out".to_owned(), "bool", vec![1], vec![flag]),
        ]
    };
    // 1.5 and -0.1, 65504 and 0 as float16, by hand.
    assert_eq!(tensors(&answers[0]), named([0, 255], [0x00, 0x3e, 0x66, 0xae], 1));
    assert_eq!(tensors(&answers[1]), named([7, 8], [0xff, 0x7b, 0x00, 0x00], 0));
}

#[test]
fn raw_frames_bring_what_would_be_computed_and_get_what_the_head_reads() {
    let Some(catalog) = catalog() else { return };
    let raw = |level: f32| {
        let data = floats(&[[level; 8], [0.5; 8]].concat());
        Inputs { is_raw: true, ..inputs(tensor("x", Dtype::Float32, &[1, 2, 8], data), Vec::new()) }
    };
    for model in ["degrees", "static1"] {
        let answers = run(&catalog, model, &[raw(0.5)]).expect("failed");
        let named: Vec<_> = tensors(&answers[0]).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(named, ["position", "uncertainty", "confidence"]);
        assert_eq!(tensors(&answers[0])[0].3, floats(&[45.0, 180.0]));
    }
    let two = run(&catalog, "degrees", &[raw(0.1), raw(0.2)]).expect("failed");
    assert_eq!(tensors(&two[1])[0].3, floats(&[18.0, 180.0]));
    // The same as computed features, and the head reads them.
    let computed = run(&catalog, "degrees", &[constant(0.2, 0.5, 8)]).expect("failed");
    assert!((latitude(computed[0].as_ref().expect("failed")) - 18.0).abs() < 1e-4);
    // Computed features whose raw outputs are wanted.
    let mixed = Inputs { is_raw: true, ..constant(0.2, 0.5, 8) };
    assert_eq!(tensors(&run(&catalog, "degrees", &[mixed]).expect("failed")[0]), tensors(&two[1]));
    // Raw and other frames never share a run.
    let error = run(&catalog, "degrees", &[raw(0.1), constant(0.1, 0.5, 8)]).expect_err("ran");
    assert!(error.contains("a batch of"), "{error}");
}

#[test]
fn raw_frames_are_checked_and_their_answers_rebound() {
    let Some(catalog) = catalog() else { return };
    let model = catalog.resolve("degrees").expect("there");
    let content = |shape: &[usize], is_raw| {
        let data = vec![0; 4 * shape.iter().product::<usize>()].into();
        let tensor = InputTensor { name: "x".into(), dtype: Dtype::Float32, shape: shape.into(), data };
        Content { tensors: vec![tensor], is_raw, ..Content::default() }
    };
    assert_eq!(model.accepts(&content(&[1, 2, 8], true)), Ok(()));
    let failure = model.accepts(&content(&[2, 8], true)).expect_err("taken");
    assert!(
        failure.code == FailureCode::ShapeMismatch && failure.message.contains("[B, 1, 2, N]"),
        "{failure:?}"
    );
    let failure = model.accepts(&content(&[1, 2, 8], false)).expect_err("taken");
    assert!(
        failure.code == FailureCode::ShapeMismatch && failure.message.contains("takes none"),
        "{failure:?}"
    );
    let raw = Inputs { is_raw: true, ..constant(0.2, 0.5, 8) };
    for inputs in [raw, constant(0.2, 0.5, 8)] {
        let answer = run(&catalog, "degrees", &[inputs]).expect("failed").remove(0).expect("failed");
        assert_eq!(model.rebind(answer.clone()), Some(answer));
    }
}
