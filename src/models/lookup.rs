//! What changes of the models ask first.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use sferic_models::{Stamp, check_version};
use sferic_onnx::{Catalog, Version, VersionState, Versions};

use super::in_memory::{Full, InMemory};
use super::service::ModelService;
use crate::nats::ControlError;

impl ModelService {
    /// Checks a loaded version that is to become active: no change puts one in service that is not finite.
    pub(super) fn check_finite(&self, name: &str, version: &str) -> Result<(), ControlError> {
        let catalog = self.catalog();
        let Some(versions) = catalog.of(name) else { return Ok(()) };
        let checked = match versions.get(version).and_then(Version::model) {
            Some(model) if versions.active.as_deref() != Some(version) => model.check_finite(),
            _ => Ok(()),
        };
        checked.map_err(|reason| {
            let message =
                format!("{name}@{version} does not become active, and nothing has changed: {reason}");
            ControlError::new(422, message)
        })
    }

    /// How many changes were made, and how many failed.
    pub fn changes(&self) -> [u64; 2] {
        self.changes.each_ref().map(|count| count.load(Relaxed))
    }

    /// The version of a model that frames without a model get whatever is active; `None` where there is none.
    pub(super) fn pinned(&self, name: &str) -> Option<&str> {
        self.default.split_once('@').filter(|(model, _)| *model == name).map(|(_, version)| version)
    }

    pub(super) fn in_memory<'a>(&'a self, name: &str, versions: &'a Versions) -> InMemory<'a> {
        let traffic = self.traffic();
        InMemory::of(versions, self.pinned(name), |version| traffic.has_role(name, version))
    }

    /// Whether the files of a loaded version are as they were loaded; `None` where it is not loaded.
    pub(super) fn is_unchanged(&self, name: &str, version: &str, folder: &Path) -> Option<bool> {
        let stamp = Stamp::of(folder);
        let catalog = self.catalog();
        let known = catalog.of(name).and_then(|versions| versions.get(version))?;
        known.model().map(|_| known.stamp.is_some() && known.stamp == stamp)
    }

    /// The version that has to go for another one to be loaded.
    pub(super) fn surplus(&self, name: &str, version: &str) -> Result<Option<String>, ControlError> {
        let (catalog, most) = (self.catalog(), self.options.max_versions);
        let Some(versions) = catalog.of(name) else { return Ok(None) };
        self.in_memory(name, versions).displaced_by(version, most).map_err(|Full| {
            let message = format!(
                "{most} versions of {name} are loaded, as many as models.max_versions; unload one first"
            );
            ControlError::new(409, message)
        })
    }

    /// The highest version on disk that has not failed as it is there now.
    pub(super) fn highest(&self, name: &str) -> Result<String, ControlError> {
        let on_disk = self.repository.versions(name).map_err(|error| {
            ControlError::new(404, format!("{}: {error}", self.repository.folder().join(name).display()))
        })?;
        let catalog = self.catalog();
        let has_failed = |version: &str, folder: &Path| {
            let known = catalog.of(name).and_then(|versions| versions.get(version));
            known.is_some_and(|known| {
                matches!(known.state, VersionState::Failed(_)) && known.stamp == Stamp::of(folder)
            })
        };
        let usable = |(version, folder): &&(String, PathBuf)| {
            check_version(version).is_ok() && !has_failed(version, folder)
        };
        let highest = on_disk.iter().rev().find(usable).map(|(version, _)| version.clone());
        highest.ok_or_else(|| {
            ControlError::new(
                409,
                format!("no version of {name} can be used; `sferic models list` has the reasons"),
            )
        })
    }

    pub(super) fn folder(&self, name: &str, version: &str) -> Result<PathBuf, ControlError> {
        self.repository.version(name, version).map_err(|error| ControlError::new(404, error))
    }

    /// The error of a model that `catalog` does not have. Who asks holds the catalog already: a second reader
    /// would wait for a writer that waits for the first.
    pub(super) fn unknown(catalog: &Catalog, name: &str) -> ControlError {
        let there: Vec<_> = catalog.all().map(|(name, _)| name).collect();
        ControlError::new(404, format!("no model `{}`; there are {}", name.escape_debug(), there.join(", ")))
    }
}
