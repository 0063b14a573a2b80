//! Secrets stay out of everything that is shown.

use std::fmt;

use super::Settings;
use super::models::{ModelRepository, ModelSource};
use super::operation::Telemetry;
use super::pipeline::Cache;
use super::secrets::{debug, hide, hide_contents, hide_userinfo};
use super::shared_cache::SharedCacheSettings;
use super::transport::{Http, Nats};

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

impl ModelRepository {
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

impl SharedCacheSettings {
    fn redacted(&self) -> Self {
        Self { url: hide_userinfo(&self.url), ..self.clone() }
    }
}

impl Nats {
    fn redacted(&self) -> Self {
        Self {
            url: hide_userinfo(&self.url),
            credentials: hide_contents(&self.credentials),
            nkey: hide_contents(&self.nkey),
            password: hide(&self.password),
            token: hide(&self.token),
            tls_key: hide_contents(&self.tls_key),
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

impl fmt::Debug for SharedCacheSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("SharedCacheSettings", &self.redacted(), f)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Telemetry", &self.redacted(), f)
    }
}
