//! Rows of the waterfall: the spectrum of a frame.

use std::collections::HashMap;
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use jiff::Timestamp;
use lru::LruCache;
use serde_json::{Value, json};
use sferic_actors::frame::Encoding;
use sferic_features::MeanSpectrum;
use sferic_samples::Samples;

use crate::recorder::frame;

/// Bins of a row; fewer of a frame that is shorter.
const BINS: usize = 1024;

/// The fewest.
const MIN_BINS: usize = 16;

/// Decibels between two values of a row.
const STEP_DB: f32 = 0.5;

/// A frame as it was received, whose spectrum somebody looks at.
#[derive(Debug)]
pub struct Watched {
    /// The tokens after `<prefix>.frames.`.
    pub source: String,
    /// The message.
    pub payload: Bytes,
    /// How it is written.
    pub encoding: Encoding,
    /// The broker's message id.
    pub message_id: Option<String>,
    /// When it was received.
    pub received_at: SystemTime,
}

/// Plans for spectra by their number of bins, which is a power of two.
#[derive(Default)]
pub struct Spectra(HashMap<usize, MeanSpectrum>);

impl Spectra {
    /// The event of a frame; `None` where it has no samples that a spectrum can be of.
    ///
    /// `rows` is one row, from `f0` on in steps of `df` (Hz; without a centre frequency around 0, without a
    /// `sample_rate` in cycles per sample), each value v being `floor + step · v` dBFS. `t0` is the time of
    /// the first sample, or else of the arrival, in seconds since 1970, `dt` the length of the frame in
    /// seconds.
    pub fn event(&mut self, watched: &Watched) -> Option<Value> {
        let read = frame::read(&watched.payload, watched.encoding)?;
        let (format, channels) = (read.format, usize::try_from(read.format.num_channels).ok()?);
        let samples = Samples::new(&read.samples, format.datatype, channels).ok()?;
        samples.check_finite().ok()?;
        let length = samples.len();
        let bins = BINS.min(length.checked_ilog2().map_or(0, |log| 1 << log));
        if bins < MIN_BINS {
            return None;
        }
        let spectrum = self.0.entry(bins).or_insert_with(|| MeanSpectrum::new(bins)).of(&samples)?;
        let (row, floor) = quantized(spectrum);
        let rate = format.sample_rate.unwrap_or(1.0);
        let received_at = Timestamp::try_from(watched.received_at).unwrap_or(Timestamp::UNIX_EPOCH);
        let first = read.datetime.unwrap_or(received_at);
        let id = read.keys.get("frame_id").cloned().or(watched.message_id.clone().map(Value::from));
        Some(json!({
            "source": watched.source,
            "frame_id": id,
            "t0": first.as_second() as f64 + f64::from(first.subsec_nanosecond()) / 1e9,
            "dt": length as f64 / rate,
            "f0": format.frequency.unwrap_or(0.0) - rate / 2.0,
            "df": rate / bins as f64,
            "sample_rate": format.sample_rate,
            "rows": BASE64_STANDARD.encode(row),
            "floor": floor,
            "step": STEP_DB,
        }))
    }
}

/// The values of a row in a byte each, and what 0 means.
fn quantized(spectrum: &[f32]) -> (Vec<u8>, f32) {
    let highest = spectrum.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let floor = ((highest / STEP_DB).ceil() - f32::from(u8::MAX)) * STEP_DB;
    // What is below the floor is at it: a cast of what is out of range gives the nearest value.
    let row = spectrum.iter().map(|db| ((db - floor) / STEP_DB).round() as u8).collect();
    (row, floor)
}

/// When each source's spectrum was last looked at; of a few.
pub type LastLooks = LruCache<String, std::time::Instant>;

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(frame: Value) -> Watched {
        Watched {
            source: "north.rx2".into(),
            payload: frame.to_string().into(),
            encoding: Encoding::Json,
            message_id: Some("m".into()),
            received_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_row_says_where_each_value_is_and_what_it_means() {
        let tone: Vec<[f32; 2]> = (0..4096)
            .map(|n| {
                let angle = std::f32::consts::TAU * ((n * 3) % 8) as f32 / 8.0;
                [0.1 * angle.cos(), 0.1 * angle.sin()]
            })
            .collect();
        let event = Spectra::default()
            .event(&watched(json!({
                "iq_data": tone, "sample_rate": 8000.0, "frequency": 1e6,
                "datetime": "2026-01-01T00:00:00.25Z", "frame_id": "a",
            })))
            .unwrap();
        let number = |key: &str| event[key].as_f64().unwrap();
        let row = BASE64_STANDARD.decode(event["rows"].as_str().unwrap()).unwrap();
        assert_eq!(
            (row.len(), &event["frame_id"], &event["source"]),
            (1024, &json!("a"), &json!("north.rx2"))
        );
        assert_eq!((number("t0"), number("dt")), (1_767_225_600.25, 0.512));
        let (peak, value) = row.iter().enumerate().max_by_key(|(_, value)| **value).unwrap();
        assert_eq!(number("f0") + number("df") * peak as f64, 1e6 + 3000.0);
        assert!((number("floor") + number("step") * f64::from(*value) + 20.0).abs() <= 0.25);
    }

    #[test]
    fn what_has_no_spectrum_has_no_row() {
        let mut spectra = Spectra::default();
        for frame in [
            json!({"tensors": {}}),
            json!({"samples": "AAAA", "datatype": "ci8"}),
            json!({"iq_data": [[1.0, 2.0]]}),
            json!([]),
        ] {
            assert_eq!(spectra.event(&watched(frame.clone())), None, "{frame}");
        }
        let event = spectra.event(&watched(json!({"iq_data": vec![[0.5, 0.0]; 40]}))).unwrap();
        assert_eq!(
            (&event["f0"], &event["df"], &event["t0"]),
            (&json!(-0.5), &json!(1.0 / 32.0), &json!(0.0))
        );
        assert_eq!(event["frame_id"], "m");
    }

    #[test]
    fn silence_and_great_ranges_fit() {
        let (row, floor) = quantized(&[-200.0; 4]);
        assert!(row.iter().all(|&value| (floor + STEP_DB * f32::from(value) + 200.0).abs() <= 0.25));
        let (row, floor) = quantized(&[3.3, -20.0, -180.0]);
        assert_eq!((row[2], floor + STEP_DB * 255.0), (0, 3.5));
        assert!((floor + STEP_DB * f32::from(row[1]) + 20.0).abs() <= 0.25);
    }
}
