//! A model repository on disk: `<repository>/<name>/<version>/model.onnx` with `model.toml` beside it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// A folder of models.
#[derive(Debug, Clone)]
pub struct Repository(PathBuf);

/// Sizes and times of a bundle's files, which change while it is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, u64, SystemTime)>);

impl Repository {
    /// The repository in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Names and folders of the models, sorted. Files beside them, and names that start with a dot, are
    /// ignored.
    ///
    /// # Errors
    /// It is no readable folder.
    pub fn models(&self) -> io::Result<Vec<(String, PathBuf)>> {
        folders(&self.0)
    }

    /// The version folders of the model in `folder`, by rising number; names that are no number come first.
    ///
    /// # Errors
    /// In words: the name, or the folder.
    pub fn versions(&self, name: &str) -> Result<Vec<(String, PathBuf)>, String> {
        check_name(name)?;
        let mut versions = folders(&self.0.join(name)).map_err(|error| error.to_string())?;
        if versions.is_empty() {
            return Err("holds no version folder".into());
        }
        // Without leading zeros the longer number is the larger one.
        versions.sort_by_cached_key(|(version, _)| {
            (check_version(version).is_ok(), version.len(), version.clone())
        });
        Ok(versions)
    }

    /// The folder of a version.
    ///
    /// # Errors
    /// In words: the name or the version is none, or it is not there, with what is.
    pub fn version(&self, name: &str, version: &str) -> Result<PathBuf, String> {
        check_name(name)?;
        check_version(version)?;
        let there =
            self.versions(name).map_err(|error| format!("{}: {error}", self.0.join(name).display()))?;
        let found = there.iter().find(|(number, _)| number == version);
        found.map(|(_, folder)| folder.clone()).ok_or_else(|| {
            let there: Vec<_> = there.into_iter().map(|(number, _)| number).collect();
            let (folder, there) = (self.0.display(), there.join(", "));
            format!("no version {version} of {name} in {folder}; there are {there}")
        })
    }
}

/// Checks that a name is one folder's.
///
/// # Errors
/// In words.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.contains('@') {
        return Err("a model's name can't hold `@`, which stands before a version".into());
    }
    let mut parts = Path::new(name).components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if is_one && !name.starts_with('.') && !name.contains(['/', '\0']) {
        return Ok(());
    }
    Err(format!("`{}` is no name of a model: it must be that of a folder", name.escape_debug()))
}

/// Checks that a version is written in the only allowed form.
///
/// # Errors
/// In words.
pub fn check_version(version: &str) -> Result<(), String> {
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (version.len() == 1 || !version.starts_with('0')) {
        return Ok(());
    }
    Err(format!(
        "version `{version}` is no number in decimal digits without sign or leading zeros: rename the folder"
    ))
}

impl Stamp {
    /// Of the files in a bundle's folder; `None` while the folder or one of its two files is missing.
    pub fn of(folder: &Path) -> Option<Self> {
        let mut files = Vec::new();
        collect(folder, &mut files).ok()?;
        files.sort();
        let has = |name: &str| files.iter().any(|(path, ..)| *path == folder.join(name));
        (has("model.onnx") && has("model.toml")).then_some(Self(files))
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64, SystemTime)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_dir() {
            collect(&path, files)?;
        } else if let Ok(found) = fs::metadata(&path) {
            files.push((path, found.len(), found.modified()?));
        }
    }
    Ok(())
}

fn folders(parent: &Path) -> io::Result<Vec<(String, PathBuf)>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_written_in_one_way() {
        for version in ["0", "7", "10", "20261127", "123456789012345678901234567890"] {
            assert_eq!(check_version(version), Ok(()));
        }
        for version in ["", "07", "00", "+3", "-3", "1.0", "1e3", " 1", "v1", "latest", "٣", "0x1", "../1"] {
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
        rising
            .iter()
            .rev()
            .for_each(|version| fs::create_dir_all(folder.path().join("m").join(version)).unwrap());
        let found = Repository::new(folder.path()).versions("m").unwrap();
        assert_eq!(found.iter().map(|(version, _)| version.as_str()).collect::<Vec<_>>(), rising);
    }

    #[test]
    fn what_is_no_version_of_the_repository_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1", "2"] {
            fs::create_dir_all(folder.path().join("in/m").join(version)).unwrap();
        }
        fs::create_dir_all(folder.path().join("out/1")).unwrap();
        let repository = Repository::new(folder.path().join("in"));
        assert!(repository.version("m", "2").is_ok_and(|found| found.ends_with("in/m/2")));
        for (name, version, part) in [
            ("m", "3", "no version 3 of m in"),
            ("m", "3", "there are 1, 2"),
            ("m", "../m/1", "version `../m/1`"),
            ("../out", "1", "`../out` is no name"),
            ("/tmp", "1", "`/tmp` is no name"),
            ("m/../m", "1", "is no name"),
            (".", "1", "`.` is no name"),
            ("", "1", "`` is no name"),
            ("m@1", "1", "can't hold `@`"),
        ] {
            let error = repository.version(name, version).unwrap_err();
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_stamp_changes_with_every_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Stamp::of(folder.path()), None);
        fs::write(folder.path().join("model.onnx"), "graph").unwrap();
        assert_eq!(Stamp::of(folder.path()), None, "without its model.toml it is not complete");
        fs::write(folder.path().join("model.toml"), "").unwrap();
        let first = Stamp::of(folder.path()).unwrap();
        assert_eq!(Stamp::of(folder.path()), Some(first.clone()));
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/weights"), "w").unwrap();
        assert_ne!(Stamp::of(folder.path()), Some(first));
    }
}
