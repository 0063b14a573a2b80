//! What is read of a `.sigmf-meta` file.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Number, Value};

use crate::RecordingError;

/// Metadata is read whole; a file larger than this is something else.
const MAX_METADATA_BYTES: u64 = 256 << 20;

/// What some editors put before text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is read of the file; its names are SigMF's.
#[derive(Deserialize)]
pub struct Metadata {
    pub global: Global,
    #[serde(default)]
    pub captures: Vec<Capture>,
}

#[derive(Deserialize)]
pub struct Global {
    #[serde(rename = "core:datatype")]
    pub datatype: String,
    #[serde(rename = "core:sample_rate")]
    pub sample_rate: Option<f64>,
    #[serde(rename = "core:num_channels")]
    pub num_channels: Option<Whole>,
    #[serde(rename = "core:dataset")]
    pub dataset: Option<PathBuf>,
    #[serde(rename = "core:metadata_only", default)]
    pub metadata_only: bool,
    #[serde(rename = "core:offset", default)]
    pub offset: Whole,
    #[serde(rename = "core:trailing_bytes", default)]
    pub trailing_bytes: Whole,
    #[serde(rename = "core:geolocation")]
    pub geolocation: Option<Value>,
    #[serde(rename = "core:sha512")]
    pub sha512: Option<String>,
    #[serde(rename = "core:extensions", default)]
    pub extensions: Value,
}

#[derive(Default, Deserialize)]
pub struct Capture {
    #[serde(rename = "core:sample_start")]
    pub sample_start: Whole,
    #[serde(rename = "core:global_index")]
    pub global_index: Option<Whole>,
    #[serde(rename = "core:header_bytes", default)]
    pub header_bytes: Whole,
    #[serde(rename = "core:frequency")]
    pub frequency: Option<f64>,
    #[serde(rename = "core:datetime")]
    pub datetime: Option<String>,
    #[serde(rename = "core:geolocation")]
    pub geolocation: Option<Value>,
}

impl Global {
    /// The extensions without which the recording is not to be read, by what the metadata says.
    pub fn required_extensions(&self) -> impl Iterator<Item = impl Display> {
        let extensions = self.extensions.as_array().into_iter().flatten();
        extensions.filter(|extension| extension["optional"] == false).map(|extension| &extension["name"])
    }
}

/// A whole number from 0. One written as a float counts, as MATLAB, Lua and JavaScript write them: `3.0` is
/// 3.
#[derive(Clone, Copy, Default)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        let float = || {
            number
                .as_f64()
                .filter(|x| x.fract() == 0.0 && *x >= 0.0 && *x < u64::MAX as f64)
                .map(|x| x as u64)
        };
        number
            .as_u64()
            .or_else(float)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{number} is no whole number from 0")))
    }
}

/// Parses metadata; `path` is for messages.
///
/// # Errors
/// It cannot be read, is too large, or is not SigMF.
pub fn read(path: &Path, metadata: impl Read) -> Result<Metadata, RecordingError> {
    let mut text = Vec::new();
    metadata.take(MAX_METADATA_BYTES + 1).read_to_end(&mut text).map_err(RecordingError::reading(path))?;
    if text.len() as u64 > MAX_METADATA_BYTES {
        return Err(RecordingError::metadata(
            path,
            format!("is over {MAX_METADATA_BYTES} bytes, too large for SigMF metadata"),
        ));
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    serde_json::from_slice(text).map_err(|error| {
        let reason = match non_finite(text, &error) {
            Some(word) => {
                format!("{word} is no number in JSON, at line {} column {}", error.line(), error.column())
            }
            None => error.to_string(),
        };
        RecordingError::metadata(path, format!("is not SigMF metadata: {reason}"))
    })
}

/// The NaN or infinity at which the parser stopped, as Python's `json` writes them.
fn non_finite<'a>(text: &'a [u8], error: &serde_json::Error) -> Option<&'a str> {
    if !error.is_syntax() {
        return None;
    }
    let line = text.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let (before, after) = line.split_at_checked(error.column().checked_sub(1)?)?;
    let is_other = |byte: &u8| !(byte.is_ascii_alphabetic() || *byte == b'-');
    let start = before.iter().rposition(is_other).map_or(0, |last| last + 1);
    let end = before.len() + after.iter().position(is_other).unwrap_or(after.len());
    let word = str::from_utf8(&line[start..end]).ok()?;
    let name = word.trim_start_matches('-').to_ascii_lowercase();
    matches!(name.as_str(), "nan" | "inf" | "infinity").then_some(word)
}
