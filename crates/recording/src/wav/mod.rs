//! WAV files as receivers write them: I is the left channel, Q the right one.
//!
//! The header says datatype and rate. The `auxi` chunk of SDRuno, HDSDR, SDR# and SpectraVue says when the
//! recording began and its centre frequency; where there is none, the file's name does as far as it can mean
//! nothing else. RF64 and BW64 are WAV with sizes of 64 bits in a `ds64` chunk. KiwiSDR's recorder stamps
//! each piece of its samples with GPS time.

mod auxi;
mod bytes;
mod chunks;
mod format;
mod kiwi;
mod piece;

use std::io::Read;
use std::path::Path;

use super::files::stem;
use super::{ByteSpan, DataFile, Overrides, Recording, RecordingError, Stream, hints};
use auxi::Auxi;
use chunks::{Chunks, UNKNOWN, chunk};
use format::Format;
use piece::Piece;

/// What a WAV file says of itself.
pub struct Wav {
    /// Where its samples are, from the first to the last one.
    pub samples: DataFile,
    format: Format,
    auxi: Option<Auxi>,
    /// KiwiSDR's pieces within `samples`; empty in other files.
    pieces: Vec<Piece>,
    warnings: Vec<String>,
}

/// Opens a WAV file whatever its name; `None` for a file that is none. Its header is believed over
/// `--datatype`.
///
/// # Errors
/// A file that cannot be read, another RIFF format, a header that is cut off or contradicts itself, samples
/// that are not read, or none.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Option<Recording>, RecordingError> {
    let Some(wav) = Wav::find(&DataFile::whole(path)?)? else {
        return Ok(None);
    };
    let Wav { samples: data, format, auxi, pieces, mut warnings } = wav;
    let wrong = |reason| RecordingError::metadata(path, reason);
    let (datatype, storage) = format.datatype().map_err(wrong)?;
    if let Some(other) = overrides.datatype.filter(|other| *other != datatype) {
        warnings.push(format!("{data}: the WAV header says {datatype}, so --datatype {other} is not used"));
    }
    let rate = f64::from(format.rate);
    let sample_rate = match overrides.sample_rate.or(Some(rate).filter(|rate| *rate > 0.0)) {
        None => return Err(wrong("says 0 samples per second; give --sample-rate".to_owned())),
        known => known,
    };
    let recorder = hints::kiwi_recorder(path);
    let stated = auxi.as_ref().and_then(|auxi| auxi.centre);
    let named = || hints::centre_in_hertz(path, rate).or(recorder.map(|(_, centre)| centre));
    let named = if stated.or(overrides.frequency).is_none() { named() } else { None };
    let start = auxi.and_then(|auxi| auxi.start);
    let named_start = if start.is_none() { hints::start(path) } else { None };
    let stored_bytes = storage.bytes_for(datatype.bytes_per_sample() as u64);
    let (streams, rest) = if pieces.is_empty() {
        let stream = Stream {
            spans: vec![ByteSpan { byte: 0, len: data.len / stored_bytes }],
            stamps: start.or(named_start).map(|start| (0, start)).into_iter().collect(),
            ..Stream::default()
        };
        (vec![stream], data.len % stored_bytes)
    } else {
        kiwi::streams(&data, &pieces, sample_rate, named_start, &mut warnings)
    };
    if rest > 0 {
        warnings.push(data.partial_sample(rest));
    }
    let mut recording = Recording {
        name: stem(path).to_owned(),
        datatype,
        storage,
        num_channels: 1,
        sample_rate,
        streams,
        sha512: None,
        warnings,
        notes: hints::taken(path, &[("centre frequency", named)], named_start).into_iter().collect(),
        data,
    };
    for stream in &mut recording.streams {
        stream.frequency = stated.or(named);
    }
    if recording.is_empty() {
        return Err(RecordingError::Empty { data: recording.data.to_string() });
    }
    Ok(Some(recording))
}

impl Wav {
    /// Reads the header at the beginning of `data`; `None` where there is none.
    ///
    /// # Errors
    /// Data that cannot be read, another RIFF format, or a header that is cut off.
    pub fn find(data: &DataFile) -> Result<Option<Self>, RecordingError> {
        let mut reader = data.reader()?;
        let Some((form, riff)) = chunk(&mut reader).map_err(RecordingError::reading(&data.path))? else {
            return Ok(None);
        };
        if !matches!(&form, b"RIFF" | b"RF64" | b"BW64") {
            return Ok(None);
        }
        let bad = |reason: String| RecordingError::metadata(Path::new(&data.to_string()), reason);
        let mut kind = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut kind).map_err(RecordingError::reading(&data.path))?;
        if kind != b"WAVE" {
            return Err(bad(format!(
                "is a RIFF file of {:?}, only WAVE is read",
                String::from_utf8_lossy(&kind)
            )));
        }
        let Chunks { format, auxi, auxi_is_other, samples, pieces } =
            Chunks::read(reader, data).map_err(RecordingError::reading(&data.path))?;
        let format = format.ok_or_else(|| bad("is a WAV file without a whole fmt chunk".to_owned()))?;
        let (offset, size) = samples.ok_or_else(|| bad("is a WAV file without a data chunk".to_owned()))?;
        let mut warnings = Vec::new();
        if auxi_is_other {
            warnings.push(format!("{data}: its auxi chunk is of an unknown form and is left out"));
        }
        let room = data.len - offset;
        // A recorder that was stopped short leaves the sizes as they were at the start.
        let is_unfinished = size == UNKNOWN || (size == 0 && (riff == UNKNOWN || riff + 8 < data.len));
        if is_unfinished || size > room {
            warnings.push(format!(
                "{data}: the WAV header says {size} bytes of samples, read are the {room} up to the file's \
                 end"
            ));
        }
        let len = if is_unfinished || !pieces.is_empty() { room } else { size.min(room) };
        let samples = DataFile { offset: data.offset + offset, len, ..data.clone() };
        let pieces = pieces.into_iter().map(|piece| piece.within(offset, room)).collect();
        Ok(Some(Self { samples, format, auxi, pieces, warnings }))
    }
}
