//! Secrets stay out of everything that is shown.

use std::fmt;

use serde::Serialize;

use super::{Cache, Http, ModelSource, Models, Nats, Settings, SharedCache, Telemetry};

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

impl Settings {
    /// The same settings with every secret replaced by `***`: what may be shown.
    pub fn redacted(&self) -> Self {
        let cache = Cache { shared: self.cache.shared.redacted(), ..self.cache.clone() };
        Self {
            nats: self.nats.redacted(),
            models: self.models.redacted(),
            cache,
            http: self.http.redacted(),
            telemetry: self.telemetry.redacted(),
            ..self.clone()
        }
    }
}

impl Models {
    fn redacted(&self) -> Self {
        Self { sources: self.sources.iter().map(ModelSource::redacted).collect(), ..self.clone() }
    }
}

impl ModelSource {
    fn redacted(&self) -> Self {
        Self { url: hide_userinfo(&self.url), ..self.clone() }
    }
}

impl Http {
    fn redacted(&self) -> Self {
        Self { token: hide(&self.token), ..self.clone() }
    }
}

impl SharedCache {
    fn redacted(&self) -> Self {
        Self { url: hide_userinfo(&self.url), ..self.clone() }
    }
}

impl Nats {
    fn redacted(&self) -> Self {
        Self {
            url: hide_userinfo(&self.url),
            credentials: hide_contents(&self.credentials),
            password: hide(&self.password),
            token: hide(&self.token),
            ..self.clone()
        }
    }
}

impl Telemetry {
    fn redacted(&self) -> Self {
        Self { otlp_endpoint: hide_userinfo(&self.otlp_endpoint), ..self.clone() }
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Nats", &self.redacted(), f)
    }
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("ModelSource", &self.redacted(), f)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Http", &self.redacted(), f)
    }
}

impl fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("SharedCache", &self.redacted(), f)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Telemetry", &self.redacted(), f)
    }
}

// Through serde, so that a new key needs no second list of fields.
fn debug(name: &str, redacted: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let table = toml::Table::try_from(redacted).map_err(|_| fmt::Error)?;
    f.debug_tuple(name).field(&table).finish()
}

fn hide(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { HIDDEN.to_owned() }
}

/// A path is shown; the contents of a credentials file, set here by mistake, are not.
fn hide_contents(credentials: &str) -> String {
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
