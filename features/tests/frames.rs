//! What is refused, and with which words; large frames; rates.

mod support;

use sferic_features::{
    ConfigError, Datatype, Extractor, FeatureConfig, FrameError, Kind, MelScale, Samples,
};
use support::{RATE, cf32, extract, noise};

fn config(toml: &str) -> FeatureConfig {
    toml::from_str(toml).unwrap()
}

#[test]
fn one_sample_less_than_a_window_is_not_enough() {
    let config = FeatureConfig::default();
    let components = noise(2 * 1024, 1);
    assert_eq!(
        extract(&config, &cf32(&components), Datatype::Cf32Le)
            .unwrap()
            .1,
        [1, 128, 1]
    );
    let error = extract(&config, &cf32(&components[2..]), Datatype::Cf32Le).unwrap_err();
    assert_eq!(
        error,
        FrameError::NotEnoughSamples {
            got: 1023,
            needed: 1024
        }
    );
    assert_eq!(error.to_string(), "1023 samples, at least 1024 needed");
    // Also where padding would have made up for it.
    let centered = FeatureConfig {
        center: true,
        ..config
    };
    assert!(matches!(
        extract(&centered, &cf32(&components[2..]), Datatype::Cf32Le),
        Err(FrameError::NotEnoughSamples { .. })
    ));
    let iq = FeatureConfig {
        kind: Kind::Iq,
        ..FeatureConfig::default()
    };
    assert_eq!(
        extract(&iq, &[0; 8], Datatype::Cf32Le).unwrap().1,
        [1, 2, 1]
    );
}

#[test]
fn a_frame_of_a_million_samples_works() {
    let (out, shape) = extract(
        &FeatureConfig::default(),
        &cf32(&noise(2 << 20, 2)),
        Datatype::Cf32Le,
    )
    .unwrap();
    assert_eq!(shape, [1, 128, 4093]);
    let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
    let variance = out
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / out.len() as f64;
    assert!(
        mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5,
        "mean {mean}, variance {variance}"
    );
}

#[test]
fn what_is_not_finite_is_found_anywhere() {
    // 1024 + 100: the last hundred samples are in no window.
    for at in [0, 2 * 500 + 1, 2 * 1123 + 1] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut components = noise(2 * 1124, 3);
            components[at] = bad;
            let error = extract(
                &FeatureConfig::default(),
                &cf32(&components),
                Datatype::Cf32Le,
            )
            .unwrap_err();
            let FrameError::NonFinite { instant, value } = error else {
                panic!("{error}")
            };
            assert_eq!(instant, at / 2);
            assert!(value.is_nan() == bad.is_nan() && (bad.is_nan() || value == f64::from(bad)));
        }
    }
    let mut wide: Vec<u8> = noise(2 * 1024, 4)
        .iter()
        .flat_map(|&x| f64::from(x).to_le_bytes())
        .collect();
    wide[8 * 77..8 * 78].copy_from_slice(&1e39f64.to_le_bytes());
    let error = extract(&FeatureConfig::default(), &wide, Datatype::Cf64Le).unwrap_err();
    assert_eq!(
        error,
        FrameError::NonFinite {
            instant: 38,
            value: 1e39
        }
    );
}

#[test]
fn samples_too_large_for_their_power_are_refused_and_leave_nothing_behind() {
    let config = FeatureConfig::default();
    let mut extractor = Extractor::new(&config, Some(RATE)).unwrap();
    let mut run = |components: &[f32]| {
        let bytes = cf32(components);
        let mut out = vec![0.0; 128 * 5];
        extractor
            .extract(
                &Samples::new(&bytes, Datatype::Cf32Le, 1).unwrap(),
                &mut out,
            )
            .map(|()| out)
    };
    let good = noise(2 * 2048, 5);
    let expected = run(&good).unwrap();
    assert_eq!(run(&[1e30; 2 * 2048]), Err(FrameError::Overflow));
    assert_eq!(run(&good), Ok(expected));
}

#[test]
fn frames_that_are_no_frames() {
    assert_eq!(
        Samples::new(&[], Datatype::Ci8, 1).unwrap_err(),
        FrameError::Empty
    );
    let error = Samples::new(&[0; 10], Datatype::Ci16Le, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "10 bytes are no whole number of samples of 8 bytes (2 channels of ci16_le)"
    );
    assert!(matches!(
        Samples::new(&[0; 8], Datatype::Ci8, 0),
        Err(FrameError::Channels { got: 0, .. })
    ));
    assert!(matches!(
        Samples::new(&[0; 8], Datatype::Ci8, usize::MAX),
        Err(FrameError::Channels { .. })
    ));
    let mut extractor = Extractor::new(&FeatureConfig::default(), Some(RATE)).unwrap();
    let two = Samples::new(&[0; 4 * 2048], Datatype::Ci8, 2).unwrap();
    assert_eq!(
        extractor.extract(&two, &mut []),
        Err(FrameError::Channels {
            got: 2,
            expected: 1
        })
    );
    let one = Samples::new(&[0; 2 * 1024], Datatype::Ci8, 1).unwrap();
    assert_eq!(
        extractor.extract(&one, &mut []),
        Err(FrameError::OutputLength {
            got: 0,
            expected: 128
        })
    );
}

#[test]
fn rates() {
    let any = FeatureConfig::default();
    assert_eq!(any.plan_rate(None), Err(FrameError::MissingRate));
    assert_eq!(any.plan_rate(Some(48_000.0)), Ok(Some(48_000.0)));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            any.plan_rate(Some(bad)),
            Err(FrameError::InvalidRate(_))
        ));
    }
    for extreme in [f64::MIN_POSITIVE, 1e-320, 1e300, f64::MAX] {
        if let Ok(extractor) = Extractor::new(&any, Some(extreme)) {
            assert!(
                extractor
                    .empty_bands()
                    .iter()
                    .all(|band| band.low_hz < band.high_hz),
                "{extreme}"
            );
        }
    }

    let stated = config("sample_rate_hz = 192000.0");
    for near in [192_000.0, 192_192.0, 191_808.0] {
        assert_eq!(
            stated.plan_rate(Some(near)),
            Ok(Some(192_000.0)),
            "the plan is the model's own"
        );
    }
    for far in [192_193.0, 191_807.0, 96_000.0] {
        assert_eq!(
            stated.plan_rate(Some(far)),
            Err(FrameError::SampleRate {
                got: far,
                expected: 192_000.0
            })
        );
    }

    // Neither needs a rate, and all rates share one plan.
    for free in [
        "kind = 'iq'",
        "kind = 'log_spectrum'",
        "mel_scale = 'linear'",
    ] {
        let free = config(free);
        assert!(!free.needs_rate());
        assert_eq!(
            (free.plan_rate(None), free.plan_rate(Some(1e6))),
            (Ok(None), Ok(None))
        );
        assert!(Extractor::new(&free, None).is_ok());
    }
    for bound in [
        "mel_scale = 'linear'\nf_max_hz = 4000.0",
        "kind = 'iq'\nsample_rate_hz = 8000.0",
    ] {
        assert_eq!(
            config(bound).plan_rate(None),
            Err(FrameError::MissingRate),
            "{bound}"
        );
    }

    let band = config("f_max_hz = 20000.0");
    assert_eq!(
        band.plan_rate(Some(32_000.0)),
        Err(FrameError::RateTooLow {
            got: 32_000.0,
            needed: 40_000.0
        })
    );
    assert!(
        Extractor::new(&band, Some(39_999.0)).is_ok(),
        "a few ppm below is the same rate"
    );
}

#[test]
fn a_linear_bank_has_no_scale() {
    let linear = FeatureConfig {
        mel_scale: MelScale::Linear,
        ..FeatureConfig::default()
    };
    let bytes = cf32(&noise(4096, 6));
    let (out, _) = extract(&linear, &bytes, Datatype::Cf32Le).unwrap();
    let stated = FeatureConfig {
        f_max_hz: Some(RATE / 2.0),
        ..linear
    };
    support::assert_close(
        &out,
        &extract(&stated, &bytes, Datatype::Cf32Le).unwrap().0,
        1e-5,
    );
}

#[test]
fn empty_bands_are_named_with_their_edges() {
    let config = FeatureConfig {
        n_fft: 256,
        ..FeatureConfig::default()
    };
    let extractor = Extractor::new(&config, Some(2.4e6)).unwrap();
    let empty = extractor.empty_bands();
    assert!(!empty.is_empty());
    let bin = 2.4e6 / 256.0;
    for band in empty {
        assert!(
            band.high_hz - band.low_hz <= bin,
            "{band:?} is wide enough for a bin"
        );
        assert_eq!(band.row < 64, band.high_hz <= 0.0);
        // Its mirror image is empty as well.
        assert!(
            empty
                .iter()
                .any(|other| other.row == 127 - band.row && other.low_hz == -band.high_hz)
        );
    }
    assert!(
        Extractor::new(
            &FeatureConfig {
                n_mels: 16,
                ..config
            },
            Some(8000.0)
        )
        .unwrap()
        .empty_bands()
        .is_empty()
    );
}

#[test]
fn tables() {
    assert_eq!(config(""), FeatureConfig::default());
    let error = toml::from_str::<FeatureConfig>("n_ftt = 512")
        .unwrap_err()
        .to_string();
    assert!(error.contains("n_ftt"), "{error}");
    assert!(toml::from_str::<FeatureConfig>("window = 'kaiser'").is_err());
    for good in [
        "power = 1",
        "n_fft = 17\nn_mels = 4",
        "kind = 'iq'\nn_fft = 3",
        "sides = 'positive'\nn_mels = 5",
    ] {
        assert_eq!(config(good).validate(), Ok(()), "{good}");
    }
    for (bad, words) in [
        ("n_fft = 15", "n_fft is 15, must be 16 to 16777216"),
        ("win_length = 1025", "win_length is 1025, must be 1 to 1024"),
        ("hop_length = 0", "hop_length is 0, must be 1 to 16777216"),
        (
            "n_mels = 127",
            "n_mels is 127, must be even with sides = \"two_sided\"",
        ),
        (
            "num_channels = 0",
            "num_channels is 0, must be 1 to 1048576",
        ),
        ("frames = 0", "frames is 0, must be 1 to 16777216"),
        ("power = 0", "power is 0, must be above 0 and at most 16"),
        ("floor = 0", "floor is 0, must be a positive normal float32"),
        (
            "floor = nan",
            "floor is NaN, must be a positive normal float32",
        ),
        (
            "sample_rate_hz = -1",
            "sample_rate_hz is -1, must be a positive number of hertz",
        ),
        ("f_min_hz = -1", "f_min_hz is -1, must be 0 or more"),
        (
            "f_min_hz = 9\nf_max_hz = 9",
            "f_max_hz is 9, must be above f_min_hz (9)",
        ),
        (
            "f_max_hz = 9\nsample_rate_hz = 17",
            "f_max_hz is 9, must be at most half of sample_rate_hz (8.5)",
        ),
        (
            "f_min_hz = 9\nsample_rate_hz = 17",
            "f_min_hz is 9, must be below half of sample_rate_hz (8.5)",
        ),
        (
            "mel_scale = 'linear'\nmel_norm = 'slaney'",
            "mel_norm = \"slaney\" cannot stand with mel_scale = \"linear\"",
        ),
        (
            "normalize = 'fixed'\nmean = 1",
            "normalize = \"fixed\" needs both mean and std",
        ),
        (
            "normalize = 'fixed'\nmean = 1\nstd = 0",
            "std is 0, must be a positive number",
        ),
        ("mean = 1", "mean and std need normalize = \"fixed\""),
    ] {
        assert_eq!(
            config(bad)
                .validate()
                .map_err(|e: ConfigError| e.to_string()),
            Err(words.to_owned()),
            "{bad}"
        );
    }
}
