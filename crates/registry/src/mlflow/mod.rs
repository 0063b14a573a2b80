//! MLflow's model registry, over its REST API.
//!
//! An alias, or a fixed version, is asked for; its files are fetched from where MLflow says that they lie.

mod address;
mod contents;
mod http;
mod place;

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use self::address::{Address, Credentials, encoded};
use self::contents::{onnx_file, plan};
use self::http::{Http, Patience};
use self::place::Place;
use crate::RegistryError::{self, Refused, Unreachable};
use crate::{Offer, Registry};

/// The most time for all files of a version together.
const FETCH: Duration = Duration::from_secs(60 * 60);

/// Which version of a registered model is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that this alias points to.
    Alias(String),
    /// Always this one.
    Version(String),
}

/// A registered model of an MLflow server.
pub struct Mlflow {
    label: String,
    model: String,
    which: Which,
    address: Address,
    http: Http,
}

/// A version, as MLflow describes it.
#[derive(Deserialize)]
struct ModelVersion {
    name: String,
    version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    last_updated_timestamp: serde_json::Value,
}

impl ModelVersion {
    /// Changes with the logged model, and with each change that MLflow notes of the version.
    fn stamp(&self) -> String {
        format!("{} {} {}", self.source, self.run_id, self.last_updated_timestamp)
    }
}

impl Mlflow {
    /// A client of the MLflow server at `url`, for one registered model. It connects when it is asked.
    ///
    /// Credentials are `user:password@` in the URL; without them `MLFLOW_TRACKING_USERNAME` and
    /// `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`, of the environment.
    ///
    /// # Errors
    /// The URL, the model's name or the version can't be used, or the system has no root certificates for
    /// https.
    pub fn new(url: &str, model: &str, which: Which) -> Result<Self, RegistryError> {
        Self::with(url, model, which, &Credentials::from_environment(), Patience::default())
    }

    fn with(
        url: &str,
        model: &str,
        which: Which,
        credentials: &Credentials,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        check_name(model).map_err(Refused)?;
        if let Which::Version(version) = &which {
            check_version(version).map_err(Refused)?;
        }
        let address = Address::new(url, credentials).map_err(Refused)?;
        let http = Http::new(address.base().starts_with("https:"), patience).map_err(Refused)?;
        Ok(Self { label: format!("mlflow:{model}"), model: model.to_owned(), which, address, http })
    }

    /// Asks the tracking server.
    async fn ask<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, RegistryError> {
        let query: Vec<_> = query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let url = format!("{}/api/2.0/mlflow/{path}?{}", self.address.base(), query.join("&"));
        let text = self.http.text(&url, self.address.authorization(self.address.authority())).await?;
        serde_json::from_str(&text).map_err(|_| {
            Refused(format!("{}: {path} has no answer of an MLflow server; check url", self.address.base()))
        })
    }

    /// The version that is meant now.
    async fn meant(&self) -> Result<ModelVersion, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            model_version: ModelVersion,
        }
        let model = ("name", self.model.as_str());
        let answer: Result<Answer, _> = match &self.which {
            Which::Alias(alias) => self.ask("registered-models/alias", &[model, ("alias", alias)]).await,
            Which::Version(version) => self.ask("model-versions/get", &[model, ("version", version)]).await,
        };
        let found = answer.map_err(|error| self.about(error))?.model_version;
        if found.name != self.model {
            return Err(self.about(Refused(format!("MLflow answered for `{}`", found.name.escape_debug()))));
        }
        check_version(&found.version).map_err(|error| self.about(Refused(error)))?;
        match found.status.as_str() {
            "" | "READY" => Ok(found),
            "PENDING_REGISTRATION" => {
                let what = format!("version {} is still being registered", found.version);
                Err(self.about(Unreachable(what)))
            }
            status => {
                let what = format!("version {} is {}, must be READY", found.version, status.escape_debug());
                Err(self.about(Refused(what)))
            }
        }
    }

    /// The same error, which says of what it is.
    fn about(&self, error: RegistryError) -> RegistryError {
        let model = &self.model;
        let which = match &self.which {
            Which::Alias(alias) => format!("alias `{alias}` of MLflow's model `{model}`"),
            Which::Version(version) => format!("version {version} of MLflow's model `{model}`"),
        };
        match error {
            Unreachable(text) => Unreachable(format!("{which}: {text}")),
            Refused(text) => Refused(format!("{which}: {text}")),
        }
    }

    async fn write(&self, offer: &Offer, folder: &Path, max_bytes: u64) -> Result<(), RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            artifact_uri: String,
        }
        self.unchanged(offer).await?;
        let version = [("name", self.model.as_str()), ("version", offer.version.as_str())];
        // MLflow 3 has `models:/m-…` as the version's source, which is no place.
        let answer: Answer = self.ask("model-versions/get-download-uri", &version).await?;
        let place = Place::of(&answer.artifact_uri, &self.address, &self.http).map_err(Refused)?;
        let list = place.list().await?;
        let mlmodel = list.iter().find(|entry| entry.path == "MLmodel");
        let mlmodel = mlmodel.ok_or_else(|| {
            Refused("has no MLmodel: log the model with mlflow.onnx.log_model(…)".to_owned())
        })?;
        let onnx = onnx_file(&place.text(mlmodel).await?).map_err(Refused)?;
        let planned = plan(&list, &onnx).map_err(Refused)?;
        let total: u64 = planned.iter().filter_map(|(entry, _)| entry.size).fold(0, u64::saturating_add);
        if total > max_bytes {
            return Err(Refused(format!("has {total} bytes, may have {max_bytes} (models.max_bytes)")));
        }
        let mut left = max_bytes;
        for (entry, target) in planned {
            let to = folder.join(target);
            if let Some(parent) = to.parent() {
                let made = tokio::fs::create_dir_all(parent).await;
                made.map_err(|error| Unreachable(format!("can't make {}: {error}", parent.display())))?;
            }
            left = left.saturating_sub(place.write(entry, &to, left).await?);
        }
        // MLflow keeps no digests: that nothing changed meanwhile is all it can say.
        self.unchanged(offer).await?;
        if place.list().await? != list {
            return Err(Unreachable("its files changed while they were fetched".into()));
        }
        Ok(())
    }

    /// Checks that the version is still what was offered.
    async fn unchanged(&self, offer: &Offer) -> Result<(), RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            model_version: ModelVersion,
        }
        let version = [("name", self.model.as_str()), ("version", offer.version.as_str())];
        let now: Answer = self.ask("model-versions/get", &version).await?;
        if now.model_version.stamp() == offer.stamp {
            return Ok(());
        }
        Err(Unreachable("it has changed since it was offered".into()))
    }
}

impl Registry for Mlflow {
    fn label(&self) -> &str {
        &self.label
    }

    fn offers(&self) -> BoxFuture<'_, Result<Vec<Offer>, RegistryError>> {
        async {
            let meant = self.meant().await?;
            let stamp = meant.stamp();
            let ModelVersion { name, version, aliases, .. } = meant;
            Ok(vec![Offer { name, version, stamp, is_meant: true, aliases }])
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        offer: &'a Offer,
        folder: &'a Path,
        max_bytes: u64,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        async move {
            let (model, version) = (&self.model, &offer.version);
            let late = Err(Unreachable(format!("not fetched within {FETCH:?}")));
            let done = timeout(FETCH, self.write(offer, folder, max_bytes)).await.unwrap_or(late);
            done.map_err(|error| match error {
                Unreachable(text) => Unreachable(format!("version {version} of MLflow's `{model}`: {text}")),
                Refused(text) => Refused(format!("version {version} of MLflow's `{model}`: {text}")),
            })
        }
        .boxed()
    }
}

/// Checks that a registered model's name can be that of a model here, which is a folder's.
fn check_name(name: &str) -> Result<(), String> {
    let is_one = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '@', ':']);
    if is_one && !name.contains(|c: char| c.is_control()) {
        return Ok(());
    }
    Err(format!(
        "MLflow's model `{}` can't have that name here, where it is a folder's: without / \\ @ and :, and \
         without a dot first; rename it in MLflow",
        name.escape_debug()
    ))
}

/// Checks that a version is a number without leading zeros.
fn check_version(version: &str) -> Result<(), String> {
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (version.len() == 1 || !version.starts_with('0')) {
        return Ok(());
    }
    Err(format!("version `{}` is no number without leading zeros", version.escape_debug()))
}

#[cfg(test)]
mod tests;
