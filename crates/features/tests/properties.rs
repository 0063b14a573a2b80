//! What holds for every frame: where a tone lands, shifts, scale, datatypes, channels, and that nothing is
//! ever NaN.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

mod support;

use proptest::prelude::*;
use sferic_features::{FeatureConfig, FrameError, Input, Kind, Log, MelScale, Normalize, Sides, Window};
use sferic_samples::{Datatype, SamplesError};
use support::{RATE, assert_close, cf32, extract, noise, tone};

fn base() -> FeatureConfig {
    FeatureConfig {
        n_fft: 256,
        n_mels: 32,
        mel_scale: MelScale::Linear,
        normalize: Some(Normalize::None),
        ..FeatureConfig::default()
    }
}

/// Rows in order of their strength in column 0 of channel 0, strongest first.
fn strongest(out: &[f32], [_, rows, columns]: [usize; 3]) -> usize {
    (0..rows).max_by(|&a, &b| out[a * columns].total_cmp(&out[b * columns])).unwrap()
}

fn any_config() -> impl Strategy<Value = FeatureConfig> {
    let kind = prop::sample::select(vec![Kind::LogMel, Kind::LogMel, Kind::LogSpectrum, Kind::Iq]);
    let input = prop::sample::select(vec![Input::Complex, Input::Envelope]);
    let window =
        prop::sample::select(vec![Window::Hann, Window::Hamming, Window::HannSymmetric, Window::Rectangular]);
    let sides = prop::sample::select(vec![Sides::TwoSided, Sides::Positive, Sides::Folded]);
    let scale = prop::sample::select(vec![MelScale::Htk, MelScale::Slaney, MelScale::Linear]);
    let log = prop::sample::select(vec![Log::Ln, Log::Log10, Log::Db]);
    let normalize = prop::sample::select(vec![
        None,
        Some(Normalize::Frame),
        Some(Normalize::Channel),
        Some(Normalize::None),
    ]);
    let shape = (16..90usize, 1..4usize, 1..12usize, prop::option::of(1..40usize), any::<bool>());
    (kind, input, window, sides, scale, log, normalize, shape).prop_map(
        |(
            kind,
            input,
            window,
            sides,
            mel_scale,
            log,
            normalize,
            (n_fft, num_channels, bands, frames, center),
        )| {
            let n_mels = 2 * bands;
            FeatureConfig {
                kind,
                input,
                window,
                sides,
                mel_scale,
                log,
                normalize,
                n_fft,
                num_channels,
                n_mels,
                frames,
                center,
                ..FeatureConfig::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn a_tone_lands_in_its_band_on_its_side(hz in -95_000.0..95_000.0f64, htk: bool) {
        let mel_scale = if htk { MelScale::Htk } else { MelScale::Linear };
        let config = FeatureConfig { n_fft: 1024, mel_scale, ..base() };
        let (out, shape) = extract(&config, &cf32(&tone(hz, 1024)), Datatype::Cf32Le).unwrap();
        // The band whose peak is nearest on the scale, of the 16 in this half. A tone between two bins may go
        // either way.
        let scale = |hz: f64| if htk { (1.0 + hz / 700.0).ln() } else { hz };
        let position = |hz: f64| scale(hz.clamp(0.0, RATE / 2.0)) / scale(RATE / 2.0) * 17.0;
        let row = strongest(&out, shape);
        let band = if row < 16 { 16 - row } else { row - 15 } as f64;
        prop_assert_eq!(row >= 16, hz > 0.0, "{} Hz in row {}", hz, row);
        let reach = 2.0 * RATE / 1024.0;
        let (low, high) = (position(hz.abs() - reach) - 1.0, position(hz.abs() + reach) + 1.0);
        prop_assert!(low <= band && band <= high, "{} Hz in row {}", hz, row);
    }

    #[test]
    fn a_tone_lands_in_its_bin(bin in -127..128i32) {
        let config = FeatureConfig { kind: Kind::LogSpectrum, ..base() };
        let hz = f64::from(bin) * RATE / 256.0;
        let (out, shape) = extract(&config, &cf32(&tone(hz, 256)), Datatype::Cf32Le).unwrap();
        prop_assert_eq!(strongest(&out, shape) as i32, bin + 128);
    }

    #[test]
    fn a_shift_by_a_hop_shifts_a_column(seed: u64, hop in 1..300usize, hops in 1..4usize) {
        let config = FeatureConfig { hop_length: Some(hop), ..base() };
        let components = noise(2 * (256 + 9 * hop), seed);
        let (all, [_, rows, columns]) = extract(&config, &cf32(&components), Datatype::Cf32Le).unwrap();
        let shifted = cf32(&components[2 * hop * hops..]);
        let (later, [.., fewer]) = extract(&config, &shifted, Datatype::Cf32Le).unwrap();
        prop_assert_eq!(fewer + hops, columns);
        for row in 0..rows {
            prop_assert_eq!(&all[row * columns + hops..][..fewer], &later[row * fewer..][..fewer]);
        }
    }

    #[test]
    fn scale_does_not_matter_after_frame_normalisation(seed: u64, gain in 0.05..20.0f32, envelope: bool) {
        let input = if envelope { Input::Envelope } else { Input::Complex };
        let config = FeatureConfig { input, normalize: Some(Normalize::Frame), ..base() };
        let components = noise(4096, seed);
        let scaled: Vec<f32> = components.iter().map(|x| x * gain).collect();
        let (plain, _) = extract(&config, &cf32(&components), Datatype::Cf32Le).unwrap();
        let (scaled, _) = extract(&config, &cf32(&scaled), Datatype::Cf32Le).unwrap();
        assert_close(&plain, &scaled, 1e-4);
        let mean = plain.iter().sum::<f32>() / plain.len() as f32;
        let variance = plain.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / plain.len() as f32;
        let is_normal = mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4;
        prop_assert!(is_normal, "mean {}, variance {}", mean, variance);
    }

    #[test]
    fn every_datatype_equals_its_float(
        bytes in prop::collection::vec(any::<u8>(), 2 * 2 * 4 * 300),
        channels in 1..3usize,
    ) {
        let config = FeatureConfig { num_channels: channels, ..base() };
        for datatype in Datatype::ALL {
            let stored: Vec<u8> = match datatype {
                // Any bytes are an integer; floats are made of them.
                Datatype::Cf32Le | Datatype::Cf32Be => {
                    let floats = bytes.iter().map(|&b| f32::from(b) / 256.0 - 0.4);
                    let is_big_endian = datatype == Datatype::Cf32Be;
                    let bytes = |x: f32| if is_big_endian { x.to_be_bytes() } else { x.to_le_bytes() };
                    floats.flat_map(bytes).collect()
                }
                Datatype::Cf64Le => {
                    bytes.iter().flat_map(|&b| (f64::from(b) / 300.0 - 0.1).to_le_bytes()).collect()
                }
                _ => bytes.clone(),
            };
            let parts = stored.chunks_exact(datatype.bytes_per_component());
            let floats: Vec<f32> = parts.map(|b| as_float(datatype, b)).collect();
            let (direct, _) = extract(&config, &stored, datatype).unwrap();
            let (through, _) = extract(&config, &cf32(&floats), Datatype::Cf32Le).unwrap();
            assert_close(&direct, &through, 2e-4);
        }
    }

    #[test]
    fn channels_stay_apart(seed: u64, channels in 2..5usize) {
        let instants = 700;
        let components = noise(2 * channels * instants, seed);
        let config = FeatureConfig { num_channels: channels, normalize: Some(Normalize::Channel), ..base() };
        let (all, _) = extract(&config, &cf32(&components), Datatype::Cf32Le).unwrap();
        let alone = FeatureConfig { num_channels: 1, ..config };
        for (channel, all) in all.chunks_exact(all.len() / channels).enumerate() {
            let own: Vec<f32> =
                components
                    .chunks_exact(2 * channels)
                    .flat_map(|instant| instant[2 * channel..][..2].to_vec())
                    .collect();
            prop_assert_eq!(all, extract(&alone, &cf32(&own), Datatype::Cf32Le).unwrap().0);
        }
    }

    #[test]
    fn cropping_takes_the_middle_columns(seed: u64, frames in 1..12usize) {
        let components = noise(2 * (256 + 11 * 64), seed);
        let (all, [_, rows, columns]) = extract(&base(), &cf32(&components), Datatype::Cf32Le).unwrap();
        prop_assert_eq!(columns, 12);
        let config = FeatureConfig { frames: Some(frames), ..base() };
        let (cropped, _) = extract(&config, &cf32(&components), Datatype::Cf32Le).unwrap();
        for row in 0..rows {
            let middle = &all[row * columns + (12 - frames) / 2..][..frames];
            prop_assert_eq!(&cropped[row * frames..][..frames], middle);
        }
    }

    /// Any bytes as any datatype give finite features or a typed error, and silence gives zeros once
    /// normalised.
    #[test]
    fn never_nan(
        config in any_config(),
        bytes in prop::collection::vec(any::<u8>(), 2400..4800),
        which in 0..Datatype::ALL.len(),
    ) {
        let datatype = Datatype::ALL[which];
        let instant = datatype.bytes_per_sample() * config.num_channels;
        let whole = bytes.len() / instant * instant;
        match extract(&config, &bytes[..whole], datatype) {
            Ok((out, _)) => prop_assert!(out.iter().all(|x| x.is_finite()), "{:?}", config),
            Err(
                FrameError::Samples(SamplesError::NonFinite { .. })
                | FrameError::Overflow
                | FrameError::NotEnoughSamples { .. },
            ) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
        let zeros = vec![0; 8 * 100 * config.num_channels];
        let (silence, _) = extract(&config, &zeros, Datatype::Cf32Le).unwrap();
        if config.normalize() == Normalize::None {
            prop_assert!(silence.iter().all(|x| x.is_finite() && *x == silence[0]));
        } else {
            prop_assert!(silence.iter().all(|&x| x == 0.0), "{:?}", config);
        }
    }
}

/// CONTRACT: `ci32/2^31`, `ci16/32768`, `ci8/128`, `(cu8-127.5)/127.5`.
fn as_float(datatype: Datatype, b: &[u8]) -> f32 {
    (match datatype {
        Datatype::Cf32Le => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
        Datatype::Cf32Be => f64::from(f32::from_be_bytes(b.try_into().unwrap())),
        Datatype::Cf64Le => f64::from_le_bytes(b.try_into().unwrap()),
        Datatype::Ci32Le => f64::from(i32::from_le_bytes(b.try_into().unwrap())) / 2f64.powi(31),
        Datatype::Ci16Le => f64::from(i16::from_le_bytes(b.try_into().unwrap())) / 32768.0,
        Datatype::Ci16Be => f64::from(i16::from_be_bytes(b.try_into().unwrap())) / 32768.0,
        Datatype::Cu16Le => (f64::from(u16::from_le_bytes(b.try_into().unwrap())) - 32767.5) / 32767.5,
        Datatype::Ci8 => f64::from(b[0] as i8) / 128.0,
        Datatype::Cu8 => (f64::from(b[0]) - 127.5) / 127.5,
    }) as f32
}
