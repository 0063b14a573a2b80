//! SigMF archives: tar files with one recording or several. Their data is read in place, nothing is unpacked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::sigmf::{self, Metadata};
use super::{DataFile, Overrides, Recording, RecordingError, stem};

/// Opens every recording of a `.sigmf` archive, in the order of their names.
pub(super) fn open(path: &Path, overrides: &Overrides) -> Result<Vec<Recording>, RecordingError> {
    let Members { metadata, mut datasets } = list(path)?;
    let recordings = metadata.into_iter().map(|(member, metadata)| {
        let data = datasets.remove(&member.with_extension("sigmf-data"));
        let missing = || RecordingError::metadata(path, format!("holds {} without its .sigmf-data", member.display()));
        sigmf::recording(metadata, &path.join(&member), stem(&member), data.ok_or_else(missing)?, overrides)
    });
    let recordings = recordings.collect::<Result<Vec<_>, _>>()?;
    if recordings.is_empty() {
        return Err(RecordingError::metadata(path, "is a SigMF archive without a recording (no .sigmf-meta in it)"));
    }
    Ok(recordings)
}

/// What is in an archive, by its path there.
#[derive(Default)]
struct Members {
    metadata: BTreeMap<PathBuf, Metadata>,
    datasets: BTreeMap<PathBuf, DataFile>,
}

fn list(path: &Path) -> Result<Members, RecordingError> {
    let not_tar = |error| RecordingError::metadata(path, format!("is not a SigMF archive (tar): {error}"));
    let file = File::open(path).map_err(RecordingError::reading(path))?;
    let mut archive = tar::Archive::new(file);
    let mut members = Members::default();
    for entry in archive.entries_with_seek().map_err(not_tar)? {
        let entry = entry.map_err(not_tar)?;
        let member = entry.path().map_err(not_tar)?.into_owned();
        // A sparse member is not stored as one stretch of bytes.
        if !entry.header().entry_type().is_file() {
            continue;
        }
        match member.extension().and_then(OsStr::to_str) {
            Some("sigmf-meta") => {
                let parsed = sigmf::read(&path.join(&member), entry)?;
                members.metadata.insert(member, parsed);
            }
            Some("sigmf-data") => {
                let data = DataFile { path: path.to_owned(), offset: entry.raw_file_position(), len: entry.size() };
                members.datasets.insert(member, data);
            }
            _ => {}
        }
    }
    Ok(members)
}
