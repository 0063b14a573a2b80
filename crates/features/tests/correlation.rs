//! Correlations against NumPy: `golden/make_correlation.py` writes the cases, with
//! `ops/train/correlation.py` as the definition.

#![allow(clippy::unwrap_used)] // a test may panic

use serde::Deserialize;
use sferic_features::{CorrelationConfig, Correlator, Stream, Weighting};
use sferic_samples::{Datatype, Samples};

#[derive(Deserialize)]
struct Case {
    name: String,
    band_hz: [f64; 2],
    max_lag_s: f64,
    lags: usize,
    windows: usize,
    weighting: Weighting,
    frames: Vec<Option<Frame>>,
    correlation: Vec<Vec<f64>>,
    scatter: Vec<f64>,
}

#[derive(Deserialize)]
struct Frame {
    sample_rate: f64,
    start_ns: String,
    ci16: Vec<i16>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("golden/correlation.json");
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    let cases = document.get("cases").unwrap_or(&document).clone();
    serde_json::from_value(cases).unwrap()
}

#[test]
fn correlations_equal_numpys_to_a_ten_thousandth() {
    let cases = cases();
    assert!(cases.len() >= 3);
    for case in cases {
        let config = CorrelationConfig {
            band_hz: case.band_hz,
            max_lag_s: case.max_lag_s,
            lags: case.lags,
            windows: case.windows,
            weighting: case.weighting,
        };
        assert_eq!(config.validate(), Ok(()));
        let bytes = |frame: &Frame| frame.ci16.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let bytes: Vec<Option<Vec<u8>>> = case.frames.iter().map(|frame| frame.as_ref().map(bytes)).collect();
        let stream = |(frame, bytes): (&Option<Frame>, &'static [u8])| {
            let frame = frame.as_ref()?;
            Some(Stream {
                samples: Samples::new(bytes, Datatype::Ci16Le, 1).unwrap(),
                rate_hz: frame.sample_rate,
                begun_ns: frame.start_ns.parse().unwrap(),
            })
        };
        let streams: Vec<_> = case
            .frames
            .iter()
            .zip(bytes)
            .map(|(frame, bytes)| stream((frame, bytes.unwrap_or_default().leak())))
            .collect();
        let got = Correlator::new(config).correlate(&streams).unwrap();
        let expected: Vec<f64> = case.correlation.into_iter().flatten().collect();
        assert_eq!(got.magnitudes.len(), expected.len());
        for (at, (got, expected)) in got.magnitudes.iter().zip(&expected).enumerate() {
            let off = (f64::from(*got) - expected).abs();
            assert!(off < 1e-4, "{}, value {at}: {got} and {expected}", case.name);
        }
        for (pair, (got, expected)) in got.scatter.iter().zip(&case.scatter).enumerate() {
            let off = (f64::from(*got) - expected).abs();
            assert!(off < 1e-7, "{}, scatter {pair}: {got} and {expected}", case.name);
        }
    }
}
