//! The layers over the defaults, and who set what in them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider, Source};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::SettingsError;
use super::unbuilt::value_at;

const PREFIX: &str = "SFERIC__";
const ENVIRONMENT: &str = "from the environment";

/// Keys and values from one place.
pub(super) struct Layer {
    kind: LayerKind,
    table: toml::Table,
    /// By `section.key`, values as they were written: a number's own text is lost where it is read.
    written: HashMap<String, String>,
}

/// Where a layer comes from.
enum LayerKind {
    File(PathBuf),
    Environment,
    Flags,
}

impl Layer {
    /// The file's keys.
    pub(super) fn file(path: &Path) -> Result<Self, SettingsError> {
        let read = |source| SettingsError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let syntax = |error: toml::de::Error| {
            let before = &text[..error.span().map_or(0, |span| span.start)];
            let last_line = before.rsplit('\n').next().unwrap_or_default();
            SettingsError::Syntax {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: last_line.chars().count() + 1,
                message: error.message().to_owned(),
            }
        };
        let table = text.parse().map_err(syntax)?;
        let mut written = HashMap::new();
        note_table(&text, DeTable::parse(&text).map_err(syntax)?.get_ref(), "", &mut written);
        Ok(Self { kind: LayerKind::File(path.to_owned()), table, written })
    }

    /// The `SFERIC__SECTION__KEY` variables. What a value means depends on its key: one that takes text keeps
    /// it as it is, so that a password of digits stays a password; the others are read as TOML.
    pub(super) fn environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        known: &toml::Table,
    ) -> Result<Self, SettingsError> {
        let (mut table, mut written) = (toml::Table::new(), HashMap::new());
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            let Some(path) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let Ok(value) = value.into_string() else {
                return Err(SettingsError::NotText(name));
            };
            let path = path.to_lowercase();
            let path: Vec<&str> = path.split("__").collect();
            let known = value_at(known, &path.join("."));
            let takes_text = known.is_some_and(|known| known.is_str() || known.is_table() && path.len() == 1);
            // What is no TOML stays text, and the key's own type says what it wanted.
            let parsed = if takes_text { None } else { value.parse().ok() };
            written.insert(path.join("."), value.clone());
            insert(&mut table, &path, parsed.unwrap_or(toml::Value::String(value)));
        }
        Ok(Self { kind: LayerKind::Environment, table, written })
    }

    /// The command line's overrides, as `section.key` and value.
    pub(super) fn flags(overrides: &[(String, toml::Value)]) -> Self {
        let (mut table, mut written) = (toml::Table::new(), HashMap::new());
        for (path, value) in overrides {
            written.insert(path.clone(), value.to_string());
            insert(&mut table, &path.split('.').collect::<Vec<_>>(), value.clone());
        }
        Self { kind: LayerKind::Flags, table, written }
    }

    pub(super) fn written(&self) -> &HashMap<String, String> {
        &self.written
    }
}

fn insert(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    match path {
        [] => {}
        [key] => drop(table.insert((*key).to_owned(), value)),
        [section, rest @ ..] => {
            let section = table.entry(*section).or_insert_with(|| toml::Table::new().into());
            // Where `SFERIC__POOL=…` stands beside `SFERIC__POOL__QUEUE=…`, the first is refused for its
            // type.
            if let toml::Value::Table(keys) = section {
                insert(keys, rest, value);
            }
        }
    }
}

/// Notes how the numbers in a file are written.
fn note_table(text: &str, table: &DeTable<'_>, above: &str, written: &mut HashMap<String, String>) {
    for (key, value) in table.iter() {
        note(text, value, format!("{above}{}", key.get_ref()), written);
    }
}

fn note(text: &str, value: &Spanned<DeValue<'_>>, key: String, written: &mut HashMap<String, String>) {
    match value.get_ref() {
        DeValue::Integer(_) | DeValue::Float(_) => drop(written.insert(key, text[value.span()].to_owned())),
        DeValue::Table(table) => note_table(text, table, &format!("{key}."), written),
        DeValue::Array(array) => {
            array.iter().enumerate().for_each(|(n, value)| note(text, value, format!("{key}.{n}"), written))
        }
        _ => {}
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let origin = match &self.kind {
            LayerKind::File(path) => format!("in {}", path.display()),
            LayerKind::Environment => ENVIRONMENT.to_owned(),
            LayerKind::Flags => "from the command line".to_owned(),
        };
        Metadata::from("settings", Source::Custom(origin))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = Value::serialize(&self.table)?;
        Ok(Map::from([(Profile::Default, values.into_dict().unwrap_or_default())]))
    }
}

/// What a layer's metadata says of a key's origin; the defaults, which are no [`Layer`], say nothing.
pub(super) fn origin(metadata: &Metadata, path: &[&str]) -> Option<String> {
    match metadata.source.as_ref()?.custom()? {
        ENVIRONMENT => Some(format!("from {PREFIX}{}", path.join("__").to_uppercase())),
        other => Some(other.to_owned()),
    }
}
