//! What is refused, and with which words; large frames.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

mod support;

use sferic_features::{Extractor, FeatureConfig, FrameError, Kind};
use sferic_samples::{Datatype, Samples, SamplesError};
use support::{RATE, cf32, extract, noise};

#[test]
fn one_sample_less_than_a_window_is_not_enough() {
    let config = FeatureConfig::default();
    let components = noise(2 * 1024, 1);
    assert_eq!(extract(&config, &cf32(&components), Datatype::Cf32Le).unwrap().1, [1, 128, 1]);
    let error = extract(&config, &cf32(&components[2..]), Datatype::Cf32Le).unwrap_err();
    assert_eq!(error, FrameError::NotEnoughSamples { got: 1023, needed: 1024 });
    assert_eq!(error.to_string(), "1023 samples, at least 1024 needed");
    // Also where padding would have made up for it.
    let centered = FeatureConfig { center: true, ..config };
    assert!(matches!(
        extract(&centered, &cf32(&components[2..]), Datatype::Cf32Le),
        Err(FrameError::NotEnoughSamples { .. })
    ));
}

#[test]
fn min_samples_is_checked_before_any_padding() {
    let iq = FeatureConfig { kind: Kind::Iq, ..FeatureConfig::default() };
    let fewest = |frames, min_samples| FeatureConfig { frames, min_samples, ..iq.clone() }.min_samples();
    assert_eq!(fewest(None, None), 16);
    assert_eq!([1, 2, 32, 33].map(|frames| fewest(Some(frames), None)), [1, 1, 16, 17]);
    assert_eq!((fewest(Some(1024), Some(3)), fewest(None, Some(500))), (3, 500));
    for (config, fewest) in [
        (FeatureConfig { frames: Some(40), ..iq.clone() }, 20),
        (FeatureConfig { min_samples: Some(1), ..iq }, 1),
        (FeatureConfig { min_samples: Some(1500), ..FeatureConfig::default() }, 1500),
    ] {
        let bytes = cf32(&noise(2 * fewest, 3));
        assert!(extract(&config, &bytes, Datatype::Cf32Le).is_ok(), "{config:?}");
        if fewest > 1 {
            let error = extract(&config, &bytes[8..], Datatype::Cf32Le).unwrap_err();
            assert_eq!(error.to_string(), format!("{} samples, at least {fewest} needed", fewest - 1));
        }
    }
}

#[test]
fn a_frame_of_a_million_samples_works() {
    let (out, shape) =
        extract(&FeatureConfig::default(), &cf32(&noise(2 << 20, 2)), Datatype::Cf32Le).unwrap();
    assert_eq!(shape, [1, 128, 4093]);
    let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
    let variance = out.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / out.len() as f64;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5, "mean {mean}, variance {variance}");
}

#[test]
fn non_finite_values_are_found_anywhere() {
    // 1024 + 100: the last hundred samples are in no window.
    for at in [0, 2 * 500 + 1, 2 * 1123 + 1] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut components = noise(2 * 1124, 3);
            components[at] = bad;
            let error = extract(&FeatureConfig::default(), &cf32(&components), Datatype::Cf32Le).unwrap_err();
            let FrameError::Samples(SamplesError::NonFinite { instant, value }) = error else {
                panic!("{error}")
            };
            assert_eq!(instant, at / 2);
            assert!(value.is_nan() == bad.is_nan() && (bad.is_nan() || value == f64::from(bad)));
        }
    }
    let mut wide: Vec<u8> = noise(2 * 1024, 4).iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    wide[8 * 77..8 * 78].copy_from_slice(&1e39f64.to_le_bytes());
    let error = extract(&FeatureConfig::default(), &wide, Datatype::Cf64Le).unwrap_err();
    assert_eq!(error, SamplesError::NonFinite { instant: 38, value: 1e39 }.into());
}

#[test]
fn samples_too_large_for_their_power_are_refused_and_leave_nothing_behind() {
    let config = FeatureConfig::default();
    let mut extractor = Extractor::new(&config, Some(RATE)).unwrap();
    let mut run = |components: &[f32]| {
        let bytes = cf32(components);
        let mut out = vec![0.0; 128 * 5];
        extractor.extract(&Samples::new(&bytes, Datatype::Cf32Le, 1).unwrap(), &mut out).map(|()| out)
    };
    let good = noise(2 * 2048, 5);
    let expected = run(&good).unwrap();
    assert_eq!(run(&[1e30; 2 * 2048]), Err(FrameError::Overflow));
    assert_eq!(run(&good), Ok(expected));
}

#[test]
fn frames_that_are_not_the_models() {
    let mut extractor = Extractor::new(&FeatureConfig::default(), Some(RATE)).unwrap();
    let two = Samples::new(&[0; 4 * 2048], Datatype::Ci8, 2).unwrap();
    assert_eq!(extractor.extract(&two, &mut []), Err(FrameError::Channels { got: 2, expected: 1 }));
    let one = Samples::new(&[0; 2 * 1024], Datatype::Ci8, 1).unwrap();
    assert_eq!(extractor.extract(&one, &mut []), Err(FrameError::OutputLength { got: 0, expected: 128 }));
}

#[test]
fn power_is_the_mean_of_the_squares_of_each_channel_in_decibels() {
    let config = FeatureConfig { kind: Kind::Power, num_channels: 2, ..FeatureConfig::default() };
    // Of the first channel |x|^2 is 1 and 3, of the second nothing.
    let values = [0.6f32, 0.8, 0.0, 0.0, 1.0, 2f32.sqrt(), 0.0, 0.0];
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let samples = Samples::new(&bytes, Datatype::Cf32Le, 2).unwrap();
    let mut extractor = Extractor::new(&config, None).unwrap();
    assert_eq!(extractor.shape(samples.len()).unwrap(), [2, 1, 1]);
    let mut out = [f32::NAN; 2];
    extractor.extract(&samples, &mut out).unwrap();
    // 10·log10(2) and 10·log10(1e-10).
    assert!((out[0] - 3.010_3).abs() < 1e-4 && (out[1] + 100.0).abs() < 1e-4, "{out:?}");
    let config = FeatureConfig { floor: 0.0, ..config };
    assert!(config.validate().unwrap_err().to_string().contains("floor is 0"));
}
