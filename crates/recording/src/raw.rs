//! Raw IQ files, by what their names say.

use std::path::Path;

use super::files::{extension, stem};
use super::hints::{self, Hints};
use super::name::datatype_of_extension;
use super::{ByteSpan, DataFile, Overrides, Recording, RecordingError, Storage, Stream};

/// Opens a file of samples without a header.
///
/// # Errors
/// A datatype that neither the name nor `overrides` says, no samples, or a file that cannot be read.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    let extension = extension(path);
    let hints = hints::of(path, overrides.sample_rate);
    let datatype = match overrides.datatype.or(hints.datatype).or_else(|| datatype_of_extension(&extension)) {
        Some(datatype) => datatype,
        None => return Err(not_raw(path, &extension)),
    };
    let data = DataFile::whole(path)?;
    let bytes_per_instant = datatype.bytes_per_sample() as u64;
    let (len, rest) = (data.len / bytes_per_instant, data.len % bytes_per_instant);
    if len == 0 {
        return Err(RecordingError::Empty { data: data.to_string() });
    }
    Ok(Recording {
        name: stem(path).to_owned(),
        datatype,
        storage: Storage::AsIs,
        num_channels: 1,
        sample_rate: overrides.sample_rate.or(hints.sample_rate),
        streams: vec![Stream {
            frequency: hints.frequency,
            spans: vec![ByteSpan { byte: 0, len }],
            stamps: hints::start(path).map(|start| (0, start)).into_iter().collect(),
            ..Stream::default()
        }],
        sha512: None,
        warnings: if rest > 0 { vec![data.partial_sample(rest)] } else { Vec::new() },
        notes: notes(path, &hints, overrides),
        data,
    })
}

/// What of the name is used, and that something in it is not.
fn notes(path: &Path, hints: &Hints, overrides: &Overrides) -> Vec<String> {
    let sample_rate = hints.sample_rate.filter(|_| overrides.sample_rate.is_none());
    let frequency = hints.frequency.filter(|_| overrides.frequency.is_none());
    let taken = hints::taken(
        path,
        &[("sample rate", sample_rate), ("centre frequency", frequency)],
        hints::start(path),
    );
    let ambiguous = hints.is_ambiguous && overrides.sample_rate.is_none();
    let left_out = || {
        format!(
            "{}: what its name says may be a rate, a frequency or a bandwidth and is not used, \
             --sample-rate gives the rate",
            path.display()
        )
    };
    taken.into_iter().chain(ambiguous.then(left_out)).collect()
}

/// Formats that are met beside recordings and are not raw IQ.
fn not_raw(path: &Path, extension: &str) -> RecordingError {
    let format = match extension {
        "vita49" | "vrt" | "vita" => "VITA 49 packet",
        // One with a header is read as what it is.
        "wav" | "wave" | "rf64" => "headerless audio",
        "w64" | "aiff" | "flac" => "audio container",
        "blue" | "bluefile" | "prm" => "X-Midas BLUE",
        "pcap" | "pcapng" => "packet capture",
        "npy" | "npz" | "mat" | "h5" | "hdf5" => "array container",
        "sigmf-collection" => "SigMF collection",
        "gz" | "xz" | "bz2" | "zst" | "zip" | "7z" | "tar" => "compressed or archive",
        _ => return RecordingError::UnknownExtension { path: path.to_owned() },
    };
    RecordingError::UnsupportedFormat { path: path.to_owned(), format }
}
