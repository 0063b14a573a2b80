//! Writes SigMF recordings.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};
use sferic_samples::Datatype;
use sha2::{Digest, Sha512};

use super::RecordingError;
use super::data::hex;

/// The version of the SigMF specification that is written.
pub(super) const SIGMF_VERSION: &str = "1.2.5";

/// `core:recorder`.
pub(super) fn recorder() -> &'static str {
    concat!("sferic ", env!("CARGO_PKG_VERSION"))
}

/// What is written beside the samples.
#[derive(Clone, Debug)]
pub struct SigmfWriter {
    /// How the samples are stored.
    pub datatype: Datatype,
    /// Samples per second, Hz.
    pub sample_rate: f64,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Centre frequency, Hz.
    pub frequency: f64,
    /// `core:description`.
    pub description: String,
    /// Name, version of the extension whose keys `global` and the annotations hold.
    pub extension: (&'static str, &'static str),
    /// More keys of the global object, with their namespace.
    pub global: Map<String, Value>,
}

/// A labelled stretch of samples.
#[derive(Clone, Debug, Serialize)]
pub struct Annotation {
    /// First sample instant.
    #[serde(rename = "core:sample_start")]
    pub sample_start: u64,
    /// How many.
    #[serde(rename = "core:sample_count")]
    pub sample_count: u64,
    /// What it is, in a word.
    #[serde(rename = "core:label")]
    pub label: String,
    /// More keys, with their namespace.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl SigmfWriter {
    /// Writes `<name>.sigmf-meta` and `<name>.sigmf-data` into `folder`, over files of these names. Returns
    /// the metadata's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        name: &str,
        samples: &[u8],
        annotations: &[Annotation],
    ) -> Result<PathBuf, RecordingError> {
        let (extension, version) = self.extension;
        let mut global = json!({
            "core:datatype": self.datatype.name(),
            "core:sample_rate": self.sample_rate,
            "core:num_channels": self.num_channels,
            "core:version": SIGMF_VERSION,
            "core:description": self.description,
            "core:recorder": recorder(),
            "core:sha512": hex(&Sha512::digest(samples)),
            "core:extensions": [{"name": extension, "version": version, "optional": true}],
        });
        if let Value::Object(global) = &mut global {
            global.extend(self.global.clone());
        }
        let metadata = json!({
            "global": global,
            "captures": [{"core:sample_start": 0, "core:frequency": self.frequency}],
            "annotations": annotations,
        });
        // The data first: metadata on disk is a promise that they are there.
        let data = folder.join(format!("{name}.sigmf-data"));
        fs::write(&data, samples).map_err(RecordingError::writing(&data))?;
        let path = folder.join(format!("{name}.sigmf-meta"));
        fs::write(&path, format!("{metadata:#}\n")).map_err(RecordingError::writing(&path))?;
        Ok(path)
    }
}
