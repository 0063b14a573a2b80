//! Puts the layers together and says what is wrong with them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::Value;
use sferic_samples::Number;

use super::Settings;
use super::check::quoted;
use super::error::{Problem, SettingsError};
use super::layers::{self, Layer};
use super::secrets::is_secret;

/// Reads the settings: the defaults, then the file where one is given, then the environment, then `overrides`
/// (from flags: `section.key` and its value). No file is read that was not asked for.
///
/// # Errors
/// A file that cannot be read, a key that does not exist, a value of the wrong type or out of its range.
pub fn load(path: Option<&Path>, overrides: &[(String, toml::Value)]) -> Result<Settings, SettingsError> {
    load_with_env(path, std::env::vars_os(), overrides)
}

/// [`load`] with the environment handed in.
///
/// # Errors
/// As [`load`].
pub fn load_with_env(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[(String, toml::Value)],
) -> Result<Settings, SettingsError> {
    let defaults = Settings::default();
    let known = toml::Table::try_from(&defaults)?;
    let mut figment = Figment::from(Serialized::defaults(&defaults));
    let mut written = HashMap::new();
    let file = path.map(Layer::file).transpose()?;
    for layer in file.into_iter().chain([Layer::environment(environment, &known)?, Layer::flags(overrides)]) {
        written.extend(layer.written().clone());
        figment = figment.merge(layer);
    }

    SettingsError::unless_empty(unknown_keys(&figment, &known))?;
    let settings: Settings = figment.extract().map_err(|error| wrong_values(&figment, error, &written))?;
    let mut problems = settings.problems();
    for problem in &mut problems {
        problem.origin = origin_of(&figment, &problem.key);
    }
    SettingsError::unless_empty(problems)?;
    Ok(settings)
}

/// Every key and section that the settings do not have. Asked before serde does, which stops at the first and
/// does not say whose it is.
fn unknown_keys(figment: &Figment, known: &toml::Table) -> Vec<Problem> {
    let Ok(Value::Dict(_, sections)) = figment.find_value("") else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for (section, value) in sections {
        match known.get(&section) {
            Some(toml::Value::Table(known_keys)) => {
                strangers_in(figment, known, &section, value, known_keys, &mut problems)
            }
            Some(_) => {}
            None => {
                let what = if value.as_dict().is_some() { "section" } else { "key" };
                let nearest =
                    section_of(&section, known).or_else(|| nearest(&section, known.keys()).cloned());
                problems.push(unknown(figment, section, what, nearest));
            }
        }
    }
    problems
}

/// The same within a section, and the sections within that.
fn strangers_in(
    figment: &Figment,
    known: &toml::Table,
    section: &str,
    value: Value,
    known_keys: &toml::Table,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in value.into_dict().unwrap_or_default() {
        let path = format!("{section}.{key}");
        match known_keys.get(&key) {
            Some(toml::Value::Table(known_keys)) => {
                strangers_in(figment, known, &path, value, known_keys, problems)
            }
            Some(_) => {}
            None => {
                let nearest = || nearest(&key, known_keys.keys()).map(|right| format!("{section}.{right}"));
                let nearest = replacement(&path).or_else(|| section_of(&key, known)).or_else(nearest);
                problems.push(unknown(figment, path, "key", nearest));
            }
        }
    }
}

fn unknown(figment: &Figment, key: String, what: &str, nearest: Option<String>) -> Problem {
    let hint = nearest.map(|nearest| format!(", did you mean `{nearest}`?")).unwrap_or_default();
    Problem { message: format!("unknown {what} `{key}`{hint}"), origin: origin_of(figment, &key), key }
}

/// What a key of before is called today.
fn replacement(path: &str) -> Option<String> {
    let merged = ["jetstream.predictions_stream", "jetstream.failures_stream"].contains(&path);
    merged.then(|| "jetstream.outcomes_stream".to_owned())
}

/// The right name of a key that stands in the wrong section, or in none.
fn section_of(key: &str, known: &toml::Table) -> Option<String> {
    let (section, _) = known.iter().find(|(_, keys)| keys.get(key).is_some())?;
    Some(format!("{section}.{key}"))
}

/// The candidate spelt most like `wrong`.
fn nearest<'a, T: AsRef<str> + ?Sized>(
    wrong: &str,
    candidates: impl Iterator<Item = &'a T>,
) -> Option<&'a T> {
    let likeness = |candidate: &str| strsim::normalized_damerau_levenshtein(wrong, candidate);
    candidates.max_by(|a, b| likeness(a.as_ref()).total_cmp(&likeness(b.as_ref())))
}

/// serde's complaints, one problem each, without the value of a secret.
fn wrong_values(
    figment: &Figment,
    error: figment::Error,
    written: &HashMap<String, String>,
) -> SettingsError {
    let problem = |error: figment::Error| {
        let mut key = error.path.join(".");
        let fault = match &error.kind {
            Kind::InvalidType(..) if is_secret(&key) => "must be a text in quotes".to_owned(),
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                format!("is {}, must be {}", as_written(found, written.get(&key)), plainly(expected))
            }
            Kind::UnknownVariant(found, expected) => {
                format!("is {found:?}, must be one of {}", expected.join(", "))
            }
            Kind::MissingField(field) => {
                key = format!("{key}.{field}");
                "is missing".to_owned()
            }
            // Of a section in a list; its path ends with the key.
            Kind::UnknownField(wrong, expected) => {
                let section = key.strip_suffix(wrong.as_str()).unwrap_or(&key);
                let nearest =
                    nearest(wrong, expected.iter().copied()).map(|right| format!("{section}{right}"));
                return unknown(figment, key, "key", nearest);
            }
            other => other.to_string(),
        };
        Problem { message: format!("`{key}` {fault}"), origin: origin_of(figment, &key), key }
    };
    SettingsError::Wrong(error.into_iter().map(problem).collect())
}

/// A refused value as it stands in the file, or much so.
fn as_written(found: &Actual, written: Option<&String>) -> String {
    let number = |shown: String| written.filter(|text| text.len() <= 24).cloned().unwrap_or(shown);
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => number(value.to_string()),
        Actual::Signed(value) => number(value.to_string()),
        Actual::Float(value) => number(Number(*value).to_string()),
        Actual::Str(value) => quoted(value),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

/// What serde expected, without Rust's names.
fn plainly(expected: &str) -> &str {
    match expected {
        "u32" | "usize" => "a whole number from 0",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list",
        other => other,
    }
}

/// Who set a key; `None` where the default stands.
fn origin_of(figment: &Figment, key: &str) -> Option<String> {
    // An element of a list was set by whoever set the list.
    let path: Vec<_> = key.split('.').take_while(|part| part.parse::<usize>().is_err()).collect();
    layers::origin(figment.find_metadata(&path.join("."))?, &path)
}
