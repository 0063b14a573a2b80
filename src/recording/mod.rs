//! Recordings on disk: SigMF and raw IQ files, read frame by frame, and SigMF written.
//!
//! [`open`] takes a `.sigmf-meta` or `.sigmf-data` file (with its companion beside it, or the file that `core:dataset`
//! names), a `.sigmf` archive with one recording or several, or a raw file whose extension or [`Overrides`] say the datatype.
//! A [`Recording`] knows where its samples are and what is known of them; [`Recording::frames`] reads them, a frame at a
//! time, however large the file is.
//!
//! How SigMF's captures become [`Stream`]s: a capture begins where the last one ends, and one of the same `core:frequency`
//! continues the stream. Another frequency begins a new one, and so does a jump in `core:global_index`, which states that
//! samples are missing in between. `core:header_bytes` and `core:trailing_bytes` are stepped over; samples before the first
//! capture belong to none and are not read. A frame's time is counted from the last `core:datetime` at or before it, or
//! back from the stream's first one; its place is the last `core:geolocation` of a capture, else the recording's.

mod archive;
mod data;
mod error;
pub mod name;
mod reader;
mod sigmf;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::ffi::OsStr;
use std::path::Path;

use sferic_features::Datatype;

pub use data::DataFile;
pub use error::RecordingError;
pub use reader::{Frames, RecordedFrame};
pub use stream::{Cut, Geolocation, Span, Stream};
pub use write::{Annotation, SigmfWriter};

/// What the user knows better than the file. Each one given is taken instead of what the recording says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// How the samples are stored; makes any file a raw one that is not SigMF by its name.
    pub datatype: Option<Datatype>,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
}

/// Samples on disk and what is known of them.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without its extension.
    pub name: String,
    /// Where the samples are.
    pub data: DataFile,
    /// How they are stored.
    pub datatype: Datatype,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// What is read of it, in order; never empty.
    pub streams: Vec<Stream>,
    /// `core:sha512`, hexadecimal; see [`Recording::digest_mismatch`].
    pub sha512: Option<String>,
    /// What was found amiss and read over, ready to be told.
    pub warnings: Vec<String>,
}

impl Recording {
    /// Bytes of one sample instant, all channels.
    pub fn bytes_per_instant(&self) -> u64 {
        self.datatype.bytes_per_sample() as u64 * u64::from(self.num_channels)
    }

    /// Sample instants in all streams.
    pub fn len(&self) -> u64 {
        self.streams.iter().map(Stream::len).sum()
    }

    /// Whether there are none; [`open`] refuses such a recording.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compares the data file with `core:sha512`, where the metadata states it, and says what differs. Reads the whole file,
    /// a block at a time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest_mismatch(&self) -> Result<Option<String>, RecordingError> {
        let Some(stated) = &self.sha512 else { return Ok(None) };
        let actual = self.data.sha512()?;
        Ok((!stated.eq_ignore_ascii_case(&actual))
            .then(|| format!("{}: the data's SHA-512 is {actual:.16}…, the metadata says {stated:.16}…", self.data.path.display())))
    }
}

/// Opens the recordings of a file: one, or all those in an archive.
///
/// # Errors
/// A folder, a format that is not supported or not known, metadata that is not SigMF, a datatype outside the list, no
/// samples, or a file that cannot be read.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Vec<Recording>, RecordingError> {
    let metadata = path.metadata().map_err(RecordingError::reading(path))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a pipe or device" };
        return Err(RecordingError::NotAFile { path: path.to_owned(), what });
    }
    match extension(path).as_str() {
        "sigmf-meta" => Ok(vec![sigmf::open(path, overrides)?]),
        "sigmf-data" => Ok(vec![sigmf::open(&path.with_extension("sigmf-meta"), overrides)?]),
        "sigmf" => archive::open(path, overrides),
        _ => Ok(vec![raw(path, overrides)?]),
    }
}

/// A raw file, by what its name says.
fn raw(path: &Path, overrides: &Overrides) -> Result<Recording, RecordingError> {
    let extension = extension(path);
    let datatype = match overrides.datatype.or_else(|| name::datatype_of_extension(&extension)) {
        Some(datatype) => datatype,
        None => return Err(not_raw(path, &extension)),
    };
    let hints = name::hints(path);
    let data = DataFile::whole(path)?;
    let bytes_per_instant = datatype.bytes_per_sample() as u64;
    let len = data.len / bytes_per_instant;
    if len == 0 {
        return Err(RecordingError::Empty { path: path.to_owned() });
    }
    let rest = data.len % bytes_per_instant;
    Ok(Recording {
        name: stem(path),
        datatype,
        num_channels: 1,
        sample_rate: overrides.sample_rate.or(hints.sample_rate),
        streams: vec![Stream { frequency: hints.frequency, spans: vec![Span { byte: 0, len }], ..Stream::default() }],
        sha512: None,
        warnings: if rest > 0 { vec![partial_sample(path, rest)] } else { Vec::new() },
        data,
    })
}

/// Formats that are met beside recordings and are not raw IQ.
fn not_raw(path: &Path, extension: &str) -> RecordingError {
    let format = match extension {
        "vita49" | "vrt" | "vita" => "VITA 49 packet",
        "wav" | "wave" | "rf64" | "w64" | "aiff" | "flac" => "audio container",
        "blue" | "bluefile" | "prm" => "X-Midas BLUE",
        "pcap" | "pcapng" => "packet capture",
        "npy" | "npz" | "mat" | "h5" | "hdf5" => "array container",
        "sigmf-collection" => "SigMF collection",
        "gz" | "xz" | "bz2" | "zst" | "zip" | "7z" | "tar" => "compressed or archive",
        _ => return RecordingError::UnknownExtension { path: path.to_owned() },
    };
    RecordingError::UnsupportedFormat { path: path.to_owned(), format }
}

fn partial_sample(path: &Path, bytes: u64) -> String {
    format!("{}: the last {bytes} bytes make no whole sample and are left out", path.display())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(OsStr::new("recording")).to_string_lossy().into_owned()
}
