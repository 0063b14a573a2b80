//! The files of a bundle's folder, by their names in it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where an installed version says where it came from.
pub const SOURCE: &str = ".source";

/// The signature of a bundle, as the tools of OpenSSF Model Signing name it.
pub const SIGNATURE: &str = "model.sig";

/// How many files a bundle may have.
pub(crate) const MAX_FILES: usize = 10_000;

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundleFile {
    /// Its path below the folder, with `/` between the parts.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Whether a file may be a link to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Followed,
    Refused,
}

/// The files below `folder`, in the order in which Model Signing lists them: by the parts of their paths.
///
/// # Errors
/// One cannot be read, is neither a regular file nor a folder, or has a name that is no text; there are more
/// than [`MAX_FILES`]; or they have more than `max_bytes` together.
pub(crate) fn list(folder: &Path, links: Links, max_bytes: u64) -> Result<Vec<BundleFile>, String> {
    let mut files = Vec::new();
    collect(folder, "", links, &mut files)?;
    files.sort_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
    let bytes = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    if bytes > max_bytes {
        return Err(too_large(bytes, max_bytes));
    }
    Ok(files)
}

/// The message for a bundle of too many bytes.
pub(crate) fn too_large(bytes: u64, max_bytes: u64) -> String {
    format!("its files have {bytes} bytes together, over models.max_bytes, {max_bytes}")
}

fn collect(folder: &Path, above: &str, links: Links, files: &mut Vec<BundleFile>) -> Result<(), String> {
    let unreadable = |path: &Path, error: io::Error| format!("can't read {}: {error}", path.display());
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(format!("{} has a name that is no text", path.display()));
        };
        let name = format!("{above}{name}");
        let itself = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, error))?;
        if itself.is_dir() {
            collect(&path, &format!("{name}/"), links, files)?;
            continue;
        }
        let found = fs::metadata(&path).map_err(|error| unreadable(&path, error))?;
        if !found.is_file() || links == Links::Refused && itself.is_symlink() {
            return Err(format!("{} is not a regular file", path.display()));
        }
        if files.len() == MAX_FILES {
            return Err(format!("{} has more than {MAX_FILES} files", folder.display()));
        }
        files.push(BundleFile { name, path, bytes: found.len() });
    }
    Ok(())
}

/// Checks a file's name that came from elsewhere: a relative path that stays in the folder.
///
/// # Errors
/// In words, with the name.
pub(crate) fn check_inside(name: &Path) -> Result<(), String> {
    let mut parts = name.components().peekable();
    let is_inside = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    if is_inside && name.to_str().is_some_and(|name| !name.contains(['\0', '\\'])) {
        return Ok(());
    }
    Err(format!("`{}` is no path in the bundle's folder", name.display().to_string().escape_debug()))
}

/// SHA-256 of a file, in hexadecimal digits and as bytes.
pub(crate) fn digest(path: &Path) -> Result<[u8; 32], String> {
    let hashing = || -> io::Result<[u8; 32]> {
        let mut hasher = Sha256::new();
        io::copy(&mut fs::File::open(path)?, &mut Hashing(&mut hasher))?;
        Ok(hasher.finalize().into())
    };
    hashing().map_err(|error| format!("can't read {}: {error}", path.display()))
}

/// Takes what is written into a digest.
pub(crate) struct Hashing<'a>(pub(crate) &'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_by_the_parts_of_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        for name in ["model.toml", "data.bin", "data/weights"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let names = |links| {
            list(folder.path(), links, 100)
                .map(|files| files.into_iter().map(|file| file.name).collect::<Vec<_>>())
        };
        assert_eq!(names(Links::Refused).unwrap(), ["data/weights", "data.bin", "model.toml"]);
        assert!(list(folder.path(), Links::Refused, 29).unwrap_err().contains("30 bytes"));
        std::os::unix::fs::symlink("data.bin", folder.path().join("link")).unwrap();
        assert_eq!(names(Links::Followed).unwrap().len(), 4);
        assert!(names(Links::Refused).unwrap_err().contains("link is not a regular file"));
        std::os::unix::fs::symlink("data", folder.path().join("link2")).unwrap();
        assert!(names(Links::Followed).unwrap_err().contains("link2 is not a regular file"));
    }

    #[test]
    fn names_stay_inside() {
        for name in ["a", "a/b", "..a", ".source"] {
            assert_eq!(check_inside(Path::new(name)), Ok(()));
        }
        for name in ["", ".", "..", "a/../b", "../a", "/a", "a\\b", "a\0"] {
            assert!(check_inside(Path::new(name)).is_err(), "{name:?}");
        }
    }
}
