//! The generation that serves: the loaded versions, divided and named.

use std::sync::PoisonError;

use sferic_actors::routing::{Split, VersionName};
use sferic_onnx::Catalog;

use super::service::ModelService;
use crate::nats::ControlError;

/// The alias of the active version, and of the version that a split tries.
const CHAMPION: &str = "champion";
const CHALLENGER: &str = "challenger";

impl ModelService {
    /// Lets frames be served by what the catalog has.
    pub(super) fn serve(&self, catalog: &Catalog) {
        let splits = self.splits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name =
            |model: &str, alias: &str| VersionName { name: model.to_owned(), version: alias.to_owned() };
        let mut aliases = Vec::new();
        for (model, versions) in catalog.all() {
            aliases.extend(versions.active.clone().map(|active| (name(model, CHAMPION), active)));
            let of = splits.get(model);
            let is_new = |(version, _): &(&str, f64)| versions.active.as_deref() != Some(version);
            let tried = of.and_then(|split| split.shares().find(is_new));
            aliases.extend(tried.map(|(version, _)| (name(model, CHALLENGER), version.to_owned())));
        }
        let generation = catalog.generation(&self.default, &self.circuits);
        self.in_service.replace(generation.with_splits(splits.into_values().collect()).with_aliases(aliases));
    }

    /// Divides the frames of a model that name no version, or no longer.
    pub fn divide(&self, model: &str, split: Option<Split>) {
        let catalog = self.catalog();
        {
            let mut splits = self.splits.lock().unwrap_or_else(PoisonError::into_inner);
            match split {
                Some(split) => drop(splits.insert(model.to_owned(), split)),
                None => drop(splits.remove(model)),
            }
        }
        self.serve(&catalog);
    }

    /// The active version of a model, and all that are loaded.
    ///
    /// # Errors
    /// There is no such model.
    pub fn loaded(&self, name: &str) -> Result<(Option<String>, Vec<String>), ControlError> {
        let catalog = self.catalog();
        let versions = catalog.of(name).ok_or_else(|| self.unknown(name))?;
        let loaded = versions.ready().map(|model| model.id().version.clone()).collect();
        Ok((versions.active.clone(), loaded))
    }

    /// Reloads every model; a model that fails goes on as it is.
    pub async fn reload_all(&self) {
        let names: Vec<_> = self.catalog().all().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            match self.reload(&name, None, false).await {
                Ok(change) => tracing::info!(model = name, "{}", change.message),
                Err(error) => tracing::warn!(model = name, error = error.message(), "not reloaded"),
            }
        }
    }
}
