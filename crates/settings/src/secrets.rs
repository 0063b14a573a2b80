//! Which values are secret, and what is shown of them.

use std::fmt;

use serde::Serialize;

const HIDDEN: &str = "***";

/// The keys whose value is not shown in an error either. A URL may hold a password.
const SECRET_KEYS: [&str; 8] = [
    "nats.password",
    "nats.token",
    "nats.credentials",
    "nats.url",
    "cache.shared.url",
    "http.token",
    "telemetry.otlp_endpoint",
    "models.sources.url",
];

/// An element of a list is as secret as its neighbours.
pub(super) fn is_secret(key: &str) -> bool {
    let names: Vec<_> = key.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
    SECRET_KEYS.contains(&names.join(".").as_str())
}

/// Shows a section through serde, so that a new key needs no second list of fields.
pub(super) fn debug(name: &str, redacted: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let table = toml::Table::try_from(redacted).map_err(|_| fmt::Error)?;
    f.debug_tuple(name).field(&table).finish()
}

pub(super) fn hide(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { HIDDEN.to_owned() }
}

/// A path is shown; the contents of a credentials file, set here by mistake, are not.
pub(super) fn hide_contents(credentials: &str) -> String {
    let is_path = !credentials.contains("-----") && !credentials.contains('\n');
    if is_path { credentials.to_owned() } else { HIDDEN.to_owned() }
}

/// Hides all from the first `://` to the last `@`. In a list of servers that may hide a host too, but a
/// password with an odd character in it never shows.
pub(super) fn hide_userinfo(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + "://".len());
    match url.rfind('@') {
        Some(end) if end >= start => format!("{}{HIDDEN}{}", &url[..start], &url[end..]),
        _ => url.to_owned(),
    }
}
