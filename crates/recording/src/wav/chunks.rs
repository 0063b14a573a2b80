//! The chunks of a RIFF file.

use std::io::{self, BufReader, Read, Seek};

use super::auxi::Auxi;
use super::format::Format;
use super::piece::{Piece, Stamp};
use crate::DataFile;

/// A size that was not known when the header was written, or does not fit into it.
pub const UNKNOWN: u64 = u32::MAX as u64;

/// No recording has more chunks than this, but for KiwiSDR's pieces; samples taken for chunks have.
const MAX_CHUNKS: usize = 1000;

/// How much of a chunk is read.
const MAX_CHUNK_BYTES: u64 = 256;

/// What is read of a file's chunks.
#[derive(Default)]
pub struct Chunks {
    pub format: Option<Format>,
    pub auxi: Option<Auxi>,
    pub auxi_is_other: bool,
    /// From the beginning of the data, and how many; bytes. Where there are pieces, the first one.
    pub samples: Option<(u64, u64)>,
    /// KiwiSDR's pieces.
    pub pieces: Vec<Piece>,
}

impl Chunks {
    /// Reads on after `RIFF…WAVE`.
    pub fn read(mut reader: BufReader<impl Read + Seek>, data: &DataFile) -> io::Result<Self> {
        let mut chunks = Self::default();
        let (mut wide, mut stamp) = (None, None);
        let (mut at, mut others) = (12, 0);
        while others < MAX_CHUNKS {
            let Some((id, size)) = chunk(&mut reader)? else { break };
            at += 8;
            let size = if id == *b"data" && size == UNKNOWN { wide.unwrap_or(size) } else { size };
            let mut body = Vec::new();
            if id == *b"data" {
                chunks.samples = chunks.samples.or(Some((at, size)));
            } else {
                reader.by_ref().take(size.min(MAX_CHUNK_BYTES)).read_to_end(&mut body)?;
            }
            others += 1;
            match &id {
                b"fmt " if chunks.format.is_none() => chunks.format = Format::read(&body),
                b"auxi" => chunks.auxi = Auxi::read(&body),
                // After the file's size comes that of the data.
                b"ds64" => {
                    wide = body.get(8..16).and_then(|size| size.try_into().ok()).map(u64::from_le_bytes);
                }
                b"kiwi" => stamp = Stamp::read(&body),
                b"data" => {
                    if let Some(stamp) = stamp.take() {
                        others -= 2;
                        chunks.pieces.push(Piece { stamp, offset: at, len: size });
                    }
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
pub fn chunk(reader: &mut impl Read) -> io::Result<Option<([u8; 4], u64)>> {
    let mut header = Vec::new();
    reader.take(8).read_to_end(&mut header)?;
    let Some((id, size)) = header.split_first_chunk::<4>() else { return Ok(None) };
    Ok(size.try_into().ok().map(|size| (*id, u64::from(u32::from_le_bytes(size)))))
}
