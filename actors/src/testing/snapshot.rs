//! Text files that a test compares with what the code writes.

use std::path::Path;

/// If set, the files are written instead of compared.
const WRITE: &str = "SFERIC_WRITE_SNAPSHOTS";

/// Panics unless the file at `path` holds `text`.
#[track_caller]
pub fn assert_snapshot(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    if std::env::var_os(WRITE).is_some() {
        assert!(std::env::var_os("CI").is_none(), "{WRITE} is set where files are to be compared");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let changed = found.lines().zip(text.lines()).find(|(found, made)| found != made);
    assert!(
        found == text,
        "{} is not what the code writes, first {changed:?}; {WRITE}=1 on this test writes it anew:\n{text}",
        path.display()
    );
}
