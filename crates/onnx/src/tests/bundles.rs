//! Bundles of exporters, with external data, and bundles that are refused.

use super::*;

/// Fixtures as exporters write them, with those that answer the same in float32.
fn catalog() -> Option<Arc<Catalog>> {
    const NAMES: [&str; 8] =
        ["classes", "double", "external", "half", "label", "metres", "quantised", "scores"];
    static CATALOG: LazyLock<Option<Arc<Catalog>>> = LazyLock::new(|| load(&NAMES));
    CATALOG.clone()
}

#[test]
fn every_export_loads() {
    let Some(catalog) = catalog() else { return };
    assert_eq!(catalog.refused(), []);
    assert_eq!(catalog.models().len(), 10);
    for model in catalog.models() {
        assert!(!model.batch_variant(), "{}", model.id());
    }
}

fn labels(catalog: &Arc<Catalog>, model: &str, batch: &[Inputs]) -> Vec<Vec<(String, Option<f64>)>> {
    let answer = |answer: Result<Answer, _>| {
        let Ok(Answer::Classification(labels)) = answer else { panic!("{answer:?}") };
        labels.into_iter().map(|label| (label.label.to_string(), label.score)).collect()
    };
    run(catalog, model, batch).expect("failed").into_iter().map(answer).collect()
}

/// Of these I and Q, the louder one is `i`, `q`, `i`; the root of the mean square is between the two.
fn three() -> [Inputs; 3] {
    [constant(0.5, -0.25, 20), constant(-0.25, 0.75, 20), constant(0.875, 0.125, 20)]
}

#[test]
fn float16_and_float64_answer_as_float32_does() {
    let Some(catalog) = catalog() else { return };
    for round in 0..3 {
        let (half, full) = (labels(&catalog, "half", &three()), labels(&catalog, "classes", &three()));
        for (half, full) in half.iter().zip(&full) {
            assert_eq!(half.len(), 3);
            for ((name, score), (expected, right)) in half.iter().zip(full) {
                let (Some(score), Some(right)) = (score, right) else { panic!("{half:?}") };
                assert!(name == expected && (score - right).abs() < 1e-3, "round {round}: {half:?} {full:?}");
            }
        }
        let place = |model| match run(&catalog, model, &[constant(0.1, -0.3, 20)]).expect("failed").remove(0)
        {
            Ok(Answer::Localization(found)) => found,
            other => panic!("{other:?}"),
        };
        let (double, float) = (place("double"), place("metres"));
        assert!(
            (double.position.longitude - float.position.longitude).abs() < 1e-9,
            "round {round}: {double:?} {float:?}"
        );
        assert!((double.uncertainty.sigma_y - (-0.3f64).exp()).abs() < 1e-6, "{double:?}");
    }
}

#[test]
fn a_quantised_model_answers_as_the_float_one_does_to_its_steps() {
    let Some(catalog) = catalog() else { return };
    let (int8, float) = (labels(&catalog, "quantised", &three()), labels(&catalog, "classes", &three()));
    for (int8, float) in int8.iter().zip(&float) {
        for ((name, score), (expected, right)) in int8.iter().zip(float) {
            let (Some(score), Some(right)) = (score, right) else { panic!("{int8:?}") };
            assert!(name == expected && (score - right).abs() < 0.01, "{int8:?} {float:?}");
        }
    }
}

#[test]
fn features_beyond_float16_fail_their_frame_alone() {
    let Some(catalog) = catalog() else { return };
    let model = catalog.resolve("half").expect("there");
    let batch = [constant(0.5, 0.25, 20), constant(70_000.0, 0.25, 20)];
    let answers = model
        .run(&batch.iter().collect::<Vec<_>>(), &mut Vec::new(), &RunTerminator::default())
        .expect("failed");
    assert!(answers[0].is_ok());
    let failure = answers[1].as_ref().expect_err("answered");
    assert_eq!(failure.code, FailureCode::InvalidFrame);
    assert!(failure.message.contains("70000") && failure.message.contains("65504"), "{}", failure.message);
    // A float32 model is given what comes.
    assert!(run(&catalog, "classes", &batch[1..]).expect("failed")[0].is_ok());
}

#[test]
fn labels_of_integers_and_of_strings_have_no_score() {
    let Some(catalog) = catalog() else { return };
    for model in ["label@1", "label@2"] {
        let said = labels(&catalog, model, &three());
        assert_eq!(said, ["i", "q", "i"].map(|label| vec![(label.to_string(), None)]), "{model}");
    }
}

#[test]
fn maps_of_scores_are_read_by_number_and_by_name() {
    let Some(catalog) = catalog() else { return };
    let expected = labels(&catalog, "classes", &three());
    for model in ["scores@1", "scores@2"] {
        let said = labels(&catalog, model, &three());
        for (said, expected) in said.iter().zip(&expected) {
            let sum: f64 = said.iter().filter_map(|(_, score)| *score).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{model}: as they are, {said:?}");
            // `classes` gives the best two.
            for ((name, score), (right, right_score)) in said.iter().zip(expected) {
                assert!(
                    name == right && (score.unwrap() - right_score.unwrap()).abs() < 1e-6,
                    "{model}: {said:?} {expected:?}"
                );
            }
        }
    }
}

#[test]
fn weights_beside_the_graph_are_found_wherever_the_program_runs() {
    let Some(catalog) = catalog() else { return };
    assert!(!Path::new("weights/scale.bin").exists(), "nothing of that name is in the working directory");
    let scores = |n: usize| {
        let mut said = labels(&catalog, "external", &[constant(0.5, -0.25, n)]).remove(0);
        said.sort_by(|a, b| a.0.cmp(&b.0));
        said.into_iter().map(|(_, score)| score.unwrap()).collect::<Vec<_>>()
    };
    let rms = f64::from((0.3125f32 / 2.0).sqrt());
    for (n, offset) in [(16, 0.0), (17, 8.0)] {
        let [i, loud, q] = scores(n)[..] else { panic!() };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(i, 0.5) && close(q, -0.5 + offset) && close(loud, 4.0 * rms), "{n}: {i} {q} {loud}");
    }
    // `sha256sum model.onnx offset.bin weights/scale.bin | sha256sum`, which model.toml states too.
    assert_eq!(
        catalog.resolve("external").expect("there").id().digest,
        "fec85b3675415115c5bab99d1626adfb2cf985d6a8ec9ed9d221668f35d1511f"
    );
}

/// What is done to a copy of a bundle.
type Change<'a> = &'a dyn Fn(&Path);

/// A repository of copies of fixtures: the bundle, the fixture, the change.
fn repository(bundles: &[(&str, &str, Change<'_>)]) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("folder");
        for entry in fs::read_dir(from).expect("read").flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).expect("copy");
            }
        }
    }
    let repository = tempfile::tempdir().expect("folder");
    for (bundle, fixture, change) in bundles {
        let folder = repository.path().join(bundle);
        copy(&fixtures().join(fixture), &folder);
        change(&folder);
    }
    repository
}

/// Replaces the last occurrence of bytes in `model.onnx`.
fn patch(folder: &Path, old: &[u8], new: &[u8]) {
    let path = folder.join("model.onnx");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.windows(old.len()).rposition(|window| window == old).expect("there");
    bytes.splice(at..at + old.len(), new.iter().copied());
    fs::write(path, bytes).expect("write");
}

#[test]
fn a_name_without_version_selects_the_highest_that_is_not_refused() {
    let Some(runtime) = runtime() else { return };
    let broken: Change<'_> =
        &|folder| fs::write(folder.join("model.onnx"), "<html>404</html>").expect("write");
    let bundles = [
        ("m/9", "versions/9", &(|_: &Path| {}) as Change<'_>),
        ("m/10", "versions/10", &|_| {}),
        ("m/11", "versions/10", broken),
        ("m/010", "versions/10", &|_| {}),
        ("m/+12", "versions/10", &|_| {}),
        ("gone/1", "versions/2", broken),
    ];
    let repository = repository(&bundles);
    let catalog = Catalog::load(repository.path(), &runtime, &Options::default()).expect("readable");
    assert_eq!(catalog.resolve("m").map(|model| model.id().version.as_str()), Ok("10"));
    let found = catalog.refused();
    let refused: Vec<_> =
        found.iter().map(|refused| (refused.name.as_str(), refused.version.as_str())).collect();
    assert_eq!(refused, [("gone", "1"), ("m", "+12"), ("m", "010"), ("m", "11")]);
    for (asked, count) in
        [("gone", 1), ("gone@1", 1), ("gone@2", 0), ("m", 3), ("m@11", 1), ("m@10", 0), ("nobody", 0)]
    {
        assert_eq!(
            catalog.refused().iter().filter(|refused| refused.name().is(asked)).count(),
            count,
            "{asked}"
        );
    }
    let message = |asked| catalog.resolve(asked).expect_err("found").message;
    assert_eq!(message("m@11"), "no model `m@11` (refused at load), loaded: m@9, m@10");
    assert_eq!(message("m@12"), "no model `m@12`, loaded: m@9, m@10");
}

#[test]
fn too_new_or_incomplete_files_are_refused_with_what_they_have() {
    let Some(runtime) = runtime() else { return };
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    let no_digest = |folder: &Path| {
        let text = fs::read_to_string(folder.join("model.toml")).expect("read");
        fs::write(folder.join("model.toml"), text.replace("sha256", "# sha256")).expect("write");
    };
    let bundles: [(&str, &str, Change<'_>); 7] = [
        ("ir/1", "versions/2", &|folder| {
            let path = folder.join("model.onnx");
            let mut bytes = fs::read(&path).expect("read");
            bytes[..2].copy_from_slice(&[8, 99]);
            fs::write(path, bytes).expect("write");
        }),
        ("lfs/1", "versions/2", &|folder| fs::write(folder.join("model.onnx"), pointer).expect("write")),
        ("missing/1", "external/1", &|folder| fs::remove_file(folder.join("offset.bin")).expect("remove")),
        ("operator/1", "label/2", &|folder| patch(folder, b"LabelEncoder", b"LabelEncodes")),
        ("opset/1", "versions/2", &|folder| patch(folder, &[16, 17], &[16, 99])),
        ("outside/1", "external/1", &|folder| {
            fs::rename(folder.join("offset.bin"), folder.join("../a.bin")).expect("rename");
            patch(folder, b"offset.bin", b"./../a.bin");
        }),
        ("short/1", "external/1", &|folder| {
            fs::write(folder.join("weights/scale.bin"), [0; 11]).expect("write");
            no_digest(folder);
        }),
    ];
    let expected: [(&str, &[&str]); 7] = [
        (
            "ir",
            &[
                "onnx runtime 1.",
                "can't load model.onnx (IR version 99, opset 17)",
                "max supported IR version",
            ],
        ),
        ("lfs", &["model.onnx is a Git LFS pointer", "git lfs pull"]),
        ("missing", &["can't read", "offset.bin"]),
        ("operator", &["onnx runtime 1.", "ai.onnx.ml 3)", "LabelEncodes"]),
        ("opset", &["onnx runtime 1.", "(IR version 8, opset 99)", "till opset"]),
        ("outside", &["`./../a.bin`", "outside the bundle's folder"]),
        ("short", &["can't load model.onnx"]),
    ];
    let repository = repository(&bundles);
    let catalog = Catalog::load(repository.path(), &runtime, &Options::default()).expect("readable");
    assert!(catalog.models().is_empty());
    for ((name, parts), refused) in expected.into_iter().zip(catalog.refused()) {
        assert_eq!(refused.name, name);
        for part in parts {
            assert!(refused.reason.contains(part), "{part:?} is not in {refused}");
        }
        assert!(!refused.reason.contains('\n'), "{refused}");
    }
}
