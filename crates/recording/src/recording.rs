//! A recording: where its samples are and what is known of them.

use std::ffi::OsString;

use sferic_samples::{Datatype, Geolocation};

use super::data::DataFile;
use super::error::RecordingError;
use super::stream::Stream;

/// What the user knows better than the file. Each one given is taken instead of what the recording says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// How the samples are stored; makes any file a raw one that is not SigMF by its name or WAV by its
    /// header. A `.sigmf-data` file without its metadata is a raw one too.
    pub datatype: Option<Datatype>,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// Centre frequency, Hz, of every stream.
    pub frequency: Option<f64>,
    /// Where the receiver was, all the time.
    pub geolocation: Option<Geolocation>,
}

impl Overrides {
    /// Puts frequency and place into a recording; the others are used where it is read.
    pub(super) fn apply(&self, recording: &mut Recording) {
        for stream in &mut recording.streams {
            stream.frequency = self.frequency.or(stream.frequency);
            if let Some(place) = &self.geolocation {
                stream.places = vec![(0, Some(place.clone()))];
            }
        }
    }
}

/// How a recording's file stores what its frames hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As the frames have it.
    #[default]
    AsIs,
    /// Little-endian integers of 24 bits; the frames have them as the upper 24 bits of `ci32_le`, which is
    /// the same share of full scale.
    Packed24,
}

impl Storage {
    /// Bytes in the file for so many bytes of a frame.
    pub(super) fn bytes_for(self, frame_bytes: u64) -> u64 {
        match self {
            Self::AsIs => frame_bytes,
            Self::Packed24 => frame_bytes / 4 * 3,
        }
    }

    /// The bytes of a frame, of those in the file.
    pub(super) fn unpack(self, stored: Vec<u8>) -> Vec<u8> {
        match self {
            Self::AsIs => stored,
            Self::Packed24 => stored
                .as_chunks::<3>()
                .0
                .iter()
                .flat_map(|[low, middle, high]| [0, *low, *middle, *high])
                .collect(),
        }
    }
}

/// Samples on disk and what is known of them.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without its extension.
    pub name: OsString,
    /// Where the samples are.
    pub data: DataFile,
    /// How its frames store a component.
    pub datatype: Datatype,
    /// How the file does.
    pub storage: Storage,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
    /// What is read of it, in order; never empty.
    pub streams: Vec<Stream>,
    /// `core:sha512`, hexadecimal; see [`Recording::digest_mismatch`].
    pub sha512: Option<String>,
    /// Warnings about the recording, as messages.
    pub warnings: Vec<String>,
    /// Notes on what was taken from the file name, as messages.
    pub notes: Vec<String>,
}

impl Recording {
    /// Bytes of one sample instant in a frame, all channels.
    pub fn bytes_per_instant(&self) -> u64 {
        self.datatype.bytes_per_sample() as u64 * u64::from(self.num_channels)
    }

    /// Bytes of one sample instant in the file.
    pub(super) fn stored_bytes_per_instant(&self) -> u64 {
        self.storage.bytes_for(self.bytes_per_instant())
    }

    /// Sample instants in all streams.
    pub fn len(&self) -> u64 {
        self.streams.iter().map(Stream::len).sum()
    }

    /// Whether there are none; [`open`](super::open) refuses such a recording.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compares the data file with `core:sha512`, where the metadata states it, and says what differs. Reads
    /// the whole file, a block at a time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest_mismatch(&self) -> Result<Option<String>, RecordingError> {
        let Some(stated) = &self.sha512 else { return Ok(None) };
        let actual = self.data.sha512()?;
        Ok((!stated.eq_ignore_ascii_case(&actual)).then(|| {
            format!("{}: the data's SHA-512 is {actual:.16}…, the metadata says {stated:.16}…", self.data)
        }))
    }
}
