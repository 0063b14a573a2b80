//! The model repository: every version of every model.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sferic_actors::breaker::Circuits;
use sferic_actors::outcome::Failure;
use sferic_actors::ports::LoadedModel;
use sferic_actors::routing::{Generation, Router, VersionName};

use super::library::Runtime;
use super::model::Model;
use super::options::{ExecutionProvider, Options};
use super::provider::usable;

/// The loaded models.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Sorted by name, then by version as a number.
    models: Vec<Arc<Model>>,
    refused: Vec<RefusedBundle>,
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

impl Catalog {
    /// Loads and warms every `<repository>/<name>/<version>`. A folder that cannot be used is
    /// [refused](Self::refused) with a warning, and the others are loaded. Files beside the folders, and
    /// names that start with a dot, are ignored.
    ///
    /// # Errors
    /// [`CatalogError`]: the repository is no readable folder.
    pub fn load(repository: &Path, runtime: &Runtime, options: &Options) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        let options = &Options { providers: usable_here(runtime, &options.providers), ..options.clone() };
        for (name, folder) in
            folders(repository).map_err(|error| CatalogError { folder: repository.into(), error })?
        {
            let versions = match versions(&name, &folder) {
                Ok(versions) => versions,
                Err(reason) => {
                    catalog.refuse(name, String::new(), folder, &reason);
                    continue;
                }
            };
            for (version, folder) in versions {
                match check_version(&version)
                    .and_then(|()| Model::load(&name, &version, &folder, runtime, options))
                {
                    Ok(model) => catalog.add(Arc::new(model)),
                    Err(reason) => catalog.refuse(name.clone(), version, folder, &reason),
                }
            }
        }
        Ok(catalog)
    }

    fn add(&mut self, model: Arc<Model>) {
        let single = model.costs().first().map(|cost| cost.run).unwrap_or_default();
        let dispatch = model.dispatch().map(ToString::to_string);
        let max_batch = model.max_batch();
        tracing::info!(model = %model.id(), run = ?single, max_batch, dispatch, "model loaded and warmed");
        if model.batch_variant() {
            let model = model.id();
            tracing::warn!(%model, "answers depend on the batch, so frames of this model run one by one");
        }
        self.models.push(model);
    }

    fn refuse(&mut self, name: String, version: String, folder: PathBuf, reason: &str) {
        // Some messages of the library have several lines.
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        tracing::warn!(model = name, version, folder = %folder.display(), reason, "model bundle refused");
        self.refused.push(RefusedBundle { name, version, folder, reason });
    }

    /// Every loaded version, sorted by name and version.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Refused bundles, with the reasons.
    pub fn refused(&self) -> &[RefusedBundle] {
        &self.refused
    }

    /// The names by which frames are routed; `default` serves those that name no model.
    pub fn router(&self, default: &str) -> Router {
        let versions = self
            .models
            .iter()
            .map(|model| VersionName { name: model.id().name.clone(), version: model.id().version.clone() });
        Router::new(default, versions.collect(), self.refused_names())
    }

    /// The model that `name` (its highest version) or `name@version` stands for.
    ///
    /// # Errors
    /// `model_not_found`, with what was asked for and what there is.
    pub fn resolve(&self, asked: &str) -> Result<&Arc<Model>, Failure> {
        self.router("").place_of(asked).map(|place| &self.models[place])
    }

    /// The models as one generation, which `circuits` guard.
    pub fn generation(&self, default: &str, circuits: &Circuits) -> Generation {
        let models = self.models.iter().map(|model| Arc::clone(model) as Arc<dyn LoadedModel>);
        Generation::new(default, models.collect(), self.refused_names(), circuits)
    }

    fn refused_names(&self) -> Vec<VersionName> {
        self.refused.iter().map(RefusedBundle::name).collect()
    }
}

/// Checks that a version is written in the only allowed form.
fn check_version(version: &str) -> Result<(), String> {
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (version.len() == 1 || !version.starts_with('0')) {
        return Ok(());
    }
    Err(format!(
        "version `{version}` is no number in decimal digits without sign or leading zeros: rename the folder"
    ))
}

/// The configured providers that the library has and registers. Others are logged here once, not for every
/// model.
fn usable_here(runtime: &Runtime, providers: &[ExecutionProvider]) -> Vec<ExecutionProvider> {
    let is_usable = |provider: ExecutionProvider| {
        usable(runtime, provider)
            .inspect_err(|reason| tracing::warn!(%provider, reason, "execution provider left out"))
            .is_ok()
    };
    providers.iter().copied().filter(|&provider| is_usable(provider)).collect()
}

fn folders(parent: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        // Follows links: a repository may consist of them.
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') {
            folders.push((name, path));
        }
    }
    folders.sort();
    Ok(folders)
}

/// The version folders of a model, by rising number; names that are no number come first.
fn versions(name: &str, folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    if name.contains('@') {
        return Err("a model's name can't hold `@`, which stands before a version".into());
    }
    let mut versions = folders(folder).map_err(|error| error.to_string())?;
    if versions.is_empty() {
        return Err("holds no version folder".into());
    }
    // Without leading zeros the longer number is the larger one.
    versions
        .sort_by_cached_key(|(version, _)| (check_version(version).is_ok(), version.len(), version.clone()));
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_written_in_one_way() {
        for version in ["0", "7", "10", "20261127", "123456789012345678901234567890"] {
            assert_eq!(check_version(version), Ok(()));
        }
        for version in ["", "07", "00", "+3", "-3", "1.0", "1e3", " 1", "v1", "latest", "٣", "0x1"] {
            assert!(
                check_version(version).is_err_and(|error| error.contains(&format!("`{version}`"))),
                "{version:?}"
            );
        }
    }

    #[test]
    fn versions_rise_as_numbers_of_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let rising = ["old", "0", "9", "10", "18446744073709551616", "123456789012345678901234567890"];
        rising.iter().rev().for_each(|version| fs::create_dir(folder.path().join(version)).unwrap());
        let found = versions("m", folder.path()).unwrap();
        assert_eq!(found.iter().map(|(version, _)| version.as_str()).collect::<Vec<_>>(), rising);
    }
}
