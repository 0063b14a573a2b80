//! Recordings on disk: SigMF, WAV and raw IQ files, read frame by frame, and SigMF written. [`ring`] keeps
//! frames with their outcomes.
//!
//! [`open`] takes a `.sigmf-meta` or `.sigmf-data` file (with its companion beside it, or the file that
//! `core:dataset` names), a `.sigmf` archive with one recording or several, a WAV file, or a raw file whose
//! extension or [`Overrides`] say the datatype. A [`Recording`] knows where its samples are and what is known
//! of them; [`Recording::frames`] reads them, a frame at a time, however large the file is.
//!
//! How SigMF's captures become [`Stream`]s: a capture begins where the last one ends, and one of the same
//! `core:frequency` continues the stream. Another frequency begins a new one, and so does a jump in
//! `core:global_index` (where it is left out, `core:sample_start`) or a `core:datetime` over a second from
//! where the samples' count puts it: either says that samples are missing in between. `core:header_bytes` and
//! `core:trailing_bytes` are stepped over; samples before the first capture belong to none and are not read.
//! A frame's time is counted from the last `core:datetime` at or before it, or back from the stream's first
//! one, and over the samples that a stated `core:global_index` says are missing. Its place is its capture's
//! `core:geolocation`, else the recording's.
//!
//! It names no message and no broker: what comes out is bytes with what is known of them.

mod archive;
mod data;
mod error;
mod files;
mod hints;
pub mod name;
mod raw;
mod reader;
mod recording;
pub mod ring;
mod sigmf;
mod stream;
#[cfg(test)]
mod tests;
mod wav;
mod write;

use std::path::Path;

pub use data::DataFile;
pub use error::RecordingError;
pub use reader::{Frames, RecordedFrame};
pub use recording::{Overrides, Recording, Storage};
pub use stream::{ByteSpan, Cut, Stream};
pub use write::{Annotation, SigmfWriter};

use files::{extension, find};

/// Opens the recordings of a file: one, or all those in an archive.
///
/// # Errors
/// A folder, a format that is not supported or not known, metadata that is not SigMF, a datatype outside the
/// list, no samples, or a file that cannot be read.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Vec<Recording>, RecordingError> {
    let metadata = path.metadata().map_err(RecordingError::reading(path))?;
    if !metadata.is_file() {
        let path = path.to_owned();
        return Err(if metadata.is_dir() {
            RecordingError::Folder { path }
        } else {
            RecordingError::Pipe { path }
        });
    }
    let mut recordings = match extension(path).as_str() {
        "sigmf-meta" => vec![sigmf::open(path, overrides)?],
        "sigmf-data" => vec![of_data(path, overrides)?],
        "sigmf" => archive::open(path, overrides)?,
        _ => vec![without_metadata(path, overrides)?],
    };
    for recording in &mut recordings {
        overrides.apply(recording);
    }
    Ok(recordings)
}

/// The recording of a `.sigmf-data` file.
fn of_data(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    let metadata = find(path.with_extension("sigmf-meta"));
    if overrides.datatype.is_none() || metadata.exists() {
        return sigmf::open(&metadata, overrides);
    }
    let mut recording = without_metadata(path, overrides)?;
    recording
        .warnings
        .insert(0, format!("{} is not there: {} is read as raw IQ", metadata.display(), path.display()));
    Ok(recording)
}

/// The recording of a file that says itself what it holds: a WAV file by its header, a raw one by its name.
fn without_metadata(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    match wav::open(path, overrides)? {
        Some(recording) => Ok(recording),
        None => raw::open(path, overrides),
    }
}
