//! The settings against their documentation, and the helpers of the tests beside.

mod faults;
mod layering;
mod secrets;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use super::*;

const DEFAULT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml");

/// Loads from the text of a file, pairs of environment variables, and flags.
fn load_from(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let mut config = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    config.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let flags: Vec<_> = flags.iter().map(|(key, value)| ((*key).to_owned(), value.parse().unwrap())).collect();
    load_with_env(Some(config.path()), environment, &flags)
        .map_err(|error| error.to_string().replace(&config.path().display().to_string(), "my.toml"))
}

fn fault(file: &str) -> String {
    load_from(file, &[], &[]).unwrap_err()
}

fn environment_fault(name: &str, value: &str) -> String {
    load_from("", &[(name, value)], &[]).unwrap_err()
}

fn keys(table: &toml::Table) -> BTreeSet<String> {
    let below = |(name, value): (&String, &toml::Value)| match value {
        toml::Value::Table(section) => keys(section).into_iter().map(|key| format!("{name}.{key}")).collect(),
        _ => vec![name.clone()],
    };
    table.iter().flat_map(below).collect()
}

#[test]
fn the_documented_defaults_are_the_built_in_ones() {
    let settings = load_with_env(Some(Path::new(DEFAULT_FILE)), [], &[]).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let text = std::fs::read_to_string(DEFAULT_FILE).unwrap();
    // These two depend on the machine, so the file shows them commented out.
    let whole = text.replace("# workers = ", "workers = ").replace("# sessions = ", "sessions = ");
    let documented: toml::Table = whole.parse().unwrap();
    assert_eq!(keys(&documented), keys(&toml::Table::try_from(Settings::default()).unwrap()));
}

#[test]
fn the_defaults_are_valid() {
    Settings::default().validate().unwrap();
}

#[test]
fn sessions_follow_the_cores_up_to_four() {
    let settings = Settings::default();
    assert_eq!(settings.pool.sessions, available_cores().min(4));
    assert_eq!(settings.preprocess.workers, available_cores());
}
