//! Keys that are accepted although their feature is not implemented yet.

use super::Settings;

/// A key, or a section for all its keys. What is built leaves this list, and loses its mark in
/// `config/default.toml`; a test holds the two together.
pub const UNBUILT: [&str; 1] = ["telemetry.traces_per_second"];

impl Settings {
    /// The keys, as `section.key`, that have another value than their default and do nothing yet.
    pub fn set_but_unbuilt(&self) -> Vec<String> {
        let (Ok(mine), Ok(defaults)) = (toml::Table::try_from(self), toml::Table::try_from(Self::default()))
        else {
            return Vec::new();
        };
        let keys_of = |path: &str| match value_at(&mine, path) {
            Some(toml::Value::Table(section)) => section.keys().map(|key| format!("{path}.{key}")).collect(),
            _ => vec![path.to_owned()],
        };
        let is_changed = |key: &String| value_at(&mine, key) != value_at(&defaults, key);
        UNBUILT.iter().flat_map(|path| keys_of(path)).filter(is_changed).collect()
    }
}

/// The value of `section.key`, or a whole section.
pub(super) fn value_at<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let mut keys = path.split('.');
    keys.clone().skip(1).try_fold(table.get(keys.next()?)?, |value, key| value.get(key))
}
