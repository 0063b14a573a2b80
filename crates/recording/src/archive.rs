//! SigMF archives: tar files with one recording or several. Their data is read in place, nothing is unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::files::{extension, stem};
use super::sigmf::{self, Metadata};
use super::{DataFile, Overrides, Recording, RecordingError};

/// Opens every recording of a `.sigmf` archive, in the order of their names. One that cannot be read is left
/// out, with a warning among those of the first recording.
///
/// # Errors
/// The archive cannot be read, or nothing in it; then why not the first.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Vec<Recording>, RecordingError> {
    let Members { metadata, mut datasets } = list(path)?;
    let mut recordings = Vec::new();
    let mut left_out = Vec::new();
    for (name, (member, metadata)) in metadata {
        let missing =
            || RecordingError::metadata(&path.join(&member), "has no .sigmf-data beside it in the archive");
        let data = datasets.remove(&name).ok_or_else(missing);
        match metadata.and_then(|metadata| sigmf::recording(metadata, &path.join(&member), data?, overrides))
        {
            Ok(recording) => recordings.push(recording),
            Err(error) => left_out.push(error),
        }
    }
    let orphan = |data: DataFile| {
        RecordingError::metadata(Path::new(&data.to_string()), "has no .sigmf-meta beside it in the archive")
    };
    left_out.extend(datasets.into_values().map(orphan));
    let Some(first) = recordings.first_mut() else {
        let nothing = || {
            RecordingError::metadata(path, "is a SigMF archive without a recording (no .sigmf-meta in it)")
        };
        return Err(left_out.into_iter().next().unwrap_or_else(nothing));
    };
    first
        .warnings
        .extend(left_out.iter().map(|error| format!("left out of the archive: {}", error.with_cause())));
    Ok(recordings)
}

/// What is in an archive, by its path there without the extension.
#[derive(Default)]
struct Members {
    /// The path there, and what is in it.
    metadata: BTreeMap<PathBuf, (PathBuf, Result<Metadata, RecordingError>)>,
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
        // A sparse member is not stored as one stretch of bytes; `._` files are macOS's notes about the
        // others.
        if !entry.header().entry_type().is_file() || stem(&member).as_encoded_bytes().starts_with(b"._") {
            continue;
        }
        let name = member.with_extension("");
        match extension(&member).as_str() {
            "sigmf-meta" => {
                let parsed = sigmf::read(&path.join(&member), entry);
                members.metadata.insert(name, (member, parsed));
            }
            "sigmf-data" => {
                let (offset, len) = (entry.raw_file_position(), entry.size());
                members
                    .datasets
                    .insert(name, DataFile { path: path.to_owned(), member: Some(member), offset, len });
            }
            _ => {}
        }
    }
    Ok(members)
}
