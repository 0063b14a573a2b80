//! Files of a bundle: within its folder, and within its size.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::BundleError;

/// How a Git LFS pointer begins.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The bytes of a bundle's files so far, and how many they may have.
#[derive(Debug)]
pub(crate) struct Size {
    bytes: u64,
    most: u64,
}

impl Size {
    /// Nothing yet.
    pub(crate) fn within(most: u64) -> Self {
        Self { bytes: 0, most }
    }

    /// Adds a file that is about to be read.
    pub(crate) fn add(&mut self, path: &Path) -> Result<(), BundleError> {
        let file = fs::metadata(path).map_err(|error| BundleError::Read { path: path.into(), error })?;
        self.bytes = self.bytes.saturating_add(file.len());
        if self.bytes <= self.most {
            return Ok(());
        }
        Err(BundleError::TooLarge { path: path.into(), bytes: self.bytes, most: self.most })
    }
}

/// The absolute path of a folder, without links.
pub(crate) fn real(folder: &Path) -> Result<PathBuf, BundleError> {
    folder.canonicalize().map_err(|error| BundleError::Read { path: folder.into(), error })
}

/// The path of a file that is to lie in the bundle's `folder` (an absolute path without links). `what` says
/// in an error where it is named.
pub(crate) fn inside(folder: &Path, location: &str, what: &'static str) -> Result<PathBuf, BundleError> {
    let outside = |path: &Path| BundleError::Outside { what, location: location.into(), path: path.into() };
    let path = folder.join(location);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(location).components().all(plain) {
        return Err(outside(&path));
    }
    let real = path.canonicalize().map_err(|error| BundleError::Read { path: path.clone(), error })?;
    if !real.starts_with(folder) {
        return Err(outside(&real));
    }
    // Reading a pipe would block.
    if real.is_file() { Ok(real) } else { Err(BundleError::NoFile { what, path }) }
}

/// The path of a file that every bundle has. It may be a link to anywhere: whoever made the folder chose it.
pub(crate) fn own(folder: &Path, name: &str) -> Result<PathBuf, BundleError> {
    let path = folder.join(name);
    let file = fs::metadata(&path).map_err(|error| BundleError::Read { path: path.clone(), error })?;
    // A pipe would block, a device never end.
    if file.is_file() { Ok(path) } else { Err(BundleError::NoFile { what: "the bundle has", path }) }
}

/// Reads a file of a bundle.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    let bytes = fs::read(path).map_err(|error| BundleError::Read { path: path.into(), error })?;
    if bytes.starts_with(LFS) { Err(BundleError::LfsPointer(path.into())) } else { Ok(bytes) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_the_folder_or_are_linked_and_none_is_a_pipe() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = real(outer.path()).expect("there").join("bundle");
        fs::create_dir(&folder).expect("made");
        fs::write(outer.path().join("elsewhere"), b"outside").expect("written");
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).expect("linked");
        link("../elsewhere", "weights");
        assert!(matches!(inside(&folder, "weights", "in"), Err(BundleError::Outside { .. })));
        assert!(own(&folder, "weights").is_ok(), "a model.onnx that is shared by bundles");
        fs::write(folder.join("data"), b"inside").expect("written");
        link("data", "golden");
        assert!(inside(&folder, "golden", "in").is_ok());
        link("/dev/zero", "zero");
        let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().expect("mkfifo");
        assert!(made.success());
        for name in ["zero", "pipe"] {
            assert!(matches!(own(&folder, name), Err(BundleError::NoFile { .. })), "{name}");
        }
        assert!(matches!(inside(&folder, "pipe", "in"), Err(BundleError::NoFile { .. })));
    }
}
