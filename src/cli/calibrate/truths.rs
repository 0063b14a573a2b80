//! Frames whose truth is known.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};
use sferic_recording::{Cut, Overrides, open};
use sferic_scene::GeoPoint;
use sferic_wire::FrameMessage;

/// A frame with what was true of it.
pub struct Truth {
    /// Where it is from, for messages.
    pub shown: String,
    pub frame: Frame,
    pub position: GeoPoint,
}

/// How a frame is sent.
pub enum Frame {
    /// Keys in JSON.
    Keys(Map<String, Value>),
    /// A recording that is one frame.
    Recording(PathBuf),
}

/// What a file or a folder has: lines of JSON, each the keys of a frame and `truth`, or recordings whose
/// annotation states `sferic:latitude` and `sferic:longitude`.
///
/// # Errors
/// It cannot be read, or says no truth.
pub fn read(path: &Path) -> anyhow::Result<Vec<Truth>> {
    if path.is_dir() {
        let mut recordings: Vec<_> = fs::read_dir(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        recordings.retain(|path| path.extension().is_some_and(|ending| ending == "sigmf-meta"));
        recordings.sort();
        ensure!(!recordings.is_empty(), "{} has no .sigmf-meta", path.display());
        return recordings.into_iter().map(|path| recording(&path)).collect();
    }
    if path.extension().is_some_and(|ending| ending == "sigmf-meta") {
        return Ok(vec![recording(path)?]);
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut truths = Vec::new();
    for (number, text) in BufReader::new(file).lines().enumerate() {
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        if !text.trim().is_empty() {
            let shown = format!("{}:{}", path.display(), number + 1);
            truths.push(
                line(&text)
                    .map(|(frame, position)| Truth { shown: shown.clone(), frame, position })
                    .context(shown)?,
            );
        }
    }
    Ok(truths)
}

fn line(text: &str) -> anyhow::Result<(Frame, GeoPoint)> {
    let Value::Object(mut keys) = serde_json::from_str(text).context("is no JSON")? else {
        bail!("is no object of JSON");
    };
    let truth = keys.remove("truth").context("has no `truth`")?;
    let position = place(&truth["latitude"], &truth["longitude"]);
    let position = position.context("`truth` must have `latitude` and `longitude` in degrees")?;
    Ok((Frame::Keys(keys), position))
}

fn recording(path: &Path) -> anyhow::Result<Truth> {
    let shown = path.display().to_string();
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let metadata: Value = serde_json::from_slice(&text).with_context(|| format!("{shown} is no JSON"))?;
    let annotation = &metadata["annotations"][0];
    let position = place(&annotation["sferic:latitude"], &annotation["sferic:longitude"]);
    let must = "must have an annotation with sferic:latitude and sferic:longitude";
    let position = position.with_context(|| format!("{shown} {must}"))?;
    Ok(Truth { shown, frame: Frame::Recording(path.to_owned()), position })
}

fn place(latitude: &Value, longitude: &Value) -> Option<GeoPoint> {
    let within = |value: &Value, most: f64| value.as_f64().filter(|degrees| degrees.abs() <= most);
    Some(GeoPoint { latitude: within(latitude, 90.0)?, longitude: within(longitude, 180.0)? })
}

impl Frame {
    /// The message, and whether it is JSON.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn message(&self, model: &str, timeout_ms: u64, id: &str) -> anyhow::Result<(Vec<u8>, bool)> {
        match self {
            Self::Keys(keys) => {
                let mut keys = keys.clone();
                keys.insert("model".to_owned(), model.into());
                keys.insert("cache_enabled".to_owned(), false.into());
                keys.insert("timeout_ms".to_owned(), timeout_ms.into());
                keys.entry("frame_id").or_insert_with(|| id.into());
                Ok((serde_json::to_vec(&keys)?, true))
            }
            Self::Recording(path) => {
                let recordings = open(path, &Overrides::default())?;
                let recording = recordings.first().context("has no recording")?;
                let length = recording.len();
                let cut = Cut { frame: length, hop: length };
                let frame = recording.frames(cut)?.next().context("has no samples")??;
                let message = FrameMessage {
                    frame_id: id,
                    datetime: frame.datetime,
                    datatype: recording.datatype.name(),
                    sample_rate: recording.sample_rate,
                    num_channels: recording.num_channels,
                    frequency: frame.frequency,
                    geolocation: frame.geolocation.as_ref(),
                    model: Some(model),
                    timeout_ms: Some(timeout_ms),
                    cache_enabled: Some(false),
                    samples: &frame.bytes,
                    ..FrameMessage::default()
                };
                Ok((message.encode()?, false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_frame_and_its_truth() {
        let (frame, position) =
            line(r#"{"truth": {"latitude": 45, "longitude": 7.5}, "tensors": {"x": 1}}"#).unwrap();
        assert_eq!((position.latitude, position.longitude), (45.0, 7.5));
        let (message, is_json) = frame.message("m@2", 500, "7").unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert!(is_json && message.get("truth").is_none());
        assert_eq!((&message["model"], &message["frame_id"]), (&"m@2".into(), &"7".into()));
        assert_eq!((&message["tensors"]["x"], &message["cache_enabled"]), (&1.into(), &false.into()));
        for (text, says) in [
            ("[]", "no object"),
            ("{", "no JSON"),
            ("{}", "no `truth`"),
            (r#"{"truth": {"latitude": 91, "longitude": 0}}"#, "in degrees"),
        ] {
            assert!(format!("{:#}", line(text).err().unwrap()).contains(says), "{text}");
        }
    }
}
