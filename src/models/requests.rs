//! Requests about models, as control endpoints and HTTP have them.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sferic_telemetry::metrics::Recorded;

use super::service::ModelService;
use crate::nats::ControlError;

/// The requests that change the models.
pub const CHANGES: [&str; 5] =
    ["models.load", "models.unload", "models.reload", "models.promote", "models.rollback"];

/// Request of a change, and of `sferic.models.info`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of `model`, `version` and `force`, or nothing")]
struct ModelRequest {
    /// `name` or `name@version`; absent: the default model.
    model: Option<String>,
    version: Option<VersionText>,
    force: Option<bool>,
}

/// A version, which people also write as a number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a version must be a number or its digits in a string")]
pub enum VersionText {
    /// Its digits.
    Text(String),
    /// The number.
    Number(u64),
}

impl VersionText {
    /// Its digits.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Reads a request; nothing is the default.
///
/// # Errors
/// It is no JSON of this form.
pub fn read<T: DeserializeOwned + Default>(request: &Bytes) -> Result<T, ControlError> {
    match request.as_ref() {
        [] => Ok(T::default()),
        text => serde_json::from_slice(text).map_err(|error| ControlError::new(400, error)),
    }
}

impl ModelRequest {
    /// Name and version, of which one may be within the other.
    fn asked(&self, default: &str) -> Result<(String, Option<String>), ControlError> {
        let asked = self.model.as_deref().unwrap_or(default);
        let (name, within) =
            asked.split_once('@').map_or((asked, None), |(name, version)| (name, Some(version)));
        let named = self.version.clone().map(VersionText::into_text);
        let version = named.or_else(|| within.map(str::to_owned));
        match (within, &version) {
            (Some(within), Some(version)) if within != version => {
                Err(ControlError::new(400, format!("`model` is {asked:?}, but `version` is {version:?}")))
            }
            _ => Ok((name.to_owned(), version)),
        }
    }
}

/// Shows one version.
///
/// # Errors
/// A wrong request, or there is no such version.
pub fn info(models: &ModelService, recorded: &Recorded, request: &Bytes) -> Result<Value, ControlError> {
    let (name, version) = read::<ModelRequest>(request)?.asked(models.default())?;
    models.info(&name, version.as_deref(), recorded)
}

/// Changes what is loaded or active; `what` is one of [`CHANGES`]. It is carried out also where the caller
/// leaves.
///
/// # Errors
/// A wrong request, or the change fails and changes nothing.
pub async fn change(
    models: &Arc<ModelService>,
    what: &'static str,
    request: &Bytes,
) -> Result<Value, ControlError> {
    let request: ModelRequest = read(request)?;
    let (name, version) = request.asked(models.default_name())?;
    let (models, force) = (Arc::clone(models), request.force.unwrap_or_default());
    // Before it: the change is there before its drain is over.
    models.decide(&name);
    let changing = tokio::spawn(async move {
        let changed = match (what, version.as_deref()) {
            ("models.load", Some(version)) => models.load(&name, version).await,
            ("models.load", None) => models.load_highest(&name).await,
            ("models.unload", version) => models.unload(&name, version, force).await,
            ("models.promote", version) => models.promote(&name, version).await,
            ("models.rollback", Some(_)) => {
                Err(ControlError::new(400, "a roll-back goes to the previous version"))
            }
            ("models.rollback", None) => models.rollback(&name).await,
            (_, version) => models.reload(&name, version, force).await,
        };
        changed.inspect_err(|_| models.undecide(&name))
    });
    let panicked = |_| ControlError::new(500, "the change could not be made: its task panicked");
    to_value(&changing.await.map_err(panicked)??)
}

/// Any answer as JSON.
///
/// # Errors
/// A defect.
pub fn to_value(answer: &impl serde::Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(answer).map_err(|error| ControlError::new(500, error))
}
