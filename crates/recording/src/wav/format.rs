//! The `fmt ` chunk.

use sferic_samples::Datatype;

use super::bytes::{u16_at, u32_at};
use crate::Storage;

/// What the chunk says of the samples.
pub struct Format {
    /// 1 for integers, 3 for floats.
    tag: u16,
    channels: u16,
    /// Samples per second, Hz.
    pub rate: u32,
    /// Bytes of one second.
    bytes_per_second: u32,
    /// Bytes of one sample of all channels.
    block: u16,
    /// Of one I or one Q.
    bits: u16,
}

impl Format {
    /// The tag of a format whose own tag follows further below.
    const EXTENSIBLE: u16 = 0xfffe;

    pub fn read(chunk: &[u8]) -> Option<Self> {
        let tag = match u16_at(chunk, 0)? {
            Self::EXTENSIBLE => u16_at(chunk, 24)?,
            tag => tag,
        };
        let [channels, block, bits] = [2, 12, 14].map(|at| u16_at(chunk, at));
        let [rate, bytes_per_second] = [4, 8].map(|at| u32_at(chunk, at));
        Some(Self {
            tag,
            channels: channels?,
            rate: rate?,
            bytes_per_second: bytes_per_second?,
            block: block?,
            bits: bits?,
        })
    }

    /// How frames and file store a component.
    ///
    /// # Errors
    /// What is not read, or sizes that contradict each other, with the values.
    pub fn datatype(&self) -> Result<(Datatype, Storage), String> {
        let Self { tag, channels, block, bits, .. } = *self;
        if channels != 2 {
            return Err(format!(
                "is a WAV file of {channels} channels, IQ has 2: I on the left, Q on the right"
            ));
        }
        let found = match (tag, bits) {
            (1, 8) => (Datatype::Cu8, Storage::AsIs),
            (1, 16) => (Datatype::Ci16Le, Storage::AsIs),
            (1, 24) => (Datatype::Ci32Le, Storage::Packed24),
            (1, 32) => (Datatype::Ci32Le, Storage::AsIs),
            (3, 32) => (Datatype::Cf32Le, Storage::AsIs),
            (3, 64) => (Datatype::Cf64Le, Storage::AsIs),
            _ => {
                let kind = match tag {
                    1 => "integers".to_owned(),
                    3 => "floats".to_owned(),
                    tag => format!("samples of format {tag}"),
                };
                return Err(format!(
                    "is a WAV file of {bits}-bit {kind}, read are integers of 8, 16, 24 and 32 bits and \
                     floats of 32 and 64"
                ));
            }
        };
        let actual = channels * bits / 8;
        if block != actual {
            return Err(format!(
                "is a WAV file whose header says {block} bytes for {channels} channels of {bits} bits, \
                 which are {actual}"
            ));
        }
        let per_second = u64::from(self.rate) * u64::from(block);
        if u64::from(self.bytes_per_second) != per_second {
            return Err(format!(
                "is a WAV file whose header says {} bytes a second for {} samples of {block} bytes, which \
                 are {per_second}",
                self.bytes_per_second, self.rate
            ));
        }
        Ok(found)
    }
}
