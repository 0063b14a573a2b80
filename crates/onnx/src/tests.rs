//! Runs bundles with their ONNX files. Skipped, with a message, where ONNX Runtime is missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::{fs, thread};

use sferic_actors::frame::{Content, IqSamples};
use sferic_actors::outcome::{Answer, FailureCode};
use sferic_actors::ports::{LoadedModel, RunCanceller, Runner};
use sferic_actors::tensor::{Inputs, Tensor};
use sferic_models::{OnnxFile, Reading};
use sferic_samples::Datatype;

use super::provider::Threads;
use super::run_inputs::{RunData, RunInput};
use super::session::{Opening, ReadBy, RunOutputs, SessionOptions, SharedSession};
use super::*;

mod bundles;
mod checks;
mod inputs;
mod loads;
mod providers;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn runtime() -> Option<Runtime> {
    match Runtime::open(None) {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            sferic_tools::skip(error);
            None
        }
    }
}

/// The fixtures of these names.
fn load(names: &[&str]) -> Option<Arc<Catalog>> {
    let repository = tempfile::tempdir().expect("no folder");
    for name in names {
        std::os::unix::fs::symlink(fixtures().join(name), repository.path().join(name)).expect("no link");
    }
    let catalog = Catalog::load(repository.path(), &runtime()?, &Options::default());
    Some(Arc::new(catalog.expect("no readable repository")))
}

/// Fixtures for tests of answers, loaded once; without `slow`.
fn catalog() -> Option<Arc<Catalog>> {
    const NAMES: [&str; 10] = [
        "classes", "degrees", "metres", "mixing", "poison", "ragged", "static1", "tensors", "versions",
        "width32",
    ];
    static CATALOG: LazyLock<Option<Arc<Catalog>>> = LazyLock::new(|| load(&NAMES));
    CATALOG.clone()
}

/// `n` samples of one constant value each of I and Q.
fn constant(i: f32, q: f32, n: usize) -> Inputs {
    Tensor { shape: [1, 2, n], data: [vec![i; n], vec![q; n]].concat().into() }.into()
}

/// A frame of this many samples.
fn frame(channels: usize, n: usize) -> Content {
    let bytes = vec![0; 2 * channels * n].into();
    IqSamples { bytes, datatype: Datatype::Ci8, channels, sample_rate: None }.into()
}

type Results = Vec<Result<Answer, sferic_actors::outcome::Failure>>;

fn run(catalog: &Arc<Catalog>, model: &str, batch: &[Inputs]) -> Result<Results, String> {
    let model = catalog.resolve(model).map_err(|failure| failure.message)?;
    let batch: Vec<&Inputs> = batch.iter().collect();
    OnnxRunner::new().run(&**model, &batch).map_err(|error| error.to_string())
}

fn latitude(answer: &Answer) -> f64 {
    let Answer::Localization(found) = answer else { panic!("{answer:?}") };
    found.position.latitude
}

#[test]
fn every_fixture_loads() {
    let Some(catalog) = catalog() else { return };
    assert_eq!(catalog.refused(), []);
    assert_eq!(catalog.models().len(), 12);
    for model in catalog.models() {
        assert!((1..=8).contains(&model.max_batch()), "{}", model.id());
        assert_eq!(model.costs()[0].batch, 1);
    }
}

#[test]
fn answers_are_those_worked_out_by_hand_alone_and_in_a_batch() {
    let Some(catalog) = catalog() else { return };
    let batch: Vec<Inputs> = [0.1, 0.2, 0.3].map(|i| constant(i, -0.25, 40)).into();
    let together = run(&catalog, "degrees", &batch).expect("failed");
    for ((i, tensor), answer) in [0.1f32, 0.2, 0.3].into_iter().zip(&batch).zip(&together) {
        let Ok(Answer::Localization(found)) = answer else { panic!("{answer:?}") };
        let rms = f64::from((i * i + 0.0625) / 2.0).sqrt();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
        assert!(
            close(found.position.latitude, 90.0 * f64::from(i)) && close(found.position.longitude, -90.0),
            "{found:?}"
        );
        assert!(
            close(found.uncertainty.sigma_x, 10.0 * rms) && close(found.uncertainty.sigma_y, 20.0 * rms),
            "{found:?}"
        );
        assert!(
            close(found.uncertainty.theta, 30.0) && close(found.ellipse.rotation.rem_euclid(180.0), 120.0),
            "{found:?}"
        );
        assert!(close(found.confidence.expect("stated"), rms), "{found:?}");
        let alone = run(&catalog, "degrees", std::slice::from_ref(tensor)).expect("failed");
        assert!(close(latitude(alone[0].as_ref().expect("failed")), found.position.latitude));
    }
}

#[test]
fn metres_classes_and_tensors_come_through() {
    let Some(catalog) = catalog() else { return };
    let one =
        |model| run(&catalog, model, &[constant(0.5, -0.1, 8)]).expect("failed").remove(0).expect("failed");
    let Answer::Localization(found) = one("metres") else { panic!() };
    // 500 m east and 100 m south of 45 N 7.6 E, with 78847 and 111132 m a degree there.
    assert!((found.position.longitude - (7.6 + 500.0 / 78_847.0)).abs() < 1e-5, "{found:?}");
    assert!((found.position.latitude - (45.0 - 100.0 / 111_132.0)).abs() < 1e-5, "{found:?}");
    assert!((found.uncertainty.sigma_x - 0.5f64.exp()).abs() < 1e-6 && found.confidence.is_none());
    let Answer::Classification(labels) = one("classes") else { panic!() };
    assert_eq!(labels.iter().map(|label| &*label.label).collect::<Vec<_>>(), ["i", "loud"]);
    assert!(
        labels[0].score > labels[1].score && labels.iter().filter_map(|label| label.score).sum::<f64>() < 1.0
    );
    let Answer::Tensors(tensors) = one("tensors") else { panic!() };
    let described: Vec<_> = tensors
        .iter()
        .map(|tensor| (&*tensor.name, tensor.dtype, &tensor.shape[..], tensor.data.len()))
        .collect();
    assert_eq!(
        described,
        [
            ("mean", "float32", &[1, 2][..], 8),
            ("count", "int64", &[1], 8),
            ("loud", "bool", &[1, 1], 1),
            ("double", "float64", &[1, 2, 1], 16)
        ]
    );
    assert_eq!(tensors[1].data, 16i64.to_le_bytes());
}

#[test]
fn an_output_of_data_dependent_length_is_complete() {
    let Some(catalog) = catalog() else { return };
    for above in [3, 0, 7, 3] {
        let values = (0..16).map(|index| if index < above { 0.75 } else { 0.25 }).collect::<Vec<f32>>();
        let frame = Tensor { shape: [1, 2, 8], data: values.into() };
        let answer = run(&catalog, "ragged", &[frame.into()]).expect("failed").remove(0).expect("failed");
        let Answer::Tensors(tensors) = answer else { panic!("{answer:?}") };
        assert_eq!((&tensors[0].shape[..], tensors[0].data.len()), (&[1, above][..], 4 * above));
    }
}

#[test]
fn outputs_in_use_are_not_overwritten_and_returned_ones_are_reused() {
    let Some(runtime) = runtime() else { return };
    let onnx = OnnxFile::read(&fixtures().join("degrees/1")).expect("there");
    let options = SessionOptions { threads: Threads { sessions: 1, intra: 1 }, memory_pattern: false };
    let mut session =
        SharedSession::open(runtime.environment(), &onnx, options, &[], Opening::default()).expect("opened");
    session
        .select(["x"].into_iter(), [("position", Reading::Floats)].into_iter(), [].into_iter())
        .expect("named");
    let run = |level: f32| {
        let input = RunInput { shape: vec![1, 1, 2, 8], data: RunData::Floats(&[level; 16]) };
        session.run(&[input], ReadBy::Head, &RunTerminator::default()).expect("failed")
    };
    let latitude = |outputs: &RunOutputs<'_>| {
        let latitude = &outputs.views().expect("a view")[0].floats(0)[0];
        (latitude.round(), std::ptr::from_ref(latitude))
    };
    let (first, second) = (run(0.1), run(0.2));
    let (nine, place) = latitude(&first);
    assert_eq!((nine, latitude(&second).0), (9.0, 18.0));
    drop(first);
    let third = run(0.3);
    assert_eq!(latitude(&third), (27.0, place));
    assert_eq!(latitude(&second).0, 18.0);
}

#[test]
fn nan_fails_its_frame_alone_and_a_failed_run_the_batch() {
    let Some(catalog) = catalog() else { return };
    let mut results =
        run(&catalog, "poison", &[constant(0.1, 0.1, 8), constant(0.95, 0.1, 8), constant(0.2, 0.1, 8)])
            .expect("failed");
    assert!(results[0].is_ok() && results[2].is_ok());
    let failure = results.remove(1).expect_err("answered");
    assert_eq!(failure.code, FailureCode::InferenceFailed);
    assert!(failure.message.contains("`position` is not finite"), "{}", failure.message);
    let error =
        run(&catalog, "poison", &[constant(0.1, 0.1, 8), constant(-0.95, 0.1, 8)]).expect_err("answered");
    assert!(error.contains("poison@1") && error.contains("out of data bounds"), "{error}");
    assert!(
        run(&catalog, "poison", &[constant(0.1, 0.1, 8)]).expect("failed")[0].is_ok(),
        "and the session goes on"
    );
}

#[test]
fn a_fixed_batch_axis_and_a_mixing_model_mean_batches_of_one() {
    let Some(catalog) = catalog() else { return };
    let model = |name| Arc::clone(catalog.resolve(name).expect("there"));
    assert_eq!((model("static1").max_batch(), model("static1").batch_variant()), (1, false));
    assert_eq!((model("mixing").max_batch(), model("mixing").batch_variant()), (1, true));
    assert!(!model("degrees").batch_variant());
    assert!(run(&catalog, "static1", &[constant(0.1, 0.1, 8), constant(0.1, 0.1, 8)]).is_err());
}

#[test]
fn a_file_without_batch_axis_has_one_of_one() {
    let Some(runtime) = runtime() else { return };
    let model = Model::load("unbatched", "1", &fixtures().join("unbatched/1"), &runtime, &Options::default());
    let model = model.expect("refused");
    assert_eq!(model.max_batch(), 1);
    let shown =
        [model.inputs(), model.outputs()].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown[..2], ["`x`, float32 [1, 2, N]", "`position`, float32 [1, 2]"]);
    let run = |input: Inputs| {
        let mut answers = model.run(&[&input], &mut Vec::new(), &RunTerminator::default()).expect("failed");
        answers.remove(0).expect("failed")
    };
    // Twice, so that outputs are used again, and of another length.
    for n in [16, 16, 24] {
        let Answer::Localization(found) = run(constant(0.1, -0.25, n)) else { panic!("another kind") };
        let (latitude, longitude) = (found.position.latitude, found.position.longitude);
        assert!((latitude - 9.0).abs() < 1e-4 && (longitude + 90.0).abs() < 1e-4, "{found:?}");
        assert!((found.uncertainty.sigma_y / found.uncertainty.sigma_x - 2.0).abs() < 1e-6);
    }
    let raw = run(Inputs { is_raw: true, ..constant(0.1, -0.25, 16) });
    let Answer::Tensors(tensors) = raw else { panic!("{raw:?}") };
    assert_eq!((&*tensors[0].name, &tensors[0].shape[..]), ("position", &[1, 2][..]));
}

#[test]
fn a_fixed_width_is_a_limit_of_the_frame() {
    let Some(catalog) = catalog() else { return };
    let model = catalog.resolve("width32").expect("there");
    assert_eq!(model.accepts(&frame(1, 32)), Ok(()));
    let failure = model.accepts(&frame(1, 33)).expect_err("taken");
    assert_eq!(failure.code, FailureCode::ShapeMismatch);
    assert!(failure.message.contains("33") && failure.message.contains("32"), "{}", failure.message);
    assert_eq!(
        catalog.resolve("degrees").expect("there").accepts(&frame(2, 32)).map_err(|f| f.code),
        Err(FailureCode::ShapeMismatch)
    );
}

#[test]
fn a_name_without_version_selects_the_highest_version_as_a_number() {
    let Some(catalog) = catalog() else { return };
    let version = |asked| catalog.resolve(asked).map(|model| model.id().version.clone());
    assert_eq!(version("versions").as_deref(), Ok("10"));
    assert_eq!(version("versions@9").as_deref(), Ok("9"));
    for asked in ["versions@3", "version", "versions@", ""] {
        let failure = version(asked).expect_err("found");
        assert_eq!(failure.code, FailureCode::ModelNotFound);
        assert!(
            failure.message.contains(&format!("`{asked}`")) && failure.message.contains("versions@10"),
            "{}",
            failure.message
        );
    }
    let Ok(results) = run(&catalog, "versions@2", &[constant(0.1, 0.1, 8)]) else { panic!() };
    let Ok(Answer::Classification(labels)) = &results[0] else { panic!() };
    assert_eq!(&*labels[0].label, "two");
}

#[test]
fn unequal_shapes_are_an_error() {
    let Some(catalog) = catalog() else { return };
    let error = run(&catalog, "degrees", &[constant(0.1, 0.1, 4), constant(0.1, 0.1, 5)]).expect_err("ran");
    assert!(error.contains("[1, 2, 4]") && error.contains("[1, 2, 5]"), "{error}");
    assert_eq!(run(&catalog, "degrees", &[]), Ok(Vec::new()));
}

#[test]
fn bundles_that_do_not_fit_are_refused_and_the_others_load() {
    let Some(runtime) = runtime() else { return };
    let repository = tempfile::tempdir().expect("folder");
    let made = |bundle: &str, from: &str, change: &dyn Fn(String) -> String| {
        let folder = repository.path().join(bundle);
        fs::create_dir_all(&folder).expect("folder");
        fs::copy(fixtures().join(from).join("model.onnx"), folder.join("model.onnx")).expect("copy");
        let text = fs::read_to_string(fixtures().join(from).join("model.toml")).expect("read");
        fs::write(folder.join("model.toml"), change(text)).expect("write");
    };
    made("good/1", "degrees/1", &|text| text);
    made("good/latest", "degrees/1", &|text| text);
    made("digest/1", "metres/1", &|text| text.replace("sha256 = \"", "sha256 = \"0"));
    made("output/1", "degrees/1", &|text| text.replace("\"uncertainty\"", "\"sigmas\""));
    made("rows/1", "degrees/1", &|text| text.replace("kind = \"iq\"", "kind = \"log_mel\""));
    made("frames/1", "width32/1", &|text| text.replace("kind = \"iq\"", "kind = \"iq\"\nframes = 64"));
    made("labels/1", "classes/1", &|text| text.replace("\"loud\"", "\"loud\", \"more\""));
    fs::create_dir_all(repository.path().join("empty")).expect("folder");
    fs::create_dir_all(repository.path().join("missing/1")).expect("folder");
    made("garbage/1", "versions/2", &|text| text);
    fs::write(repository.path().join("garbage/1/model.onnx"), "not a model").expect("write");
    fs::write(repository.path().join("README.md"), "passed over").expect("write");

    let catalog = Catalog::load(repository.path(), &runtime, &Options::default()).expect("readable");
    assert_eq!(catalog.models().iter().map(|model| model.id().to_string()).collect::<Vec<_>>(), ["good@1"]);
    let expected: [(&str, &[&str]); 9] = [
        ("digest/1", &["sha256", "states 0"]),
        ("empty", &["no version folder"]),
        ("frames/1", &["`x`, float32 [B, 1, 2, 32]", "frames = 64"]),
        ("garbage/1", &["can't load model.onnx"]),
        ("good/latest", &["`latest` is no number"]),
        ("labels/1", &["`logits`, float32 [B, 3]", "float32 [B, 4]"]),
        ("missing/1", &["can't read", "model.toml"]),
        ("output/1", &["`sigmas`", "`position`, `uncertainty`, `confidence`"]),
        ("rows/1", &["`x`, float32 [B, 1, 2, N]", "rows = 128", "takes 2"]),
    ];
    assert_eq!(catalog.refused().len(), expected.len(), "{:?}", catalog.refused());
    for ((folder, parts), refused) in expected.into_iter().zip(catalog.refused()) {
        assert!(refused.folder.ends_with(folder), "{refused}");
        for part in parts {
            assert!(refused.reason.contains(part), "{part:?} is not in {refused}");
        }
    }
    let error =
        Catalog::load(&repository.path().join("nowhere"), &runtime, &Options::default()).expect_err("read");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn one_session_gives_every_thread_the_same_answers() {
    let Some(catalog) = catalog() else { return };
    let model = catalog.resolve("degrees").expect("there");
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let mut runner = OnnxRunner::new();
                for round in 0..200usize {
                    let values: Vec<f32> = (0..=round % 4).map(|k| 0.01 * (1 + k + thread) as f32).collect();
                    let tensors: Vec<Inputs> = values.iter().map(|&i| constant(i, 0.3, 16 + round)).collect();
                    let answers = runner.run(&**model, &tensors.iter().collect::<Vec<_>>()).expect("failed");
                    for (value, answer) in values.iter().zip(answers) {
                        let found = latitude(&answer.expect("failed"));
                        assert!((found - 90.0 * f64::from(*value)).abs() < 1e-3, "{found} for {value}");
                    }
                }
            });
        }
    });
}
