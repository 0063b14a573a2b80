//! WAV files as receivers write them: I is the left channel, Q the right one.
//!
//! The header says datatype and rate. The `auxi` chunk of SDRuno, HDSDR and SpectraVue says when the
//! recording began and its centre frequency; where there is none, a number in Hz in the file's name does.
//! RF64 and BW64 are WAV with sizes of 64 bits in a `ds64` chunk.

use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sferic_samples::Datatype;

use super::files::stem;
use super::{ByteSpan, DataFile, Overrides, Recording, RecordingError, Stream, hints};

/// A size that was not known when the header was written, or does not fit into it.
const UNKNOWN: u64 = u32::MAX as u64;

/// No recording has more chunks than this; samples taken for chunks have.
const MAX_CHUNKS: usize = 1000;

/// How much of a chunk is read.
const MAX_CHUNK_BYTES: u64 = 256;

/// What a WAV file says of itself.
pub struct Wav {
    /// Where its samples are.
    pub samples: DataFile,
    format: Format,
    auxi: Option<Auxi>,
    warnings: Vec<String>,
}

/// Opens a WAV file whatever its name; `None` for a file that is none. Its header is believed over
/// `--datatype`.
///
/// # Errors
/// A file that cannot be read, another RIFF format, a header that is cut off, samples that are not read, or
/// none.
pub fn open(path: &Path, overrides: &Overrides) -> Result<Option<Recording>, RecordingError> {
    let Some(Wav { samples: data, format, auxi, mut warnings }) = Wav::find(&DataFile::whole(path)?)? else {
        return Ok(None);
    };
    let datatype = format.datatype().map_err(|reason| RecordingError::metadata(path, reason))?;
    if let Some(other) = overrides.datatype.filter(|other| *other != datatype) {
        warnings.push(format!("{data}: the WAV header says {datatype}, so --datatype {other} is not used"));
    }
    let rate = f64::from(format.rate);
    let sample_rate = overrides.sample_rate.or(Some(rate).filter(|rate| *rate > 0.0));
    let stated = auxi.as_ref().and_then(|auxi| auxi.centre);
    let named = stated.is_none().then(|| hints::centre_in_hertz(path, rate)).flatten();
    let (len, rest) =
        (data.len / datatype.bytes_per_sample() as u64, data.len % datatype.bytes_per_sample() as u64);
    if len == 0 {
        return Err(RecordingError::Empty { data: data.to_string() });
    }
    if rest > 0 {
        warnings.push(data.partial_sample(rest));
    }
    Ok(Some(Recording {
        name: stem(path).to_owned(),
        datatype,
        num_channels: 1,
        sample_rate,
        streams: vec![Stream {
            frequency: stated.or(named),
            spans: vec![ByteSpan { byte: 0, len }],
            stamps: auxi.and_then(|auxi| auxi.start).map(|start| (0, start)).into_iter().collect(),
            ..Stream::default()
        }],
        sha512: None,
        warnings,
        notes: hints::taken(path, &[("centre frequency", named)]).into_iter().collect(),
        data,
    }))
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
        let chunks = Chunks::read(reader, data).map_err(RecordingError::reading(&data.path))?;
        let format =
            chunks.format.ok_or_else(|| bad("is a WAV file without a whole fmt chunk".to_owned()))?;
        let (offset, size) =
            chunks.samples.ok_or_else(|| bad("is a WAV file without a data chunk".to_owned()))?;
        let mut warnings = Vec::new();
        if chunks.auxi_is_other {
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
        let len = if is_unfinished { room } else { size.min(room) };
        let samples = DataFile { offset: data.offset + offset, len, ..data.clone() };
        Ok(Some(Self { samples, format, auxi: chunks.auxi, warnings }))
    }
}

/// The chunks that are read of a file.
#[derive(Default)]
struct Chunks {
    format: Option<Format>,
    auxi: Option<Auxi>,
    auxi_is_other: bool,
    /// From the beginning of the data, and how many; bytes.
    samples: Option<(u64, u64)>,
}

impl Chunks {
    /// Reads on after `RIFF…WAVE`.
    fn read(mut reader: BufReader<impl Read + Seek>, data: &DataFile) -> io::Result<Self> {
        let mut chunks = Self::default();
        let mut wide = None;
        let mut at = 12;
        for _ in 0..MAX_CHUNKS {
            let Some((id, size)) = chunk(&mut reader)? else { break };
            at += 8;
            let size = if id == *b"data" && size == UNKNOWN { wide.unwrap_or(size) } else { size };
            let mut body = Vec::new();
            if id == *b"data" {
                chunks.samples = chunks.samples.or(Some((at, size)));
            } else {
                reader.by_ref().take(size.min(MAX_CHUNK_BYTES)).read_to_end(&mut body)?;
            }
            match &id {
                b"fmt " => chunks.format = Format::read(&body),
                b"auxi" => chunks.auxi = Auxi::read(&body),
                // After the file's size comes that of the data.
                b"ds64" => {
                    wide = body.get(8..16).and_then(|size| size.try_into().ok()).map(u64::from_le_bytes)
                }
                _ => {}
            }
            chunks.auxi_is_other |= id == *b"auxi" && chunks.auxi.is_none();
            // A chunk of an odd size is followed by one more byte.
            let end = at.saturating_add(size).saturating_add(size % 2);
            if end >= data.len {
                break;
            }
            reader.seek_relative((end - at - body.len() as u64) as i64)?;
            at = end;
        }
        Ok(chunks)
    }
}

/// A chunk's name and size; `None` at the end.
fn chunk(reader: &mut impl Read) -> io::Result<Option<([u8; 4], u64)>> {
    let mut header = Vec::new();
    reader.take(8).read_to_end(&mut header)?;
    let Some((id, size)) = header.split_first_chunk::<4>() else { return Ok(None) };
    Ok(size.try_into().ok().map(|size| (*id, u64::from(u32::from_le_bytes(size)))))
}

/// The `fmt ` chunk.
struct Format {
    /// 1 for integers, 3 for floats.
    tag: u16,
    channels: u16,
    /// Samples per second, Hz.
    rate: u32,
    /// Of one I or one Q.
    bits: u16,
}

impl Format {
    /// The tag of a format whose own tag follows further below.
    const EXTENSIBLE: u16 = 0xfffe;

    fn read(chunk: &[u8]) -> Option<Self> {
        let tag = match u16_at(chunk, 0)? {
            Self::EXTENSIBLE => u16_at(chunk, 24)?,
            tag => tag,
        };
        Some(Self { tag, channels: u16_at(chunk, 2)?, rate: u32_at(chunk, 4)?, bits: u16_at(chunk, 14)? })
    }

    fn datatype(&self) -> Result<Datatype, String> {
        let Self { tag, channels, bits, .. } = *self;
        if channels != 2 {
            return Err(format!(
                "is a WAV file of {channels} channels, IQ has 2: I on the left, Q on the right"
            ));
        }
        match (tag, bits) {
            (1, 8) => Ok(Datatype::Cu8),
            (1, 16) => Ok(Datatype::Ci16Le),
            (1, 32) => Ok(Datatype::Ci32Le),
            (3, 32) => Ok(Datatype::Cf32Le),
            (3, 64) => Ok(Datatype::Cf64Le),
            _ => {
                let kind = match tag {
                    1 => "integers".to_owned(),
                    3 => "floats".to_owned(),
                    tag => format!("samples of format {tag}"),
                };
                Err(format!(
                    "is a WAV file of {bits}-bit {kind}, read are integers of 8, 16 and 32 bits and floats \
                     of 32 and 64"
                ))
            }
        }
    }
}

/// The binary `auxi` chunk: two times as Windows' SYSTEMTIME, UTC, and numbers of 32 bits.
struct Auxi {
    start: Option<Timestamp>,
    /// Centre frequency, Hz.
    centre: Option<f64>,
}

impl Auxi {
    /// `None` for other contents, such as SDR Console's XML.
    fn read(chunk: &[u8]) -> Option<Self> {
        let field = |index: usize| u16_at(chunk, 2 * index).and_then(|field| i16::try_from(field).ok());
        let small = |index: usize| field(index).and_then(|field| i8::try_from(field).ok());
        let nanoseconds = i32::from(field(7)?).checked_mul(1_000_000)?;
        // The day of the week comes third.
        let time =
            DateTime::new(field(0)?, small(1)?, small(3)?, small(4)?, small(5)?, small(6)?, nanoseconds);
        let start = match time.and_then(|time| time.to_zoned(TimeZone::UTC)) {
            Ok(time) => Some(time.timestamp()),
            Err(_) if chunk.iter().take(16).all(|byte| *byte == 0) => None,
            Err(_) => return None,
        };
        let centre = u32_at(chunk, 32)?;
        Some(Self { start, centre: (centre > 0).then_some(f64::from(centre)) })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
