//! Golden cases, outputs that are not finite, and files that are too large.

use super::*;

/// A copy of the fixture to spoil.
fn copy(fixture: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("no folder");
    for file in fs::read_dir(fixtures().join(fixture)).expect("there") {
        let path = file.expect("there").path();
        fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    folder
}

#[track_caller]
fn refused(folder: &Path, runtime: &Runtime, options: &Options, parts: &[&str]) {
    let error = Model::load("m", "1", folder, runtime, options).expect_err("loaded");
    parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in {error:?}"));
}

#[test]
fn golden_cases_are_run_at_every_load() {
    let Some(runtime) = runtime() else { return };
    let options = Options::default();
    Model::load("golden", "1", &fixtures().join("golden/1"), &runtime, &options).expect("refused");
    let text = fs::read_to_string(fixtures().join("golden/1/golden.json")).expect("there");
    let cases: serde_json::Value = serde_json::from_str(&text).expect("json");
    let folder = copy("golden/1");
    let spoiled = |change: &dyn Fn(&mut serde_json::Value), parts: &[&str]| {
        let mut cases = cases.clone();
        change(&mut cases);
        fs::write(folder.path().join("golden.json"), cases.to_string()).expect("written");
        refused(folder.path(), &runtime, &options, parts);
    };
    // 0, 0, 1 in float32; the right one begins with the mean of I, -0.5125.
    let wrong = "AAAAAAAAAAAAAIA/";
    spoiled(
        &|file| file["cases"][1]["outputs"]["logits"]["data"] = wrong.into(),
        &["golden case 2", "`logits` at element 0 is -0.51", "expected 0 within 0.00001"],
    );
    spoiled(
        &|file| file["cases"][0]["outputs"]["label"] = file["cases"][0]["outputs"]["logits"].clone(),
        &["golden case 1", "no output \"label\""],
    );
    spoiled(
        &|file| file["cases"][0]["inputs"]["y"] = file["cases"][0]["inputs"]["x"].clone(),
        &["golden case 1", "no input \"y\""],
    );
    spoiled(&|file| file["cases"][0]["inputs"] = serde_json::json!({}), &["golden case 1", "no input `x`"]);
    spoiled(
        &|file| file["cases"][0]["inputs"]["x"] = file["cases"][0]["outputs"]["logits"].clone(),
        &["golden case 1", "`x` is float32 [3]", "[B, 1, 2, N]"],
    );
    spoiled(&|file| file["cases"] = 3.into(), &["golden.json", "invalid type"]);
    fs::remove_file(folder.path().join("golden.json")).expect("removed");
    refused(folder.path(), &runtime, &options, &["can't read", "golden.json"]);
}

#[test]
fn a_model_that_is_not_finite_for_noise_loads_and_says_so() {
    let Some(runtime) = runtime() else { return };
    let load = |name: &str| {
        let folder = fixtures().join(name).join("1");
        Model::load(name, "1", &folder, &runtime, &Options::default()).expect("refused")
    };
    assert_eq!(load("degrees").check_finite(), Ok(()));
    let error = load("nan").check_finite().expect_err("finite");
    assert!(error.contains("output `scores` is not finite at element 0"), "{error}");
}

#[test]
fn a_bundle_over_the_limit_is_refused_with_both_sizes() {
    let Some(runtime) = runtime() else { return };
    let folder = fixtures().join("external/1");
    let total: u64 = ["model.toml", "model.onnx", "offset.bin", "weights/scale.bin"]
        .iter()
        .map(|name| fs::metadata(folder.join(name)).expect("there").len())
        .sum();
    let with = |max_bytes| Options { max_bytes, ..Options::default() };
    let (has, most) = (format!("have {total} bytes"), format!("models.max_bytes, {}", total - 1));
    refused(&folder, &runtime, &with(total - 1), &[&has, &most]);
    assert!(Model::load("m", "1", &folder, &runtime, &with(total)).is_ok());
}
