//! `kind = "signature"`: equal to NumPy's (`golden/make_signature.py`), finite and the same at any level.
#![allow(clippy::unwrap_used)] // a test may panic

mod support;

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;
use sferic_features::{FeatureConfig, FrameError, Kind, signature};
use sferic_samples::Datatype;
use signature::{COLUMNS, FACT_WIDTH, FACTS, MIN_SAMPLES, REPETITION, ROWS};
use support::{cf32, extract, noise, tone};

#[derive(Deserialize)]
struct Case {
    name: String,
    datatype: String,
    bytes: usize,
}

fn config() -> FeatureConfig {
    FeatureConfig { kind: Kind::Signature, ..FeatureConfig::default() }
}

fn signature_of(bytes: &[u8], datatype: Datatype) -> Vec<f32> {
    let (out, shape) = extract(&config(), bytes, datatype).unwrap();
    assert_eq!(shape, [1, ROWS, COLUMNS]);
    assert!(out.iter().all(|x| x.is_finite()));
    out
}

/// The largest difference of each row, in standard deviations of the expected one.
fn differences(got: &[f32], expected: &[f32]) -> Vec<f64> {
    let rows = got.chunks(COLUMNS).zip(expected.chunks(COLUMNS));
    rows.map(|(got, expected)| {
        let mean = expected.iter().map(|&x| f64::from(x)).sum::<f64>() / COLUMNS as f64;
        let variance = expected.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / COLUMNS as f64;
        let most = got.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        most / variance.sqrt().max(0.02) // what is constant has no deviation
    })
    .collect()
}

#[test]
fn equals_numpys_to_a_thousandth() {
    let file = |name: &str| {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
        std::fs::read(path).unwrap()
    };
    let cases: Vec<Case> = serde_json::from_slice(&file("signature.json")).unwrap();
    let (pool, expected) = (file("signature.pool"), file("signature.bin"));
    let expected: Vec<f32> =
        expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert!(cases.len() >= 6);
    assert_eq!(expected.len(), cases.len() * ROWS * COLUMNS);
    let mut rest = &pool[..];
    for (case, expected) in cases.iter().zip(expected.chunks(ROWS * COLUMNS)) {
        let (frame, others) = rest.split_at(case.bytes);
        rest = others;
        let got = signature_of(frame, case.datatype.parse().unwrap());
        let off = differences(&got, expected);
        let worst = off.iter().copied().fold(0.0, f64::max);
        println!("{}: at most {worst:.1e} standard deviations", case.name);
        for (row, off) in off.iter().enumerate() {
            assert!(*off < 1e-3, "{}, row {row}: off by {off} standard deviations", case.name);
        }
    }
    assert!(rest.is_empty());
}

/// Frames of all sorts, in float32.
fn frames() -> Vec<(&'static str, Vec<f32>)> {
    let constant = |n: usize, x: f32| vec![x; 2 * n];
    let mut impulse = constant(8192, 0.0);
    impulse[6000] = 1.0;
    let mut early = constant(3000, 0.0);
    early[0] = -1.0;
    let clipped: Vec<f32> = noise(2 * 8192, 3).iter().map(|x| x.signum()).collect();
    let real: Vec<f32> = noise(5000, 4).into_iter().flat_map(|x| [x, 0.0]).collect();
    vec![
        ("noise", noise(2 * 8192, 1)),
        ("tone", tone(12_345.6, 8192)),
        ("tone at the end of the band", tone(95_990.0, 8192)),
        ("constant", constant(8192, 0.7)),
        ("impulse", impulse),
        ("impulse at once", early),
        ("clipped", clipped),
        ("real", real),
        ("long", noise(2 * 30_001, 5)),
        ("shortest", noise(2 * MIN_SAMPLES, 6)),
        ("one over half of a transform", tone(50_000.0, 4097)),
        ("alternating", (0..8192).flat_map(|n| [if n % 2 == 0 { 1.0 } else { -1.0 }, 0.0]).collect()),
    ]
}

#[test]
fn all_is_finite_and_bounded() {
    for (name, frame) in frames() {
        for scale in [1.0, 1e-44, 1e-38, 1e30, 3e38] {
            let frame: Vec<f32> = frame.iter().map(|x| x * scale).collect();
            let out = signature_of(&cf32(&frame), Datatype::Cf32Le);
            let most = out.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(most < 12.0, "{name} times {scale}: {most}");
            assert!(out[..COLUMNS].iter().any(|&x| x != 0.0) || name.starts_with("impulse"), "{name}");
        }
    }
}

#[test]
fn silence_is_zeros() {
    for samples in [MIN_SAMPLES, 8192, 20_000] {
        assert!(signature_of(&vec![0; 8 * samples], Datatype::Cf32Le).iter().all(|&x| x == 0.0));
    }
}

#[test]
fn the_level_does_not_matter() {
    for (name, frame) in frames() {
        let first = signature_of(&cf32(&frame), Datatype::Cf32Le);
        for scale in [1e-5, 0.3, 17.0, 1e4] {
            let frame: Vec<f32> = frame.iter().map(|x| x * scale).collect();
            let scaled = signature_of(&cf32(&frame), Datatype::Cf32Le);
            for (row, off) in differences(&scaled, &first).iter().enumerate() {
                // The power of a tone is constant but for what rounding leaves.
                let most = if name.starts_with("tone") { 5e-3 } else { 1e-3 };
                assert!(*off < most, "{name} times {scale}, row {row}: {off}");
            }
        }
    }
}

#[test]
fn facts_say_what_is_there() {
    let fact = |out: &[f32], n: usize| out[FACTS * COLUMNS + n * FACT_WIDTH];
    let out = signature_of(&cf32(&tone(48_000.0, 8192)), Datatype::Cf32Le);
    assert!((fact(&out, 1) - 0.25).abs() < 2e-3, "offset {}", fact(&out, 1));
    assert!(fact(&out, 0) < -1.9, "width {}", fact(&out, 0));
    assert!((fact(&out, 2) - 0.903).abs() < 1e-3, "length {}", fact(&out, 2));
    assert!((fact(&out, 9) - 1.0).abs() < 0.05, "envelope {}", fact(&out, 9));
    assert!(fact(&out, 11) > 0.95, "coherence {}", fact(&out, 11));
    let constant = signature_of(&cf32(&[0.5; 4000]), Datatype::Cf32Le);
    assert!((fact(&constant, 5) - 1.0).abs() < 1e-4, "{}", fact(&constant, 5));
    assert!((0..FACT_WIDTH).all(|at| out[FACTS * COLUMNS + 32 + at] == fact(&out, 1)));
}

#[test]
fn what_repeats_has_a_peak() {
    // Noise of the whole band whose every 200 samples end with what the first 40 were.
    let mut frame = noise(2 * 8192, 9);
    for start in (0..8000).step_by(200) {
        frame.copy_within(2 * start..2 * (start + 40), 2 * (start + 160));
    }
    let out = signature_of(&cf32(&frame), Datatype::Cf32Le);
    let lags = &out[REPETITION.start * COLUMNS..][..COLUMNS];
    let peak = (0..COLUMNS).max_by(|&a, &b| lags[a].total_cmp(&lags[b])).unwrap();
    assert_eq!(peak + 1, 160);
    assert!(lags[peak] > 2.0, "{}", lags[peak]);
}

#[test]
fn every_length_is_taken_from_the_fewest_on() {
    let too_short = cf32(&noise(2 * (MIN_SAMPLES - 1), 1));
    let error = extract(&config(), &too_short, Datatype::Cf32Le).unwrap_err();
    assert_eq!(error, FrameError::NotEnoughSamples { got: MIN_SAMPLES - 1, needed: MIN_SAMPLES });
    let any = FeatureConfig { min_samples: Some(1), ..config() };
    for samples in (1..300).chain([511, 512, 513, 4096, 8191, 8193, 12_288, 12_289]) {
        let bytes = cf32(&noise(2 * samples, samples as u64));
        let (out, _) = extract(&any, &bytes, Datatype::Cf32Le).unwrap();
        assert!(out.iter().all(|x| x.is_finite()), "{samples}");
    }
}

#[test]
fn channels_are_computed_one_by_one() {
    let (one, other) = (noise(2 * 3000, 1), tone(30_000.0, 3000));
    let both: Vec<f32> = one.chunks(2).zip(other.chunks(2)).flat_map(|(a, b)| [a, b].concat()).collect();
    let config = FeatureConfig { num_channels: 2, ..config() };
    let (out, shape) = extract(&config, &cf32(&both), Datatype::Cf32Le).unwrap();
    assert_eq!(shape, [2, ROWS, COLUMNS]);
    for (got, alone) in out.chunks(ROWS * COLUMNS).zip([one, other]) {
        assert_eq!(got, signature_of(&cf32(&alone), Datatype::Cf32Le));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_finite(
        bytes in proptest::collection::vec(any::<u8>(), 128..40_000),
        datatype in prop::sample::select(vec![Datatype::Ci8, Datatype::Cu8, Datatype::Ci16Le]),
    ) {
        let whole = bytes.len() / datatype.bytes_per_sample() * datatype.bytes_per_sample();
        if whole / datatype.bytes_per_sample() >= MIN_SAMPLES {
            signature_of(&bytes[..whole], datatype);
        }
    }
}
