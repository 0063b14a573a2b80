//! The settings against their documentation, and the helpers of the tests beside.

mod faults;
mod layering;
mod secrets;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sferic_onnx::ExecutionProvider;

use super::*;

const DEFAULT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/default.toml");

/// Loads from the text of a file, pairs of environment variables, and flags.
fn load_from(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let mut config = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    config.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let flags: Vec<_> =
        flags.iter().map(|(key, value)| ((*key).to_owned(), value.parse().unwrap())).collect();
    load_with_env(Some(config.path()), environment, &flags)
        .map_err(|error| error.to_string().replace(&config.path().display().to_string(), "my.toml"))
}

fn fault(file: &str) -> String {
    load_from(file, &[], &[]).unwrap_err()
}

fn environment_fault(name: &str, value: &str) -> String {
    load_from("", &[(name, value)], &[]).unwrap_err()
}

/// The paths of all keys; of a list of sections, those of its first.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let below = |(name, value): (&String, &toml::Value)| {
        let section = value.as_table().or_else(|| value.as_array()?.first()?.as_table());
        match section {
            Some(section) => keys(section).into_iter().map(|key| format!("{name}.{key}")).collect(),
            None => vec![name.clone()],
        }
    };
    table.iter().flat_map(below).collect()
}

fn documented_file() -> String {
    std::fs::read_to_string(DEFAULT_FILE).unwrap()
}

/// The file with what is commented out of it taken in: keys whose default depends on the machine, and the
/// examples of lists.
fn documented() -> String {
    let is_code = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        line.starts_with("[[")
            || !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    // An empty list would stand beside its example.
    let is_example = |line: &&str| {
        ["receivers = []", "references = []", "sources = []"].iter().any(|list| line.starts_with(list))
    };
    let file = documented_file();
    file.lines()
        .filter(|line| !is_example(line))
        .map(|line| format!("{}\n", line.strip_prefix("# ").filter(|line| is_code(line)).unwrap_or(line)))
        .collect()
}

/// The defaults, and one element with every key in each list of sections.
fn with_all_keys() -> Settings {
    let mut settings = Settings::default();
    let place = ReceiverPosition { latitude: 45.07, longitude: 7.69, altitude: Some(240.0) };
    let source = "north.rx2".to_owned();
    settings.receivers = vec![Receiver {
        source,
        position: Some(place),
        delay: Duration::ZERO,
        sigma: Some(1e-6),
        moving: true,
    }];
    let position = ReceiverPosition { latitude: 50.0152, longitude: 9.0112, altitude: Some(100.0) };
    settings.references = vec![Reference { position, frequency: 77_500.0, tolerance: 1_000.0 }];
    settings.models.sources = vec![ModelSource {
        kind: SourceKind::Mlflow,
        bucket: String::new(),
        url: "http://127.0.0.1:5000".to_owned(),
        model: "modulation".to_owned(),
        alias: "champion".to_owned(),
        version: String::new(),
    }];
    settings
}

#[test]
fn the_documented_defaults_are_the_built_in_ones() {
    let settings = load_with_env(Some(Path::new(DEFAULT_FILE)), [], &[]).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let table: toml::Table = documented().parse().unwrap();
    assert_eq!(keys(&table), keys(&toml::Table::try_from(with_all_keys()).unwrap()));
}

#[test]
fn the_examples_in_the_documentation_are_right() {
    // This one depends on the machine.
    let shown = documented().replace("sessions = 4\n", "");
    assert_eq!(load_from(&shown, &[], &[]), Ok(with_all_keys()));
}

#[test]
fn keys_without_effect_are_listed_and_marked() {
    let mut section = String::new();
    let mut marked = BTreeSet::new();
    for line in documented_file().lines().filter(|line| !line.starts_with('#')) {
        let (what, is_marked) =
            line.strip_suffix(" # does nothing yet").map_or((line, false), |what| (what, true));
        let name = match what.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => {
                section = format!("{name}.");
                name.to_owned()
            }
            None => format!("{section}{}", what.split(" = ").next().unwrap()),
        };
        if is_marked {
            marked.insert(name);
        }
    }
    assert_eq!(marked, UNBUILT.map(str::to_owned).into());
    let known = toml::Table::try_from(Settings::default()).unwrap();
    for key in UNBUILT {
        assert!(unbuilt::value_at(&known, key).is_some(), "there is no {key}");
    }
}

#[test]
fn set_keys_without_effect_are_named() {
    assert_eq!(Settings::default().set_but_unbuilt(), [""; 0]);
    let file = "[models]\nwatch = true\nstate = 'f'\nrepository = 'x'";
    let settings = load_from(file, &[("SFERIC__TELEMETRY__TRACES_PER_SECOND", "7")], &[]).unwrap();
    assert_eq!(settings.set_but_unbuilt(), ["telemetry.traces_per_second"]);
}

#[test]
fn the_defaults_are_valid() {
    Settings::default().validate().unwrap();
}

#[test]
fn sessions_follow_the_cores_up_to_four() {
    let settings = Settings::default();
    assert_eq!(settings.pool.sessions, available_cores().min(4));
}

#[test]
fn sessions_that_keep_every_core_busy_compute_the_features_themselves() {
    let workers = |pool: Pool| Preprocess::default().feature_workers(&pool);
    let busy = Pool { sessions: available_cores(), ..Pool::default() };
    assert_eq!(workers(busy.clone()), 0);
    assert_eq!(workers(Pool { sessions: 1, intra_threads: available_cores(), ..busy.clone() }), 0);
    let execution_providers = vec![ExecutionProvider::Cuda, ExecutionProvider::Cpu];
    assert_eq!(workers(Pool { execution_providers, ..busy.clone() }), available_cores());
    if available_cores() > 1 {
        assert_eq!(workers(Pool { sessions: 1, ..busy.clone() }), available_cores());
    }
    assert_eq!(Preprocess { workers: Some(3) }.feature_workers(&busy), 3);

    let loaded =
        |file: &str, env: &[_]| load_from(file, env, &[]).map(|settings| settings.preprocess.workers);
    assert_eq!(loaded("preprocess.workers = 0", &[]), Ok(Some(0)));
    assert_eq!(loaded("preprocess.workers = 'auto'", &[]), Ok(None));
    assert_eq!(loaded("", &[("SFERIC__PREPROCESS__WORKERS", "2")]), Ok(Some(2)));
    assert_eq!(loaded("", &[("SFERIC__PREPROCESS__WORKERS", "auto")]), Ok(None));
    for wrong in ["-1", "'many'", "1.5"] {
        let error = loaded(&format!("preprocess.workers = {wrong}"), &[]).unwrap_err();
        assert!(error.contains("a count from 0, or \"auto\""), "{error}");
    }
}
