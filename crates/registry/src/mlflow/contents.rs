//! Which files of a logged model make a bundle, and under which names.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The most entries of a logged model, its folders included.
pub(super) const MAX_ENTRIES: usize = 1000;

/// The most folders in each other.
pub(super) const MAX_DEPTH: usize = 8;

/// Where `extra_files=` of `mlflow.onnx.log_model` are put.
const EXTRA: &str = "extra_files/";

/// What MLflow writes beside a network for its own use.
const MLFLOWS_OWN: [&str; 10] = [
    "MLmodel",
    "conda.yaml",
    "constraints.txt",
    "environment_variables.txt",
    "input_example.json",
    "python_env.yaml",
    "registered_model_meta",
    "requirements.txt",
    "serving_input_example.json",
    "code",
];

/// A file of a logged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path below the model's folder, with slashes.
    pub(super) path: String,
    /// Bytes, where the list says how many.
    pub(super) size: Option<u64>,
}

/// Joins a name from a list to a folder's path.
///
/// # Errors
/// It would leave the folder, or is no name on every system.
pub(super) fn joined(folder: &str, name: &str) -> Result<String, String> {
    let is_name = !matches!(name, "" | "." | "..")
        && !name.contains(['/', '\\', ':'])
        && !name.contains(|c: char| c.is_control());
    match (is_name, folder) {
        (false, _) => Err(format!("lists a file `{}`, whose path is not accepted", name.escape_debug())),
        (true, "") => Ok(name.to_owned()),
        (true, folder) => Ok(format!("{folder}/{name}")),
    }
}

/// Checks a path with slashes, part by part.
///
/// # Errors
/// As [`joined`].
pub(super) fn checked(path: &str) -> Result<(), String> {
    path.split('/').try_for_each(|part| joined("", part).map(drop))
}

/// The path of the ONNX file that `MLmodel` names.
///
/// # Errors
/// The model is of another flavour, or the text is no such file.
pub(super) fn onnx_file(mlmodel: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        flavors: BTreeMap<String, Flavor>,
    }
    #[derive(Deserialize)]
    struct Flavor {
        data: Option<String>,
    }
    let document: Document = serde_saphyr::from_str(mlmodel).map_err(|error| {
        let error = error.to_string();
        format!("its MLmodel can't be read: {}", error.lines().next().unwrap_or_default())
    })?;
    let Some(onnx) = document.flavors.get("onnx") else {
        let there: Vec<_> = document.flavors.keys().map(String::as_str).collect();
        return Err(format!(
            "has the flavours {there:?}, not onnx: log the model with mlflow.onnx.log_model(…)"
        ));
    };
    let data = onnx.data.clone().ok_or("its MLmodel names no file at flavors.onnx.data")?;
    checked(&data)?;
    Ok(data)
}

/// The files of the bundle: which of the list, and their paths in the bundle. `onnx` becomes `model.onnx`;
/// what lies beside it or in `extra_files/` keeps its name.
///
/// # Errors
/// A file is missing, or two would have one name.
pub(super) fn plan<'a>(list: &'a [Entry], onnx: &str) -> Result<Vec<(&'a Entry, String)>, String> {
    if !list.iter().any(|entry| entry.path == onnx) {
        return Err(format!("its MLmodel names `{onnx}`, which is not there"));
    }
    let mut planned: BTreeMap<String, &Entry> = BTreeMap::new();
    for entry in list {
        let Some(target) = target(&entry.path, onnx) else { continue };
        if let Some(other) = planned.insert(target.clone(), entry) {
            let (one, two) = (&other.path, &entry.path);
            return Err(format!("`{one}` and `{two}` would both be `{target}` of the bundle: remove one"));
        }
    }
    if !planned.contains_key("model.toml") {
        return Err("has no model.toml: add it with mlflow.onnx.log_model(…, \
                    extra_files=[\"model.toml\"]), or to a logged model with \
                    mlflow.MlflowClient().log_model_artifact(MODEL_ID, \"model.toml\")"
            .into());
    }
    Ok(planned.into_iter().map(|(target, entry)| (entry, target)).collect())
}

/// The path in the bundle; `None` for what is left out.
fn target(path: &str, onnx: &str) -> Option<String> {
    if path == onnx {
        return Some("model.onnx".to_owned());
    }
    if path == "model.toml" {
        return Some(path.to_owned());
    }
    if let Some(extra) = path.strip_prefix(EXTRA) {
        return Some(extra.to_owned());
    }
    let first = path.split('/').next().unwrap_or_default();
    if MLFLOWS_OWN.contains(&first) {
        return None;
    }
    // External data is named relative to the folder of the ONNX file.
    match onnx.rsplit_once('/') {
        Some((folder, _)) => path.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned),
        None => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MLflow 3.17.2 writes it.
    const MLMODEL: &str = "artifact_path: mlflow-artifacts:/0/models/m-1/artifacts\nflavors:\n  onnx:\n    \
                           code: null\n    data: model.onnx\n    extra_files:\n    - path: \
                           extra_files/model.toml\n    onnx_session_options: null\n    providers:\n    - \
                           CPUExecutionProvider\n  python_function:\n    data: model.onnx\n    env:\n      \
                           conda: conda.yaml\nmodel_size_bytes: 920\nprompts: null\nutc_time_created: \
                           '2026-11-28 07:51:57.978085'\n";

    fn planned(paths: &[&str], onnx: &str) -> Result<Vec<(String, String)>, String> {
        let list: Vec<_> = paths.iter().map(|path| Entry { path: (*path).into(), size: None }).collect();
        let plan = plan(&list, onnx)?;
        Ok(plan.into_iter().map(|(entry, target)| (entry.path.clone(), target)).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn the_flavour_names_the_file() {
        assert_eq!(onnx_file(MLMODEL).unwrap(), "model.onnx");
        let other = MLMODEL.replace("data: model.onnx\n    extra", "data: data/net.onnx\n    extra");
        assert_eq!(onnx_file(&other).unwrap(), "data/net.onnx");
    }

    #[test]
    fn what_names_no_file_is_refused() {
        let sklearn = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n";
        for (text, part) in [
            ("", "not onnx"),
            ("flavors: [", "MLmodel can't be read"),
            (sklearn, "[\"sklearn\"], not onnx"),
            ("flavors:\n  onnx:\n    code: null\n", "flavors.onnx.data"),
            ("flavors:\n  onnx:\n    data: ../model.onnx\n", "`..`"),
            ("flavors:\n  onnx:\n    data: /etc/passwd\n", "not accepted"),
            ("flavors:\n  onnx:\n    data: a\\b\n", "`a\\\\b`"),
        ] {
            let error = onnx_file(text).expect_err(text);
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
        // Aliases that would grow to 10^9 nodes.
        let bomb = (1..=9).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            let before = vec![format!("*a{}", n - 1); 10].join(", ");
            text + &format!("a{n}: &a{n} [{before}]\n")
        });
        assert!(onnx_file(&bomb).is_err());
    }

    #[test]
    fn a_bundle_is_the_network_what_is_beside_it_and_extra_files() {
        let own = ["MLmodel", "conda.yaml", "requirements.txt", "python_env.yaml", "code/net.py"];
        let files = ["model.onnx", "weights/a.bin", "extra_files/model.toml", "extra_files/golden.json"];
        assert_eq!(
            planned(&[&own[..], &files[..]].concat(), "model.onnx").unwrap(),
            pairs(&[
                ("extra_files/golden.json", "golden.json"),
                ("model.onnx", "model.onnx"),
                ("extra_files/model.toml", "model.toml"),
                ("weights/a.bin", "weights/a.bin"),
            ])
        );
        assert_eq!(
            planned(&["data/net.onnx", "data/w.bin", "database", "model.toml", "MLmodel"], "data/net.onnx")
                .unwrap(),
            pairs(&[("data/net.onnx", "model.onnx"), ("model.toml", "model.toml"), ("data/w.bin", "w.bin")])
        );
    }

    #[test]
    fn what_makes_no_bundle_is_refused() {
        let error = planned(&["model.onnx", "MLmodel"], "model.onnx").unwrap_err();
        assert!(error.contains("extra_files=[") && error.contains("log_model_artifact"), "{error}");
        let error = planned(&["model.toml"], "model.onnx").unwrap_err();
        assert!(error.contains("`model.onnx`, which is not there"), "{error}");
        let twice = ["model.onnx", "model.toml", "extra_files/model.toml"];
        let error = planned(&twice, "model.onnx").unwrap_err();
        assert!(error.contains("both be `model.toml`"), "{error}");
        assert!(planned(&["net.onnx", "model.onnx", "model.toml"], "net.onnx").is_err());
    }

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["..", ".", "", "/etc", "a/b", "a\\b", "C:x", "a\0", "a\nb"] {
            assert!(joined("", name).is_err() && joined("a", name).is_err(), "{name:?}");
        }
        assert_eq!(joined("a/b", "..c").unwrap(), "a/b/..c");
    }
}
