//! Computes features of real recordings, frame by frame, for the model card.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use sferic_samples::{Datatype, Samples};

use crate::inputs::Inputs;

/// The fields of a `.sigmf-meta` that are read.
#[derive(Deserialize)]
struct Meta {
    global: Global,
}

#[derive(Deserialize)]
struct Global {
    #[serde(rename = "core:datatype")]
    datatype: String,
    #[serde(rename = "core:dataset")]
    dataset: Option<String>,
    #[serde(rename = "core:sample_rate")]
    sample_rate_hz: Option<f64>,
}

/// One recording's place in the arrays.
#[derive(Serialize)]
struct Entry {
    /// Path below the searched folder.
    file: PathBuf,
    first: usize,
    frames: usize,
}

/// Writes the inputs of every whole frame of `samples` samples in the single-channel recordings below
/// `folder`, and `captures.json` with each recording's path, first frame and number of frames.
pub fn captures(inputs: &Inputs, out: &Path, folder: &Path, samples: usize) -> anyhow::Result<()> {
    let mut metas = Vec::new();
    find(folder, &mut metas)?;
    metas.sort();
    let mut entries = Vec::new();
    let mut values = vec![Vec::new(); inputs.extractors(None)?.len()];
    let mut first = 0;
    for path in metas {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let meta: Meta = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let data = match &meta.global.dataset {
            Some(name) => path.with_file_name(name),
            None => path.with_extension("sigmf-data"),
        };
        let bytes = std::fs::read(&data).with_context(|| format!("read {}", data.display()))?;
        let mut extractors = inputs.extractors(meta.global.sample_rate_hz)?;
        let mut frames = 0;
        let datatype: Datatype =
            meta.global.datatype.parse().with_context(|| format!("read {}", path.display()))?;
        let width = datatype.bytes_per_sample();
        for frame in bytes.chunks_exact(samples * width) {
            extractors.extract(&Samples::new(frame, datatype, 1)?, &mut values)?;
            frames += 1;
        }
        let file =
            data.strip_prefix(folder).map_err(|_| anyhow!("{} is elsewhere", data.display()))?.to_owned();
        entries.push(Entry { file, first, frames });
        first += frames;
    }
    for (mut file, values) in inputs.create(out, first, samples, None)?.into_iter().zip(values) {
        file.write(&values)?;
        file.finish()?;
    }
    std::fs::write(out.join("captures.json"), serde_json::to_string_pretty(&entries)?)?;
    Ok(())
}

/// All `.sigmf-meta` files at or below `folder`.
fn find(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "sigmf-meta") {
            found.push(path);
        }
    }
    Ok(())
}
