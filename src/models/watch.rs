//! Loads versions that are added to the repository while the daemon runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sferic_models::{Stamp, check_version};
use sferic_onnx::VersionState;
use tokio::time::Instant;

use super::service::ModelService;

/// Interval of the look. A version counts as complete once two looks have found the same files.
const LOOK: Duration = Duration::from_secs(1);

/// A version's folder.
struct Added {
    name: String,
    version: String,
    folder: PathBuf,
    stamp: Stamp,
}

/// Looks for added versions, and for failed ones whose files have changed, until it is dropped. None becomes
/// active, but the first of its model.
pub async fn watch(models: Arc<ModelService>) {
    let mut before = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let looking = Arc::clone(&models);
        let Ok(added) = tokio::task::spawn_blocking(move || looking.added()).await else { return };
        let mut seen = HashMap::new();
        for Added { name, version, folder, stamp } in added {
            let key = (name, version);
            if before.get(&key) == Some(&stamp) {
                models.load_added(&key.0, &key.1, &folder).await;
            }
            seen.insert(key, stamp);
        }
        before = seen;
    }
}

impl ModelService {
    /// Versions on disk that are not known, or have failed with other files.
    fn added(&self) -> Vec<Added> {
        let known: Vec<_> = {
            let catalog = self.catalog();
            let all = catalog.all().flat_map(|(_, versions)| &versions.versions);
            all.map(|known| known.folder.clone()).collect()
        };
        let gone: Vec<_> = known.into_iter().filter(|folder| !folder.is_dir()).collect();
        self.catalog_mut().forget(&gone);
        let models = self.repository.models().unwrap_or_else(|error| {
            if let Some(suppressed) = self.unreadable.pass(Instant::now()) {
                let folder = self.repository.folder().display();
                tracing::warn!(%folder, %error, suppressed, "the model repository cannot be read");
            }
            Vec::new()
        });
        let mut added = Vec::new();
        for (name, _) in models {
            for (version, folder) in self.repository.versions(&name).unwrap_or_default() {
                if let Some(stamp) = Stamp::of(&folder).filter(|stamp| self.is_new(&name, &version, stamp)) {
                    added.push(Added { name: name.clone(), version, folder, stamp });
                }
            }
        }
        added
    }

    /// Loads a version that was added to the repository, if it is wanted; from now on it is known.
    pub(super) async fn load_added(&self, name: &str, version: &str, folder: &Path) {
        let is_wanted = self.is_wanted(name, version);
        let refused = if is_wanted { self.load(name, version).await.err() } else { None };
        // What cannot be used is in the catalog, and logged.
        if let Some(error) = refused.as_ref().filter(|error| error.code() == 409) {
            tracing::warn!(model = name, version, error = error.message(), "not loaded");
        }
        self.catalog_mut().note(name, version, folder);
    }

    fn is_new(&self, name: &str, version: &str, stamp: &Stamp) -> bool {
        let catalog = self.catalog();
        let known = catalog.of(name).and_then(|versions| versions.get(version));
        check_version(version).is_ok()
            && known.is_none_or(|known| {
                matches!(known.state, VersionState::Failed(_)) && known.stamp.as_ref() != Some(stamp)
            })
    }

    /// Whether there is room for it, or it is higher than those that are loaded.
    fn is_wanted(&self, name: &str, version: &str) -> bool {
        let catalog = self.catalog();
        let Some(versions) = catalog.of(name) else { return true };
        let rank = |version: &str| (version.len(), version.to_owned());
        let highest = versions.ready().next_back().map(|model| rank(&model.id().version));
        versions.ready().count() < self.options.max_versions || highest < Some(rank(version))
    }
}
