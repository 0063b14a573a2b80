//! Features equal those of torchaudio, librosa and scipy over random parameter sets (made by
//! `golden/make.py`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use sferic_features::{Extractor, FeatureConfig};
use sferic_samples::{Datatype, Samples};

/// Of the feature's standard deviation.
const MEAN_TOLERANCE: f64 = 1e-4;
const MAX_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    versions: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    reference: String,
    features: serde_json::Value,
    sample_rate: f64,
    offset: usize,
    instants: usize,
    shape: [usize; 3],
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(file("golden.json")).unwrap()).unwrap()
}

fn std_of(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

#[test]
fn equals_the_references() {
    let pool = std::fs::read(file("pool.bin")).unwrap();
    let expected: Vec<f32> = std::fs::read(file("golden.bin"))
        .unwrap()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let golden = golden();
    let mut at = 0;
    let mut failures = Vec::new();
    let mut worst = (0.0f64, 0.0f64);
    for (index, case) in golden.cases.iter().enumerate() {
        let config: FeatureConfig = serde_json::from_value(case.features.clone()).unwrap();
        let bytes = &pool[case.offset * 8..][..case.instants * config.num_channels * 8];
        let samples = Samples::new(bytes, Datatype::Cf32Le, config.num_channels).unwrap();
        let mut extractor = Extractor::new(&config, Some(case.sample_rate)).unwrap();
        assert_eq!(extractor.shape(case.instants).unwrap(), case.shape, "case {index}");
        let mut out = vec![f32::NAN; case.shape.iter().product()];
        extractor.extract(&samples, &mut out).unwrap();

        let expected = &expected[at..at + out.len()];
        at += out.len();
        let std = std_of(expected);
        let errors: Vec<f64> =
            out.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()) / std).collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let max = errors.iter().copied().fold(0.0, f64::max);
        worst = (worst.0.max(mean), worst.1.max(max));
        if !(mean <= MEAN_TOLERANCE && max <= MAX_TOLERANCE) {
            let (name, table) = (&case.reference, &case.features);
            failures.push(format!("case {index} ({name}): mean {mean:.1e}, max {max:.1e}: {table}"));
        }
    }
    assert_eq!(at, expected.len());
    println!("{} cases, worst mean {:.1e}, worst max {:.1e}", golden.cases.len(), worst.0, worst.1);
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_key_and_value_is_drawn() {
    let golden = golden();
    assert!(golden.cases.len() >= 200);
    assert_eq!(golden.versions.len(), 5, "{:?}", golden.versions);
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for case in &golden.cases {
        for (key, value) in case.features.as_object().unwrap() {
            seen.entry(key).or_default().insert(value.to_string());
        }
    }
    let all: &[(&str, &[&str])] = &[
        ("kind", &["log_mel", "log_spectrum", "iq"]),
        ("input", &["complex", "envelope"]),
        ("window", &["hann", "hamming", "blackman", "hann_symmetric", "rectangular"]),
        ("sides", &["two_sided", "positive", "folded"]),
        ("mel_scale", &["htk", "slaney", "linear"]),
        ("mel_norm", &["none", "slaney"]),
        ("log", &["ln", "log10", "db"]),
        ("normalize", &["frame", "channel", "fixed", "none"]),
    ];
    for (key, values) in all {
        for value in *values {
            assert!(seen[key].contains(&format!("{value:?}")), "{key} = {value}");
        }
    }
    // A key of the table that no case sets would be missing here.
    let config = FeatureConfig {
        sample_rate_hz: Some(1.0),
        win_length: Some(16),
        hop_length: Some(1),
        f_max_hz: Some(1.0),
        normalize: Some(sferic_features::Normalize::Fixed),
        mean: Some(0.0),
        std: Some(1.0),
        frames: Some(1),
        ..FeatureConfig::default()
    };
    for key in serde_json::to_value(config).unwrap().as_object().unwrap().keys() {
        assert!(seen.get(key.as_str()).is_some_and(|values| values.len() > 1), "{key} is never varied");
    }
    let odd = |value: &String| value.parse::<usize>().unwrap() % 2 == 1;
    assert!(seen["n_fft"].iter().any(odd));
}
