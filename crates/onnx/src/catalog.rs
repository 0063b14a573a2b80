//! The versions of every model: which are loaded, which one serves, and why others do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use sferic_actors::breaker::Circuits;
use sferic_actors::outcome::Failure;
use sferic_actors::ports::LoadedModel;
use sferic_actors::routing::{Generation, Router, VersionName};
use sferic_models::{Repository, Stamp, check_version};

use super::library::Runtime;
use super::model::Model;
use super::options::Options;

/// The versions of every model, by its name.
#[derive(Debug, Default)]
pub struct Catalog(BTreeMap<String, Versions>);

/// The versions of one model.
#[derive(Debug, Default)]
pub struct Versions {
    /// The one that a bare name means.
    pub active: Option<String>,
    /// The one that was active before.
    pub previous: Option<String>,
    /// By rising number.
    pub versions: Vec<Version>,
}

/// One version of a model, loaded or not.
#[derive(Debug)]
pub struct Version {
    /// The name of its folder; empty where the model as a whole is refused.
    pub version: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its files, as they were when it was last tried.
    pub stamp: Option<Stamp>,
    /// Whether it can serve.
    pub state: VersionState,
    /// When it was loaded last.
    pub loaded_at: Option<SystemTime>,
}

/// Whether a version can serve.
#[derive(Debug)]
pub enum VersionState {
    /// It is being loaded.
    Loading,
    /// It can serve.
    Ready(Arc<Model>),
    /// It cannot be used; the reason, on one line.
    Failed(String),
    /// It serves the frames that it has, and is freed with the last of them.
    Draining(Weak<Model>),
    /// It is not in memory.
    Unloaded,
}

/// A refused bundle, or the folder of a model without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBundle {
    /// The model's name.
    pub name: String,
    /// The name of its folder; empty where the model as a whole is refused.
    pub version: String,
    /// The folder.
    pub folder: PathBuf,
    /// The reason, on one line.
    pub reason: String,
}

impl RefusedBundle {
    /// The name and the version that frames would ask for.
    pub fn name(&self) -> VersionName {
        VersionName { name: self.name.clone(), version: self.version.clone() }
    }
}

impl std::fmt::Display for RefusedBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.folder.display(), self.reason)
    }
}

/// The repository itself can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read the model repository {}: {error}; set models.repository", folder.display())]
pub struct CatalogError {
    /// The folder.
    pub folder: PathBuf,
    /// What the system says.
    pub error: std::io::Error,
}

impl VersionState {
    /// Its name, as it is published.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready(_) => "ready",
            Self::Failed(_) => "failed",
            Self::Draining(model) if model.strong_count() > 0 => "draining",
            Self::Draining(_) | Self::Unloaded => "unloaded",
        }
    }
}

impl Version {
    /// The loaded model.
    pub fn model(&self) -> Option<&Arc<Model>> {
        if let VersionState::Ready(model) = &self.state { Some(model) } else { None }
    }
}

impl Versions {
    /// One of them.
    pub fn get(&self, version: &str) -> Option<&Version> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// Those that can serve, by rising number.
    pub fn ready(&self) -> impl DoubleEndedIterator<Item = &Arc<Model>> {
        self.versions.iter().filter_map(Version::model)
    }

    /// The active model.
    pub fn active_model(&self) -> Option<&Arc<Model>> {
        self.get(self.active.as_deref()?)?.model()
    }

    fn entry(&mut self, version: &str, folder: &Path) -> &mut Version {
        if !version.is_empty() {
            // The model as a whole was refused while it had no version.
            self.versions.retain(|known| !known.version.is_empty());
        }
        let key = |version: &str| (check_version(version).is_ok(), version.len(), version.to_owned());
        let at = self.versions.binary_search_by_key(&key(version), |known| key(&known.version));
        let at = at.unwrap_or_else(|at| {
            let (version, folder, state) = (version.to_owned(), folder.to_owned(), VersionState::Unloaded);
            self.versions.insert(at, Version { version, folder, stamp: None, state, loaded_at: None });
            at
        });
        &mut self.versions[at]
    }
}

impl Catalog {
    /// Loads and warms, of each model in the folder, as many of the highest versions as `options` allow; the
    /// highest of them is active. A folder that cannot be used is [refused](Self::refused) with a warning,
    /// and the others are loaded.
    ///
    /// # Errors
    /// [`CatalogError`]: the repository is no readable folder.
    pub fn load(repository: &Path, runtime: &Runtime, options: &Options) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        let options = &options.usable_on(runtime);
        let repository = Repository::new(repository);
        let models = repository
            .models()
            .map_err(|error| CatalogError { folder: repository.folder().into(), error })?;
        for (name, folder) in models {
            match repository.versions(&name) {
                Ok(versions) => catalog.load_versions(&name, versions, runtime, options),
                Err(reason) => catalog.refuse(&name, "", &folder, None, &reason),
            }
        }
        Ok(catalog)
    }

    fn load_versions(
        &mut self,
        name: &str,
        versions: Vec<(String, PathBuf)>,
        runtime: &Runtime,
        options: &Options,
    ) {
        let pinned = options.pinned.as_deref().and_then(|pinned| pinned.split_once('@'));
        let mut highest_first: Vec<_> = versions.into_iter().rev().collect();
        highest_first.sort_by_key(|(version, _)| pinned != Some((name, version.as_str())));
        for (version, folder) in highest_first {
            let known = self.0.entry(name.to_owned()).or_default();
            let is_enough = known.ready().count() >= options.max_versions;
            if is_enough && check_version(&version).is_ok() {
                known.entry(&version, &folder);
                continue;
            }
            let stamp = Stamp::of(&folder);
            match check_version(&version)
                .and_then(|()| Model::load(name, &version, &folder, runtime, options))
            {
                Ok(model) => drop(self.add(Arc::new(model), &folder, stamp)),
                Err(reason) => self.refuse(name, &version, &folder, stamp, &reason),
            }
        }
        if let Some(versions) = self.0.get_mut(name) {
            let highest = versions.ready().next_back().map(|model| model.id().version.clone());
            versions.active = highest;
        }
    }

    /// Knows of a version without loading it.
    pub fn note(&mut self, name: &str, version: &str, folder: &Path) {
        self.0.entry(name.to_owned()).or_default().entry(version, folder);
    }

    /// Marks a version as being loaded, unless it serves meanwhile.
    pub fn begin(&mut self, name: &str, version: &str, folder: &Path) {
        let known = self.0.entry(name.to_owned()).or_default().entry(version, folder);
        if known.model().is_none() {
            known.state = VersionState::Loading;
        }
    }

    /// Adds a loaded version, and makes it active where no version is. Returns the one it replaces.
    pub fn add(&mut self, model: Arc<Model>, folder: &Path, stamp: Option<Stamp>) -> Option<Arc<Model>> {
        log(&model);
        let id = Arc::clone(model.id());
        let versions = self.0.entry(id.name.clone()).or_default();
        let known = versions.entry(&id.version, folder);
        (known.stamp, known.loaded_at) = (stamp, Some(SystemTime::now()));
        let before = std::mem::replace(&mut known.state, VersionState::Ready(model));
        versions.active.get_or_insert_with(|| id.version.clone());
        if let VersionState::Ready(before) = before { Some(before) } else { None }
    }

    /// Marks a version that could not be loaded, unless an earlier load of it serves.
    pub fn refuse(&mut self, name: &str, version: &str, folder: &Path, stamp: Option<Stamp>, reason: &str) {
        // Some messages of the library have several lines.
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        tracing::warn!(model = name, version, folder = %folder.display(), reason, "model bundle refused");
        let known = self.0.entry(name.to_owned()).or_default().entry(version, folder);
        if known.model().is_none() {
            (known.stamp, known.state) = (stamp, VersionState::Failed(reason));
        }
    }

    /// Makes a loaded version active; the one before becomes the previous one. `false` where it is not
    /// loaded.
    pub fn activate(&mut self, name: &str, version: &str) -> bool {
        let Some(versions) = self.0.get_mut(name) else { return false };
        if versions.get(version).and_then(Version::model).is_none() {
            return false;
        }
        let before = versions.active.replace(version.to_owned());
        if before.as_deref() != Some(version) {
            versions.previous = before.filter(|before| versions.get(before).is_some());
        }
        true
    }

    /// Takes a version for the one that was active before, also one that is not known here yet.
    pub fn set_previous(&mut self, name: &str, version: Option<String>) {
        if let Some(versions) = self.0.get_mut(name) {
            versions.previous = version;
        }
    }

    /// Takes a version out of service; returns its model, which is freed once nobody holds it.
    pub fn retire(&mut self, name: &str, version: &str) -> Option<Arc<Model>> {
        let versions = self.0.get_mut(name)?;
        let known = versions.versions.iter_mut().find(|known| known.version == version)?;
        let model = Arc::clone(known.model()?);
        known.state = VersionState::Draining(Arc::downgrade(&model));
        versions.active.take_if(|version| *version == known.version);
        Some(model)
    }

    /// Forgets versions that are not loaded and whose folders are `gone`.
    pub fn forget(&mut self, gone: &[PathBuf]) {
        for versions in self.0.values_mut() {
            versions.versions.retain(|known| {
                known.model().is_some()
                    || matches!(known.state, VersionState::Loading)
                    || !gone.contains(&known.folder)
            });
        }
        self.0.retain(|_, versions| !versions.versions.is_empty());
    }

    /// Every model with its versions, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Versions)> {
        self.0.iter().map(|(name, versions)| (name.as_str(), versions))
    }

    /// The versions of one model.
    pub fn of(&self, name: &str) -> Option<&Versions> {
        self.0.get(name)
    }

    /// Every loaded version, sorted by name and version.
    pub fn models(&self) -> Vec<&Arc<Model>> {
        self.0.values().flat_map(Versions::ready).collect()
    }

    /// Refused bundles, with the reasons.
    pub fn refused(&self) -> Vec<RefusedBundle> {
        let mut refused = Vec::new();
        for (name, versions) in &self.0 {
            for Version { version, folder, state, .. } in &versions.versions {
                if let VersionState::Failed(reason) = state {
                    refused.push(RefusedBundle {
                        name: name.clone(),
                        version: version.clone(),
                        folder: folder.clone(),
                        reason: reason.clone(),
                    });
                }
            }
        }
        refused
    }

    /// The names by which frames are routed; `default` serves those that name no model.
    pub fn router(&self, default: &str) -> Router {
        let versions = self
            .models()
            .into_iter()
            .map(|model| VersionName { name: model.id().name.clone(), version: model.id().version.clone() });
        Router::new(default, versions.collect(), &self.active(), self.refused_names())
    }

    /// The model that `name` (its active version) or `name@version` stands for.
    ///
    /// # Errors
    /// `model_not_found`, with what was asked for and what there is.
    pub fn resolve(&self, asked: &str) -> Result<&Arc<Model>, Failure> {
        self.router("").place_of(asked).map(|place| self.models()[place])
    }

    /// The models as one generation, which `circuits` guard.
    pub fn generation(&self, default: &str, circuits: &Circuits) -> Generation {
        let models = self.models().into_iter().map(|model| Arc::clone(model) as Arc<dyn LoadedModel>);
        Generation::new(default, models.collect(), &self.active(), self.refused_names(), circuits)
    }

    fn active(&self) -> Vec<VersionName> {
        let active = self.0.iter().filter_map(|(name, versions)| {
            Some(VersionName { name: name.clone(), version: versions.active.clone()? })
        });
        active.collect()
    }

    fn refused_names(&self) -> Vec<VersionName> {
        self.refused().iter().map(RefusedBundle::name).collect()
    }
}

fn log(model: &Model) {
    let single = model.costs().first().map(|cost| cost.run).unwrap_or_default();
    let dispatch = model.dispatch().map(ToString::to_string);
    tracing::info!(
        model = %model.id(),
        run = ?single,
        max_batch = model.max_batch(),
        dispatch,
        "model loaded and warmed"
    );
    if let Err(reason) = model.check_finite() {
        let model = model.id();
        tracing::warn!(%model, reason, "outputs are not finite, and no reload would take them");
    }
    if model.batch_variant() {
        let model = model.id();
        tracing::warn!(%model, "answers depend on the batch, so frames of this model run one by one");
    }
}
