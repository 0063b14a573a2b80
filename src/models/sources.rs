//! Brings models from registries into the repository, and from there into service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use sferic_actors::task::Task;
use sferic_registry::{
    Installed, Installer, Mlflow, ObjectStore, Offer, Registry, RegistryError, TrustedKeys, Which,
};
use sferic_settings::{ModelSource, Settings, SourceKind, given};
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::service::ModelService;
use super::traffic::Followed;
use crate::nats::Connection;

/// Time for the look before the start. A daemon whose registry is away serves what it has.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Time for a registry to say what it has.
const ANSWER: Duration = Duration::from_secs(10);

/// Interval of the looks at an object store; each is one small request.
const NATS_LOOK: Duration = Duration::from_secs(1);

/// Interval of the looks at an MLflow server, which are requests over HTTP.
const MLFLOW_LOOK: Duration = Duration::from_secs(5);

/// Interval of repeated warnings about a registry.
const WARNING: Duration = Duration::from_secs(60);

/// The sources of models in the settings.
pub struct Sources {
    sources: Vec<Source>,
    installer: Installer,
}

/// A registry, and what is known of it.
struct Source {
    registry: Arc<dyn Registry>,
    interval: Duration,
    warnings: Throttle,
    /// The stamps of versions that were fetched and refused, with the reasons; not fetched again.
    refused: HashMap<(String, String), (String, String)>,
}

/// The keys of which one must have signed a bundle; `None`: bundles need no signature.
///
/// # Errors
/// A key cannot be read.
pub fn trusted_keys(settings: &Settings) -> anyhow::Result<Option<TrustedKeys>> {
    TrustedKeys::read(&settings.models.trusted_keys)
        .map_err(anyhow::Error::msg)
        .context("models.trusted_keys")
}

impl Sources {
    /// Opens the sources of the settings; `None` where there are none.
    ///
    /// # Errors
    /// The repository cannot be made, or a key cannot be read.
    pub fn open(settings: &Settings, connection: &Connection) -> anyhow::Result<Option<Self>> {
        let models = &settings.models;
        let opened = models.sources.iter().map(|source| open(source, connection));
        let sources = opened.collect::<Result<Vec<_>, _>>().context("models.sources")?;
        if sources.is_empty() {
            return Ok(None);
        }
        let installer = Installer::new(&models.repository, models.max_bytes, trusted_keys(settings)?);
        let folder = models.repository.display();
        let installer = installer.with_context(|| format!("models.repository, {folder}"))?;
        Ok(Some(Self { sources, installer }))
    }

    /// Looks at every source once and installs what it has, in ten seconds at most.
    pub async fn fill(&mut self) {
        let installer = &self.installer;
        join_all(self.sources.iter_mut().map(async |source| {
            if tokio::time::timeout(FIRST_LOOK, source.look(installer, None)).await.is_err() {
                source.warn(&format!("not all of it came within {FIRST_LOOK:?}; it goes on after the start"));
            }
        }))
        .await;
    }

    /// Starts a task for each source that installs and loads what it gets.
    pub fn follow(self, models: &Arc<ModelService>) -> Vec<Task> {
        let start = |mut source: Source| {
            let (models, installer) = (Arc::clone(models), self.installer.clone());
            Task::spawn(async move {
                loop {
                    source.look(&installer, Some(&models)).await;
                    tokio::time::sleep(source.interval).await;
                }
            })
        };
        self.sources.into_iter().map(start).collect()
    }
}

fn open(source: &ModelSource, connection: &Connection) -> Result<Source, RegistryError> {
    let (registry, interval): (Arc<dyn Registry>, _) = match source.kind {
        SourceKind::Nats => {
            let connection = connection.clone();
            let client = Arc::new(move || connection.client());
            (Arc::new(ObjectStore::new(client, &source.bucket)), NATS_LOOK)
        }
        SourceKind::Mlflow => {
            let which = match given(&source.alias) {
                Some(alias) => Which::Alias(alias.to_owned()),
                None => Which::Version(source.version.clone()),
            };
            (Arc::new(Mlflow::new(&source.url, &source.model, which)?), MLFLOW_LOOK)
        }
    };
    let warnings = Throttle::new(WARNING);
    Ok(Source { registry, interval, warnings, refused: HashMap::new() })
}

impl Source {
    fn warn(&self, error: &str) {
        if let Some(suppressed) = self.warnings.pass(Instant::now()) {
            tracing::warn!(source = self.registry.label(), error, suppressed, "models are not fetched");
        }
    }

    /// Installs what is new, and loads it where there is a service.
    async fn look(&mut self, installer: &Installer, models: Option<&ModelService>) {
        let offers = match tokio::time::timeout(ANSWER, self.registry.offers()).await {
            Ok(Ok(offers)) => offers,
            Ok(Err(error)) => return self.warn(&error.to_string()),
            Err(_) => return self.warn(&format!("no answer within {ANSWER:?}")),
        };
        for offer in in_order(offers) {
            let Some(installed) = self.install(installer, &offer).await else { continue };
            let Some(models) = models else { continue };
            models.take(&offer, installed).await;
            models.name(&offer.name, &offer.version, &offer.aliases);
            let Offer { name, version, stamp, .. } = &offer;
            let meant = Followed { version: version.clone(), stamp: stamp.clone() };
            if offer.is_meant && models.followed(name).as_ref() != Some(&meant) {
                models.decide(name);
                models.follow_alias(&offer, self.registry.label()).await;
                models.set_followed(name, Some(meant));
            }
        }
    }

    /// Installs a version that is not there yet; `None` where it cannot be.
    async fn install(&mut self, installer: &Installer, offer: &Offer) -> Option<Installed> {
        let key = (offer.name.clone(), offer.version.clone());
        let installed = match installer.is_installed(&*self.registry, offer) {
            Ok(true) => return Some(Installed::Unchanged),
            Ok(false) if self.refused.get(&key).is_some_and(|(stamp, _)| *stamp == offer.stamp) => {
                return None;
            }
            Ok(false) => installer.install(&*self.registry, offer).await,
            Err(error) => Err(error),
        };
        let (source, model, version) = (self.registry.label(), &offer.name, &offer.version);
        match installed {
            Ok(installed) => {
                self.refused.remove(&key);
                tracing::info!(source, model, version, stamp = offer.stamp, ?installed, "model fetched");
                Some(installed)
            }
            Err(RegistryError::Unreachable(error)) => {
                self.warn(&format!("{model}@{version}: {error}"));
                None
            }
            Err(RegistryError::Refused(reason)) => {
                let refusal = (offer.stamp.clone(), reason);
                if self.refused.get(&key) != Some(&refusal) {
                    let reason = &refusal.1;
                    tracing::warn!(source, model, version, reason, "model bundle refused, nothing changed");
                    self.refused.insert(key, refusal);
                }
                None
            }
        }
    }
}

/// The version that should serve first, then by falling number: the start waits for no more than it needs.
fn in_order(mut offers: Vec<Offer>) -> Vec<Offer> {
    offers.sort_by(|a, b| {
        let rank = |offer: &Offer| (offer.is_meant, offer.version.len(), offer.version.clone());
        rank(b).cmp(&rank(a))
    });
    offers
}

impl ModelService {
    /// Loads an installed version that is new or has other files.
    async fn take(&self, offer: &Offer, installed: Installed) {
        let Offer { name, version, .. } = offer;
        let is_known = self.catalog().of(name).is_some_and(|versions| versions.get(version).is_some());
        if installed == Installed::Replaced || !is_known {
            self.load_added(name, version, &self.repository.folder().join(name).join(version)).await;
        }
    }

    /// Makes the version active that a registry says should serve.
    async fn follow_alias(&self, offer: &Offer, source: &str) {
        match self.reload(&offer.name, Some(&offer.version), false).await {
            Ok(change) => tracing::info!(model = offer.name, source, "{}", change.message),
            Err(error) => {
                let (model, version, error) = (&offer.name, &offer.version, error.message());
                tracing::warn!(model, version, source, error, "not made active");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_should_serve_comes_first_then_the_highest() {
        let offer = |version: &str, is_meant| Offer {
            name: "m".into(),
            version: version.into(),
            stamp: String::new(),
            is_meant,
            aliases: Vec::new(),
        };
        let ordered = in_order(vec![offer("2", true), offer("9", false), offer("10", false)]);
        assert_eq!(ordered.iter().map(|offer| offer.version.as_str()).collect::<Vec<_>>(), ["2", "10", "9"]);
    }
}
