//! What a `[features]` table may say, the rates it takes, and its empty bands.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

mod support;

use sferic_features::{ConfigError, Extractor, FeatureConfig, FrameError, MelScale};
use sferic_samples::Datatype;
use support::{RATE, cf32, extract, noise};

fn config(toml: &str) -> FeatureConfig {
    toml::from_str(toml).unwrap()
}

#[test]
fn rates() {
    let any = FeatureConfig::default();
    assert_eq!(any.plan_rate(None), Err(FrameError::MissingRate));
    assert_eq!(any.plan_rate(Some(48_000.0)), Ok(Some(48_000.0)));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(any.plan_rate(Some(bad)), Err(FrameError::InvalidRate(_))));
    }
    for extreme in [f64::MIN_POSITIVE, 1e-320, 1e300, f64::MAX] {
        if let Ok(extractor) = Extractor::new(&any, Some(extreme)) {
            assert!(extractor.empty_bands().iter().all(|band| band.low_hz < band.high_hz), "{extreme}");
        }
    }

    let stated = config("sample_rate_hz = 192000.0");
    for near in [192_000.0, 192_192.0, 191_808.0] {
        assert_eq!(stated.plan_rate(Some(near)), Ok(Some(192_000.0)), "the plan is the model's own");
    }
    for far in [192_193.0, 191_807.0, 96_000.0] {
        assert_eq!(
            stated.plan_rate(Some(far)),
            Err(FrameError::SampleRate { got: far, expected: 192_000.0 })
        );
    }

    // Neither needs a rate, and all rates share one plan.
    for free in ["kind = 'iq'", "kind = 'log_spectrum'", "mel_scale = 'linear'"] {
        let free = config(free);
        assert!(!free.needs_rate());
        assert_eq!((free.plan_rate(None), free.plan_rate(Some(1e6))), (Ok(None), Ok(None)));
        assert!(Extractor::new(&free, None).is_ok());
    }
    for bound in ["mel_scale = 'linear'\nf_max_hz = 4000.0", "kind = 'iq'\nsample_rate_hz = 8000.0"] {
        assert_eq!(config(bound).plan_rate(None), Err(FrameError::MissingRate), "{bound}");
    }

    let band = config("f_max_hz = 20000.0");
    assert_eq!(
        band.plan_rate(Some(32_000.0)),
        Err(FrameError::RateTooLow { got: 32_000.0, needed: 40_000.0 })
    );
    assert!(Extractor::new(&band, Some(39_999.0)).is_ok(), "a few ppm below is the same rate");
}

#[test]
fn a_linear_bank_has_no_scale() {
    let linear = FeatureConfig { mel_scale: MelScale::Linear, ..FeatureConfig::default() };
    let bytes = cf32(&noise(4096, 6));
    let (out, _) = extract(&linear, &bytes, Datatype::Cf32Le).unwrap();
    let stated = FeatureConfig { f_max_hz: Some(RATE / 2.0), ..linear };
    support::assert_close(&out, &extract(&stated, &bytes, Datatype::Cf32Le).unwrap().0, 1e-5);
}

#[test]
fn empty_bands_are_named_with_their_edges() {
    let config = FeatureConfig { n_fft: 256, ..FeatureConfig::default() };
    let extractor = Extractor::new(&config, Some(2.4e6)).unwrap();
    let empty = extractor.empty_bands();
    assert!(!empty.is_empty());
    let bin = 2.4e6 / 256.0;
    for band in empty {
        assert!(band.high_hz - band.low_hz <= bin, "{band:?} is wide enough for a bin");
        assert_eq!(band.row < 64, band.high_hz <= 0.0);
        // Its mirror image is empty as well.
        assert!(empty.iter().any(|other| other.row == 127 - band.row && other.low_hz == -band.high_hz));
    }
    assert!(
        Extractor::new(&FeatureConfig { n_mels: 16, ..config }, Some(8000.0))
            .unwrap()
            .empty_bands()
            .is_empty()
    );
}

#[test]
fn tables() {
    assert_eq!(config(""), FeatureConfig::default());
    let error = toml::from_str::<FeatureConfig>("n_ftt = 512").unwrap_err().to_string();
    assert!(error.contains("n_ftt"), "{error}");
    assert!(toml::from_str::<FeatureConfig>("window = 'kaiser'").is_err());
    for good in [
        "power = 1",
        "n_fft = 17\nn_mels = 4",
        "kind = 'iq'\nn_fft = 3",
        "sides = 'positive'\nn_mels = 5",
        "min_samples = 1024",
    ] {
        assert_eq!(config(good).validate(), Ok(()), "{good}");
    }
    for (bad, words) in [
        ("n_fft = 15", "n_fft is 15, must be 16 to 16777216"),
        ("win_length = 1025", "win_length is 1025, must be 1 to 1024"),
        ("hop_length = 0", "hop_length is 0, must be 1 to 16777216"),
        ("n_mels = 127", "n_mels is 127, must be even with sides = \"two_sided\""),
        ("num_channels = 0", "num_channels is 0, must be 1 to 1048576"),
        ("frames = 0", "frames is 0, must be 1 to 16777216"),
        ("min_samples = 1023", "min_samples is 1023, must be 1024 to 16777216"),
        ("kind = 'iq'\nmin_samples = 0", "min_samples is 0, must be 1 to 16777216"),
        ("power = 0", "power is 0, must be above 0 and at most 16"),
        ("floor = 0", "floor is 0, must be a positive normal float32"),
        ("floor = nan", "floor is NaN, must be a positive normal float32"),
        ("sample_rate_hz = -1", "sample_rate_hz is -1, must be a positive number of hertz"),
        ("f_min_hz = -1", "f_min_hz is -1, must be 0 or more"),
        ("f_min_hz = 9\nf_max_hz = 9", "f_max_hz is 9, must be above f_min_hz (9)"),
        ("f_max_hz = 9\nsample_rate_hz = 17", "f_max_hz is 9, must be at most half of sample_rate_hz (8.5)"),
        ("f_min_hz = 9\nsample_rate_hz = 17", "f_min_hz is 9, must be below half of sample_rate_hz (8.5)"),
        (
            "mel_scale = 'linear'\nmel_norm = 'slaney'",
            "mel_norm = \"slaney\" cannot stand with mel_scale = \"linear\"",
        ),
        ("normalize = 'fixed'\nmean = 1", "normalize = \"fixed\" needs both mean and std"),
        ("normalize = 'fixed'\nmean = 1\nstd = 0", "std is 0, must be a positive number"),
        ("mean = 1", "mean and std need normalize = \"fixed\""),
    ] {
        assert_eq!(
            config(bad).validate().map_err(|e: ConfigError| e.to_string()),
            Err(words.to_owned()),
            "{bad}"
        );
    }
}
