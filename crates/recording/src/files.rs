//! Names of files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The extension in lower case; empty where there is none.
pub fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// The name without its extension.
pub fn stem(path: &Path) -> &OsStr {
    path.file_stem().unwrap_or_default()
}

/// The file at `path`, or, where there is none, the one beside it whose extension is written in another case.
pub fn find(path: PathBuf) -> PathBuf {
    if path.exists() {
        return path;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names =
        folder.read_dir().into_iter().flatten().flatten().map(|entry| PathBuf::from(entry.file_name()));
    let found = names.filter(|name| stem(name) == stem(&path) && extension(name) == extension(&path)).min();
    found.map_or_else(|| path.clone(), |name| path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_found_in_either_case() {
        let folder = tempfile::TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["CARD.CU8", "both.cu8", "both.CU8", "Other.CU8"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(find(at("CARD.cu8")), at("CARD.CU8"));
        assert_eq!(find(at("both.cu8")), at("both.cu8"));
        // The stem is a name, in which case may matter.
        assert_eq!(find(at("other.cu8")), at("other.cu8"));
        assert_eq!(find(at("gone.cu8")), at("gone.cu8"));
    }
}
