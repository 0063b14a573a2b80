//! Puts what a registry offers into the model repository.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sferic_models::{Bundle, check_name, check_version};

use super::files::{Links, SOURCE, list};
use super::signature::TrustedKeys;
use super::{Offer, Registry, RegistryError};

/// How the folders begin in which bundles lie until they are checked.
const STAGING: &str = ".incoming-";

/// Installs bundles into a model repository.
///
/// Invariant: a version's folder is there as a whole, and checked, or not at all.
#[derive(Debug, Clone)]
pub struct Installer {
    repository: PathBuf,
    max_bytes: u64,
    trusted: Option<TrustedKeys>,
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// The version was not there.
    Added,
    /// The same source had another content for it before.
    Replaced,
    /// It is there already.
    Unchanged,
}

/// Where an installed version came from; a file in its folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    label: String,
    stamp: String,
}

/// What lies at the place of a version.
enum Place {
    Free,
    /// This version, with another content.
    Other,
    /// This version as it is offered.
    Same,
}

impl Installer {
    /// Installs into `repository`, which is made where it is missing, bundles of `max_bytes` at most, signed
    /// with one of the `trusted` keys where there are any. What earlier runs have left half done is removed.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn new(
        repository: impl Into<PathBuf>,
        max_bytes: u64,
        trusted: Option<TrustedKeys>,
    ) -> io::Result<Self> {
        let repository = repository.into();
        fs::create_dir_all(&repository)?;
        for entry in fs::read_dir(&repository)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(STAGING) {
                remove_abandoned(&entry.path());
            }
        }
        Ok(Self { repository, max_bytes, trusted })
    }

    /// Whether a version is there as it is offered.
    ///
    /// # Errors
    /// Its name is none, or its place is taken by a version from elsewhere.
    pub fn is_installed(&self, registry: &dyn Registry, offer: &Offer) -> Result<bool, RegistryError> {
        check_name(&offer.name)
            .and_then(|()| check_version(&offer.version))
            .map_err(RegistryError::Refused)?;
        Ok(matches!(look(&self.place(offer), &source(registry, offer))?, Place::Same))
    }

    fn place(&self, offer: &Offer) -> PathBuf {
        self.repository.join(&offer.name).join(&offer.version)
    }

    /// Fetches a version, checks it, and puts it in its place.
    ///
    /// # Errors
    /// It cannot be had, it is not in order, or its place is taken by a version from elsewhere; then nothing
    /// has changed.
    pub async fn install(&self, registry: &dyn Registry, offer: &Offer) -> Result<Installed, RegistryError> {
        if self.is_installed(registry, offer)? {
            return Ok(Installed::Unchanged);
        }
        let (place, source) = (self.place(offer), source(registry, offer));
        let staging = Staging::new(&self.repository).map_err(unwritable)?;
        registry.fetch(offer, &staging.bundle, self.max_bytes).await?;
        let (max_bytes, trusted) = (self.max_bytes, self.trusted.clone());
        let placing = tokio::task::spawn_blocking(move || {
            check(&staging.bundle, max_bytes, trusted.as_ref()).map_err(RegistryError::Refused)?;
            seal(&staging.bundle, &source).map_err(unwritable)?;
            put(&staging, &place, &source)
        });
        placing
            .await
            .unwrap_or_else(|error| Err(RegistryError::Refused(format!("checking it panicked: {error}"))))
    }
}

fn source(registry: &dyn Registry, offer: &Offer) -> Source {
    Source { label: registry.label().to_owned(), stamp: offer.stamp.clone() }
}

fn unwritable(error: io::Error) -> RegistryError {
    RegistryError::Unreachable(format!("can't write to the model repository: {error}"))
}

/// A folder aside, which goes with this value.
struct Staging {
    folder: tempfile::TempDir,
    /// Where the files go.
    bundle: PathBuf,
    /// Other daemons on the same repository see by it that the folder is in use.
    _lock: File,
}

impl Staging {
    fn new(repository: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(STAGING).tempdir_in(repository)?;
        let lock = File::open(folder.path())?;
        lock.lock()?;
        let bundle = folder.path().join("bundle");
        fs::create_dir(&bundle)?;
        Ok(Self { folder, bundle, _lock: lock })
    }
}

/// Removes a folder that nobody uses. One that stays does no harm: the watcher does not look at it.
fn remove_abandoned(folder: &Path) {
    if let Ok(lock) = File::open(folder)
        && !matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Compares what lies at a version's place with what is offered.
fn look(place: &Path, offered: &Source) -> Result<Place, RegistryError> {
    let shown = place.display();
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free),
        Err(error) => return Err(RegistryError::Unreachable(format!("can't read {shown}: {error}"))),
        Ok(_) => {}
    }
    let text = fs::read_to_string(place.join(SOURCE)).ok();
    match text.and_then(|text| serde_json::from_str::<Source>(&text).ok()) {
        Some(there) if there == *offered => Ok(Place::Same),
        Some(there) if there.label == offered.label => Ok(Place::Other),
        Some(Source { label, .. }) => {
            Err(RegistryError::Refused(format!("{shown} came from {label}, and is not overwritten")))
        }
        None => Err(RegistryError::Refused(format!(
            "{shown} was put there by somebody (it has no {SOURCE}), and is not overwritten"
        ))),
    }
}

/// Checks a fetched bundle by itself; whether its ONNX file can be run is found when it is loaded.
fn check(bundle: &Path, max_bytes: u64, trusted: Option<&TrustedKeys>) -> Result<(), String> {
    list(bundle, Links::Refused, max_bytes)?;
    if let Some(keys) = trusted {
        keys.check(bundle, max_bytes)?;
    }
    Bundle::read_within(bundle, max_bytes).map(|_| ()).map_err(|error| error.to_string())
}

/// Writes where a bundle came from, and all of it to the disk: after a power cut no empty file may be taken
/// for an installed one.
fn seal(bundle: &Path, source: &Source) -> io::Result<()> {
    fs::write(bundle.join(SOURCE), serde_json::to_string(source)?)?;
    for file in list(bundle, Links::Refused, u64::MAX).map_err(io::Error::other)? {
        File::open(file.path)?.sync_all()?;
    }
    File::open(bundle)?.sync_all()
}

/// Moves a checked bundle to its place.
fn put(staging: &Staging, place: &Path, source: &Source) -> Result<Installed, RegistryError> {
    if let Some(model) = place.parent() {
        fs::create_dir_all(model).map_err(unwritable)?;
    }
    match look(place, source)? {
        Place::Same => Ok(Installed::Unchanged),
        Place::Free => match fs::rename(&staging.bundle, place) {
            Ok(()) => Ok(Installed::Added),
            // Another daemon on the same repository was faster.
            Err(_) if matches!(look(place, source)?, Place::Same) => Ok(Installed::Unchanged),
            Err(error) => Err(unwritable(error)),
        },
        Place::Other => {
            swap(staging, place).map_err(unwritable)?;
            Ok(Installed::Replaced)
        }
    }
}

/// Lets the new folder and the old one change places; the old one goes with the staging folder.
fn swap(staging: &Staging, place: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, &staging.bundle, CWD, place, RenameFlags::EXCHANGE) {
        // File systems that cannot do it in one step, as NFS.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let old = staging.folder.path().join("old");
            fs::rename(place, &old)?;
            fs::rename(&staging.bundle, place).inspect_err(|_| drop(fs::rename(&old, place)))
        }
        swapped => Ok(swapped?),
    }
}

#[cfg(test)]
#[path = "install/tests.rs"]
mod tests;
