//! The generation that serves: the loaded versions, divided, copied and named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use sferic_actors::frame::ModelId;
use sferic_actors::ports::LoadedModel;
use sferic_actors::routing::{Shadow, Split, VersionName};
use sferic_onnx::{Catalog, Versions};

use super::service::ModelService;
use super::traffic::Traffic;
use crate::nats::ControlError;

impl ModelService {
    pub(super) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets frames be served by what the catalog has.
    pub(super) fn serve(&self, catalog: &Catalog) {
        let traffic = self.traffic();
        let named = |(model, versions)| {
            let aliases = traffic.aliases(model, versions).into_iter();
            aliases.map(move |(alias, means)| (VersionName { name: model.to_owned(), version: alias }, means))
        };
        let aliases: Vec<_> = catalog.all().flat_map(named).collect();
        let generation = catalog
            .generation(&self.default, &self.circuits)
            .with_splits(traffic.splits.values().cloned().collect())
            .with_shadows(traffic.shadows.values().cloned().collect())
            .with_aliases(aliases);
        self.in_service.replace(generation);
    }

    fn direct(&self, change: impl FnOnce(&mut Traffic)) {
        let catalog = self.catalog();
        change(&mut self.traffic());
        self.serve(&catalog);
    }

    /// Divides the frames of a model that name no version, or no longer.
    pub fn divide(&self, model: &str, split: Option<Split>) {
        self.direct(|traffic| set(&mut traffic.splits, model, split));
    }

    /// Copies frames of a model for one of its versions, or no longer.
    pub fn copy(&self, model: &str, shadow: Option<Shadow>) {
        self.direct(|traffic| set(&mut traffic.shadows, model, shadow));
    }

    /// Takes the aliases that a registry has for a version of a model.
    pub(super) fn name(&self, model: &str, version: &str, aliases: &[String]) {
        if self.traffic().names(model, version) != BTreeSet::from_iter(aliases) {
            self.direct(|traffic| traffic.name(model, version, aliases));
        }
    }

    /// The aliases of a model with the versions that they mean.
    pub(super) fn aliases(&self, model: &str, versions: &Versions) -> BTreeMap<String, String> {
        self.traffic().aliases(model, versions)
    }

    /// The active version of a model, and all that are loaded.
    ///
    /// # Errors
    /// There is no such model.
    pub fn loaded(&self, name: &str) -> Result<(Option<String>, Vec<Arc<ModelId>>), ControlError> {
        let catalog = self.catalog();
        let versions = catalog.of(name).ok_or_else(|| self.unknown(name))?;
        Ok((versions.active.clone(), versions.ready().map(|model| Arc::clone(model.id())).collect()))
    }

    /// A loaded version; `None` where it is not loaded any more, or with other files.
    pub fn of_id(&self, id: &ModelId) -> Option<Arc<dyn LoadedModel>> {
        let catalog = self.catalog();
        let model = catalog.of(&id.name)?.get(&id.version)?.model()?;
        (**model.id() == *id).then(|| Arc::clone(model) as Arc<dyn LoadedModel>)
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

fn set<T>(of: &mut BTreeMap<String, T>, model: &str, to: Option<T>) {
    match to {
        Some(to) => drop(of.insert(model.to_owned(), to)),
        None => drop(of.remove(model)),
    }
}
