//! The generation that serves: the loaded versions, divided, copied and named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use sferic_actors::frame::ModelId;
use sferic_actors::routing::{Shadow, Split, VersionName};
use sferic_onnx::{Catalog, Versions};

use super::service::ModelService;
use super::traffic::{Followed, Roles, Traffic};
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
        let versions = catalog.of(name).ok_or_else(|| Self::unknown(&catalog, name))?;
        Ok((versions.active.clone(), versions.ready().map(|model| Arc::clone(model.id())).collect()))
    }

    /// Which versions of every model have a role.
    pub fn roles(&self) -> BTreeMap<String, Roles> {
        let catalog = self.catalog();
        let roles = catalog.all().map(|(name, versions)| {
            let (active, previous) = (versions.active.clone(), versions.previous.clone());
            (name.to_owned(), Roles { active, previous })
        });
        roles.filter(|(_, roles)| roles.active.is_some()).collect()
    }

    /// Gives versions of a model these roles; the active one is loaded where it is not.
    ///
    /// # Errors
    /// It cannot be used; then nothing has changed.
    pub async fn take_roles(&self, name: &str, roles: &Roles) -> Result<(), ControlError> {
        let Roles { active: Some(active), previous } = roles else { return Ok(()) };
        let is_active = self.catalog().of(name).is_some_and(|of| of.active.as_ref() == Some(active));
        if !is_active {
            self.reload(name, Some(active), false).await?;
        }
        self.catalog_mut().set_previous(name, previous.clone());
        Ok(())
    }

    /// Counts a change of a model that somebody has asked for, as opposed to what follows from it.
    pub fn decide(&self, name: &str) {
        *self.traffic().decisions.entry(name.to_owned()).or_default() += 1;
    }

    /// Takes one back that could not be made.
    pub(super) fn undecide(&self, name: &str) {
        if let Some(count) = self.traffic().decisions.get_mut(name) {
            *count -= 1;
        }
    }

    /// How often somebody has asked for a change of a model.
    pub fn decisions(&self, name: &str) -> u64 {
        self.traffic().decisions.get(name).copied().unwrap_or_default()
    }

    /// What a registry last said should serve.
    pub fn followed(&self, name: &str) -> Option<Followed> {
        self.traffic().followed.get(name).cloned()
    }

    /// A registry says what should serve, or has said so before a restart.
    pub fn set_followed(&self, name: &str, followed: Option<Followed>) {
        set(&mut self.traffic().followed, name, followed);
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
