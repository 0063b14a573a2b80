//! Which values are secret, and what is shown of them.

use std::fmt;

use serde::Serialize;

const HIDDEN: &str = "***";

/// The keys whose value is not shown in an error either. A URL may hold a password.
const SECRET_KEYS: [&str; 10] = [
    "nats.password",
    "nats.token",
    "nats.credentials",
    "nats.nkey",
    "nats.tls_key",
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

/// A path is shown; the contents of the file, set here by mistake, are not.
pub(super) fn hide_contents(path: &str) -> String {
    if is_contents(path) { HIDDEN.to_owned() } else { path.to_owned() }
}

/// Whether this is the secret and not the path of its file: PEM, the text of a `.creds` file, a JWT or an
/// NKey seed. A seed has 58 letters and digits; one that lost some of them counts too.
pub(super) fn is_contents(path: &str) -> bool {
    let is_secret =
        |word: &str| word.len() >= 50 && (word.starts_with(['S', 's']) || word.starts_with("eyJ"));
    let mut words = path.split(|c: char| !c.is_ascii_alphanumeric());
    path.contains("-----") || path.contains('\n') || words.any(is_secret)
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
