//! SigMF recordings: metadata and the data it describes.

mod captures;
mod metadata;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::files::{find, stem};
use super::name::datatype_of_name;
use super::wav::Wav;
use super::{DataFile, Overrides, Recording, RecordingError, Storage};
use captures::Layout;
use metadata::{Capture, Whole};
pub use metadata::{Metadata, read};

/// Opens the recording of a `.sigmf-meta` file, with its dataset in the same folder.
///
/// # Errors
/// A file that cannot be read, metadata that is not SigMF, a datatype outside the list, or no samples.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    let file = File::open(path).map_err(RecordingError::reading(path))?;
    let metadata = read(path, BufReader::new(file))?;
    let dataset = match &metadata.global.dataset {
        // Metadata from elsewhere must not choose among all files of this machine.
        Some(dataset) if dataset.file_name() != Some(dataset.as_os_str()) => {
            let reason = format!(
                "core:dataset is {}, must be the name of a file in the same folder",
                dataset.display()
            );
            return Err(RecordingError::metadata(path, reason));
        }
        Some(dataset) => path.with_file_name(dataset),
        None => path.with_extension("sigmf-data"),
    };
    let dataset = find(dataset);
    if metadata.global.metadata_only && !dataset.exists() {
        return Err(RecordingError::metadata(path, "is metadata without a dataset (core:metadata_only)"));
    }
    recording(metadata, path, DataFile::whole(&dataset)?, overrides)
}

/// Joins metadata and data; `path` is the metadata's, for messages and the name.
///
/// # Errors
/// A value that cannot be, a datatype outside the list, or no samples.
pub fn recording(
    metadata: Metadata,
    path: &Path,
    data: DataFile,
    overrides: &Overrides,
) -> Result<Recording, RecordingError> {
    let Metadata { mut global, mut captures } = metadata;
    let unsupported =
        || RecordingError::UnsupportedDatatype { path: path.to_owned(), name: global.datatype.clone() };
    let datatype =
        overrides.datatype.or_else(|| datatype_of_name(&global.datatype)).ok_or_else(unsupported)?;
    let sample_rate = overrides.sample_rate.or(global.sample_rate);
    if let Some(rate) = sample_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(RecordingError::metadata(path, format!("core:sample_rate is {rate}, must be over 0")));
    }
    let num_channels = match global.num_channels.map(|Whole(channels)| (channels, u32::try_from(channels))) {
        None => 1,
        Some((_, Ok(channels))) if channels > 0 => channels,
        Some((channels, _)) => {
            let reason =
                format!("core:num_channels is {channels}, must be at least 1 and at most {}", u32::MAX);
            return Err(RecordingError::metadata(path, reason));
        }
    };
    let mut warnings: Vec<_> = global
        .required_extensions()
        .map(|name| {
            format!(
                "{}: needs the extension {name} (optional: false), which sferic does not know",
                path.display()
            )
        })
        .collect();
    if captures.is_empty() {
        captures.push(Capture { sample_start: global.offset, ..Capture::default() });
    }
    captures.sort_by_key(|capture| capture.sample_start.0);
    if let Some(first) = captures.first_mut().filter(|first| first.header_bytes.0 == 0)
        && let Some(Wav { samples, .. }) = Wav::find(&data)?
    {
        first.header_bytes = Whole(samples.offset - data.offset);
        global.trailing_bytes = Whole(data.len - first.header_bytes.0 - samples.len);
        warnings.push(format!(
            "{data}: begins with a WAV header, which core:header_bytes does not say; it is not read as \
             samples"
        ));
    }
    let bytes_per_instant = datatype.bytes_per_sample() as u64 * u64::from(num_channels);
    let mut layout = Layout::new(path, &data, bytes_per_instant, sample_rate, &global);
    let streams = layout.streams(captures);
    warnings.append(&mut layout.warnings);
    if streams.is_empty() {
        return Err(RecordingError::Empty { data: data.to_string() });
    }
    let sha512 = global.sha512;
    let name = stem(path).to_owned();
    Ok(Recording {
        name,
        data,
        datatype,
        storage: Storage::AsIs,
        num_channels,
        sample_rate,
        streams,
        sha512,
        warnings,
        notes: Vec::new(),
    })
}
