//! What changes the models in service.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use sferic_actors::breaker::Circuits;
use sferic_actors::routing::Models;
use sferic_models::{Repository, Stamp};
use sferic_onnx::{Catalog, Model, Options, Runtime};
use sferic_settings::Settings;
use sferic_telemetry::Throttle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::change::Change;
use super::traffic::Traffic;
use crate::nats::ControlError;

/// The models in service, and what changes them.
pub struct ModelService {
    catalog: RwLock<Catalog>,
    pub(super) in_service: Arc<Models>,
    pub(super) circuits: Arc<Circuits>,
    pub(super) traffic: std::sync::Mutex<Traffic>,
    pub(super) repository: Repository,
    runtime: Runtime,
    pub(super) options: Options,
    /// What serves frames that name no model: `name` or `name@version`.
    pub(super) default: String,
    keep_warm: usize,
    /// Longer than any frame lives.
    drain_bound: Duration,
    changing: Mutex<()>,
    /// Changes that were made, and that failed.
    pub(super) changes: [AtomicU64; 2],
    pub(super) unreadable: Throttle,
}

/// What is loaded, and where it came from.
struct Loaded {
    model: Arc<Model>,
    folder: PathBuf,
    stamp: Option<Stamp>,
}

impl ModelService {
    /// Begins with the models of this catalog, which was loaded with `runtime` and `options`.
    pub fn new(
        settings: &Settings,
        catalog: Catalog,
        runtime: Runtime,
        options: &Options,
        circuits: &Arc<Circuits>,
    ) -> Arc<Self> {
        let models = &settings.models;
        Arc::new(Self {
            in_service: Models::new(catalog.generation(&models.default, circuits)),
            catalog: RwLock::new(catalog),
            circuits: Arc::clone(circuits),
            repository: Repository::new(&models.repository),
            options: options.usable_on(&runtime),
            runtime,
            default: models.default.clone(),
            keep_warm: models.keep_warm,
            drain_bound: settings.limits.max_timeout + Duration::from_secs(5),
            traffic: Default::default(),
            changing: Mutex::default(),
            changes: Default::default(),
            unreadable: Throttle::new(Duration::from_secs(60)),
        })
    }

    /// The generation in service, which frames are routed by.
    pub fn in_service(&self) -> &Arc<Models> {
        &self.in_service
    }

    /// Every version that is known.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What serves frames that name no model: `name` or `name@version`.
    pub fn default(&self) -> &str {
        &self.default
    }

    /// The name of the default model.
    pub fn default_name(&self) -> &str {
        self.default.split('@').next().unwrap_or_default()
    }

    /// Makes one change at a time; the next one need not wait for its drain.
    async fn alone(
        &self,
        change: impl Future<Output = Result<Change, ControlError>>,
    ) -> Result<Change, ControlError> {
        let change = {
            let _one = self.changing.lock().await;
            change.await
        };
        self.changes[usize::from(change.is_err())].fetch_add(1, Relaxed);
        Ok(change?.drained(self.drain_bound).await)
    }

    /// Loads a version beside those that serve, without making it active. Where as many are loaded as may be,
    /// the lowest one without a role is unloaded.
    ///
    /// # Errors
    /// There is no such version, or it cannot be used, or it serves with other files; then nothing has
    /// changed.
    pub async fn load(&self, name: &str, version: &str) -> Result<Change, ControlError> {
        self.alone(self.load_now(name, version)).await
    }

    async fn load_now(&self, name: &str, version: &str) -> Result<Change, ControlError> {
        let begun = Instant::now();
        let folder = self.folder(name, version)?;
        let is_active =
            self.catalog().of(name).is_some_and(|versions| versions.active.as_deref() == Some(version));
        match self.is_unchanged(name, version, &folder) {
            Some(true) => {
                let mut change = self.change(name, begun, |_| Vec::new());
                change.message = format!("{name}@{version} was loaded already");
                change.new_version = Some(version.to_owned());
                return Ok(change);
            }
            Some(false) if is_active => {
                let message = format!("{name}@{version} is active, and its files have changed: reload it");
                return Err(ControlError::new(409, message));
            }
            Some(false) | None => {}
        }
        let surplus = self.surplus(name, version)?;
        let loaded = self.open(name, version, &folder, |_| Ok(())).await?;
        let mut change = self.change(name, begun, |catalog| {
            let replaced = catalog.add(Arc::clone(&loaded.model), &loaded.folder, loaded.stamp);
            replaced
                .into_iter()
                .chain(surplus.as_deref().and_then(|lowest| catalog.retire(name, lowest)))
                .collect()
        });
        change.message = match &surplus {
            None => format!("{name}@{version} is loaded"),
            Some(lowest) => format!(
                "{name}@{version} is loaded, version {lowest} is not any more: models.max_versions is {}",
                self.options.max_versions
            ),
        };
        change.new_version = Some(version.to_owned());
        Ok(change)
    }

    /// [`load`](Self::load) of the highest version that has not failed.
    ///
    /// # Errors
    /// As there.
    pub async fn load_highest(&self, name: &str) -> Result<Change, ControlError> {
        let highest = self.highest(name)?;
        self.load(name, &highest).await
    }

    /// Makes a version active, the highest that has not failed where none is given. It is loaded from disk
    /// beside the one that serves, unless it is loaded and its files are the same; `force` loads it anyway.
    ///
    /// # Errors
    /// There is no such version, or it cannot be used; then nothing has changed.
    pub async fn reload(
        &self,
        name: &str,
        version: Option<&str>,
        force: bool,
    ) -> Result<Change, ControlError> {
        self.alone(async {
            match version {
                Some(version) => self.reload_now(name, version, force).await,
                None => self.reload_now(name, &self.highest(name)?, force).await,
            }
        })
        .await
    }

    async fn reload_now(&self, name: &str, version: &str, force: bool) -> Result<Change, ControlError> {
        let begun = Instant::now();
        let folder = self.folder(name, version)?;
        if !force && self.is_unchanged(name, version, &folder) == Some(true) {
            self.check_finite(name, version)?;
            return self.activate(name, version, begun, "its files have not changed");
        }
        let loaded = self.open(name, version, &folder, Model::check_finite).await?;
        let mut change = self.change(name, begun, |catalog| {
            let replaced = catalog.add(Arc::clone(&loaded.model), &loaded.folder, loaded.stamp);
            replaced.into_iter().chain(self.switch(catalog, name, version)).collect()
        });
        change.message = format!("{name}@{version} is loaded and active");
        Ok(change)
    }

    /// Makes a loaded version active; the highest one where none is given.
    ///
    /// # Errors
    /// It is not loaded.
    pub async fn promote(&self, name: &str, version: Option<&str>) -> Result<Change, ControlError> {
        self.alone(async {
            let highest = {
                let catalog = self.catalog();
                let versions = catalog.of(name).ok_or_else(|| Self::unknown(&catalog, name))?;
                versions.ready().next_back().map(|model| model.id().version.clone())
            };
            let version = version.map(str::to_owned).or(highest);
            let version =
                version.ok_or_else(|| ControlError::new(409, format!("no version of {name} is loaded")))?;
            self.check_finite(name, &version)?;
            self.activate(name, &version, Instant::now(), "it was loaded")
        })
        .await
    }

    /// Makes the previous version active again, which is loaded first where it is not any more.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub async fn rollback(&self, name: &str) -> Result<Change, ControlError> {
        self.alone(async {
            let (previous, is_loaded) = {
                let catalog = self.catalog();
                let versions = catalog.of(name).ok_or_else(|| Self::unknown(&catalog, name))?;
                let previous = versions.previous.clone().ok_or_else(|| {
                    ControlError::new(409, format!("no version of {name} was active before this one"))
                })?;
                let is_loaded = versions.get(&previous).and_then(|known| known.model()).is_some();
                (previous, is_loaded)
            };
            // As it served, whatever has become of its files.
            if is_loaded {
                return self.activate(name, &previous, Instant::now(), "it was still loaded");
            }
            self.reload_now(name, &previous, false).await
        })
        .await
    }

    /// Takes a version out of service, or all of the model where none is given. Frames that it has end with
    /// it. The active version, and the default model, go only with `force`.
    ///
    /// # Errors
    /// It is not loaded, or needs `force`.
    pub async fn unload(
        &self,
        name: &str,
        version: Option<&str>,
        force: bool,
    ) -> Result<Change, ControlError> {
        self.alone(async { self.unload_now(name, version, force) }).await
    }

    fn unload_now(&self, name: &str, version: Option<&str>, force: bool) -> Result<Change, ControlError> {
        let begun = Instant::now();
        let (going, active) = {
            let catalog = self.catalog();
            let versions = catalog.of(name).ok_or_else(|| Self::unknown(&catalog, name))?;
            let loaded = versions.ready().map(|model| model.id().version.clone());
            let going: Vec<_> = loaded.filter(|loaded| version.is_none_or(|asked| asked == loaded)).collect();
            (going, versions.active.clone())
        };
        if going.is_empty() {
            let what = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
            return Err(ControlError::new(409, format!("{what} is not loaded")));
        }
        let needs_force = match (version, &active) {
            (Some(version), Some(active)) if version == active => {
                Some(format!("{name}@{version} is active: promote another version first, or force it"))
            }
            (Some(version), _) if self.pinned(name) == Some(version) => Some(format!(
                "{name}@{version} is models.default: frames that name no model need it; force it otherwise"
            )),
            (None, _) if name == self.default_name() => Some(format!(
                "{name} is models.default: frames that name no model need it; force it otherwise"
            )),
            _ => None,
        };
        if let Some(message) = needs_force.filter(|_| !force) {
            return Err(ControlError::new(409, message));
        }
        let mut change = self.change(name, begun, |catalog| {
            let previous = catalog.of(name).and_then(|versions| versions.previous.clone());
            let retired: Vec<_> = going.iter().filter_map(|version| catalog.retire(name, version)).collect();
            let highest = catalog.of(name).and_then(|versions| versions.ready().next_back().cloned());
            let is_headless = catalog.of(name).is_some_and(|versions| versions.active.is_none());
            if is_headless
                && !previous.is_some_and(|previous| catalog.activate(name, &previous))
                && let Some(highest) = highest
            {
                catalog.activate(name, &highest.id().version);
            }
            retired
        });
        change.message = format!("{name}@{} is unloaded", going.join(", "));
        Ok(change)
    }

    fn activate(&self, name: &str, version: &str, begun: Instant, why: &str) -> Result<Change, ControlError> {
        let is_loaded = self.catalog().of(name).and_then(|versions| versions.get(version)?.model()).is_some();
        if !is_loaded {
            return Err(ControlError::new(409, format!("{name}@{version} is not loaded: load it first")));
        }
        let mut change = self.change(name, begun, |catalog| self.switch(catalog, name, version));
        change.message = match change.previous_version.as_deref() == Some(version) {
            true => format!("{name}@{version} was active already, and {why}"),
            false => format!("{name}@{version} is active; {why}"),
        };
        Ok(change)
    }

    /// Makes a loaded version active, and retires those that do not stay loaded then. Nothing changes where
    /// it is active already.
    fn switch(&self, catalog: &mut Catalog, name: &str, version: &str) -> Vec<Arc<Model>> {
        if catalog.of(name).is_none_or(|versions| versions.active.as_deref() == Some(version)) {
            return Vec::new();
        }
        catalog.activate(name, version);
        let keep = self.keep_warm.min(self.options.max_versions);
        let beyond = catalog.of(name).map(|versions| self.in_memory(name, versions).beyond(keep));
        beyond.unwrap_or_default().iter().filter_map(|version| catalog.retire(name, version)).collect()
    }

    /// Loads and checks a bundle, off the async threads.
    async fn open(
        &self,
        name: &str,
        version: &str,
        folder: &Path,
        check: fn(&Model) -> Result<(), String>,
    ) -> Result<Loaded, ControlError> {
        self.catalog_mut().begin(name, version, folder);
        let (runtime, options) = (self.runtime.clone(), self.options.clone());
        let (model, number, bundle) = (name.to_owned(), version.to_owned(), folder.to_owned());
        let stamp = Stamp::of(folder);
        let loading = tokio::task::spawn_blocking(move || {
            let model = Model::load(&model, &number, &bundle, &runtime, &options)?;
            check(&model).map(|()| model)
        });
        let loaded = loading.await.unwrap_or_else(|error| Err(format!("loading it panicked: {error}")));
        match loaded {
            Ok(model) => Ok(Loaded { model: Arc::new(model), folder: folder.to_owned(), stamp }),
            Err(reason) => {
                let mut catalog = self.catalog_mut();
                catalog.refuse(name, version, folder, stamp, &reason);
                self.serve(&catalog);
                let message = format!("{name}@{version} cannot be used, and nothing has changed: {reason}");
                Err(ControlError::new(422, message))
            }
        }
    }

    /// Changes the catalog and what serves, at once; `change` returns what is to be freed.
    fn change(
        &self,
        name: &str,
        begun: Instant,
        change: impl FnOnce(&mut Catalog) -> Vec<Arc<Model>>,
    ) -> Change {
        let mut catalog = self.catalog_mut();
        let active =
            |catalog: &Catalog| catalog.of(name).and_then(|versions| versions.active_model().cloned());
        let before = active(&catalog);
        let freed = change(&mut catalog);
        self.serve(&catalog);
        let is_loaded = |id: &_| catalog.models().iter().any(|model| **model.id() == *id);
        self.circuits.retain(is_loaded);
        let version = |model: &Arc<Model>| model.id().version.clone();
        Change {
            success: true,
            message: String::new(),
            model: name.to_owned(),
            previous_version: before.as_ref().map(version),
            new_version: active(&catalog).as_ref().map(version),
            reload_time_ms: 0.0,
            requests_drained: 0,
            begun,
            freed,
        }
    }
}
