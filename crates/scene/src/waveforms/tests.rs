use rustfft::FftPlanner;

use rustfft::num_complex::Complex32;

use super::*;
use crate::rng::stream;

const LEN: usize = 4096;

/// Share of the power within ± `half` cycles per sample of 0 Hz.
fn share_within(samples: &[Complex32], half: f32) -> f32 {
    let mut spectrum = samples.to_vec();
    FftPlanner::new().plan_fft_forward(spectrum.len()).process(&mut spectrum);
    let len = spectrum.len();
    let edge = (half * len as f32).ceil() as usize;
    let power = |bins: &[Complex32]| bins.iter().map(|x| f64::from(x.norm_sqr())).sum::<f64>();
    let inside = power(&spectrum[..(edge + 1).min(len)]) + power(&spectrum[len - edge.min(len - 1)..]);
    (inside / power(&spectrum)).min(1.0) as f32
}

#[test]
fn waveforms_have_unit_power_while_on() {
    for family in Family::ALL {
        for index in 0..40 {
            let samples = generate(family, LEN, &mut stream(1, index)).samples;
            assert_eq!(samples.len(), LEN);
            // What is never off counts as a whole: an idle OFDM cell between its reference symbols, and a
            // sideband where its sound is quiet.
            let whole = crate::dsp::mean_power(&samples);
            let floor = if (0.99..1.01).contains(&whole) { 0.0 } else { 0.01 };
            let peak = samples.iter().map(Complex32::norm_sqr).fold(0.0, f32::max);
            let on: Vec<_> = samples.into_iter().filter(|x| x.norm_sqr() >= floor * peak).collect();
            let power = crate::dsp::mean_power(&on);
            // The troughs of noise do not count as on, so what counts is a little stronger.
            assert!((0.99..1.2).contains(&power), "{family:?} {index}: {power}");
        }
    }
}

#[test]
fn most_of_the_power_is_within_the_stated_bandwidth() {
    for family in
        [Family::Tone, Family::Am, Family::Fm, Family::Fsk, Family::Psk, Family::Ofdm, Family::Unknown]
    {
        for index in 0..40 {
            let Waveform { samples, bandwidth } = generate(family, LEN, &mut stream(2, index));
            // Two bins of room: a stretch cut from a signal smears.
            let share = share_within(&samples, bandwidth / 2.0 + 2.0 / LEN as f32);
            assert!(share > 0.85, "{family:?} {index}: {share} within {bandwidth}");
        }
    }
}

#[test]
fn fm_and_fsk_have_a_constant_envelope() {
    for family in [Family::Fm, Family::Fsk, Family::Tone] {
        for index in 0..20 {
            let samples = generate(family, LEN, &mut stream(3, index)).samples;
            assert!(samples.iter().all(|x| (x.norm() - 1.0).abs() < 1e-3), "{family:?} {index}");
        }
    }
}

#[test]
fn ofdm_repeats_itself_in_its_prefix() {
    // Somewhere among the lags of a symbol the correlation stands out over white noise's: 1/√LEN = 0.016.
    let repeats = |index: &u64| {
        let samples = generate(Family::Ofdm, LEN, &mut stream(4, *index)).samples;
        let strongest = (48..LEN / 2)
            .map(|lag| {
                let sum: Complex32 = samples.iter().zip(&samples[lag..]).map(|(a, b)| a.conj() * b).sum();
                sum.norm() / (LEN - lag) as f32
            })
            .fold(0.0, f32::max);
        strongest > 0.06
    };
    // Few have no prefix, and some of those are narrow enough to be correlated without.
    let count = (0..40).filter(repeats).count();
    assert!(count >= 32, "{count} of 40 have a prefix");
}

#[test]
fn ook_has_samples_on_and_off() {
    for index in 0..40 {
        let samples = generate(Family::Ook, LEN, &mut stream(5, index)).samples;
        let off = samples.iter().filter(|x| x.norm() < 0.3).count() as f32 / LEN as f32;
        assert!((0.02..0.999).contains(&off), "{index}: {off} of the samples are off");
    }
}

#[test]
fn labels_are_the_names_in_lower_case() {
    for family in Family::ALL {
        assert_eq!(family.label(), format!("{family:?}").to_lowercase());
    }
}

#[test]
fn every_family_can_be_as_short_as_the_shortest_frame() {
    for family in Family::ALL {
        for len in [64, 65, 100, 333] {
            for index in 0..100 {
                let waveform = generate(family, len, &mut stream(6, index));
                assert_eq!(waveform.samples.len(), len, "{family:?} {index}");
                assert!(waveform.samples.iter().all(|x| x.is_finite()), "{family:?} {index}");
            }
        }
    }
}

#[test]
fn single_sidebands_are_on_one_side() {
    // Analytic sound has no negative frequencies: shifted back, one half of the spectrum is empty.
    for index in 0..20 {
        let mut samples = super::sound::sound(LEN, 0.2, &mut stream(7, index));
        crate::dsp::shift(&mut samples, -0.1, 0.0);
        assert!(share_within(&samples, 0.105) > 0.98, "{index}");
    }
}

#[test]
fn amplitude_keying_is_bipolar_and_real() {
    // Linear modulation has no line at the carrier: the mean of what is sent vanishes.
    for index in 0..60 {
        let samples = generate(Family::Psk, LEN, &mut stream(8, index)).samples;
        let mean: Complex32 = samples.iter().sum::<Complex32>() / LEN as f32;
        // At 64 samples a symbol the mean of 64 symbols scatters by 1/8.
        assert!(mean.norm() < 0.45, "{index}: {mean}");
    }
}

#[test]
fn chirps_sweep_farther_than_frequency_modulation() {
    for index in 0..40 {
        let Waveform { samples, bandwidth } = super::chirp::sweeps(LEN, &mut stream(9, index));
        let on: Vec<Complex32> = samples.into_iter().filter(|x| x.norm() > 0.5).collect();
        let steps: Vec<f32> = on.windows(2).map(|pair| (pair[1] * pair[0].conj()).arg()).collect();
        let highest = steps.iter().copied().fold(f32::MIN, f32::max);
        let lowest = steps.iter().copied().fold(f32::MAX, f32::min);
        let width = (highest - lowest) / std::f32::consts::TAU;
        assert!(width > 0.8 * bandwidth.min(1.0) && width * LEN as f32 > 24.0, "{index}: {width}");
    }
}

#[test]
fn short_codes_repeat_themselves() {
    // The code itself is correlated with its next period, with either sign of the data between them.
    let mut found = 0;
    for index in 0..20 {
        let samples = super::spread::direct(LEN, &mut stream(10, index)).samples;
        let strongest = (16..LEN / 6 + 1)
            .map(|lag| {
                let products = samples.iter().zip(&samples[lag..]).map(|(a, b)| a.conj() * b);
                // Summed in pieces shorter than a code, so that the data's signs do not cancel.
                let pieces: Vec<Complex32> = products.collect();
                pieces.chunks(16).map(|piece| piece.iter().sum::<Complex32>().norm()).sum::<f32>()
                    / (LEN - lag) as f32
            })
            .fold(0.0, f32::max);
        found += usize::from(strongest > 0.7);
    }
    assert!(found >= 16, "{found} of 20 codes were found");
}

#[test]
fn impulses_and_jammers_are_as_stated() {
    let mut shares = Vec::new();
    for index in 0..200 {
        let Waveform { samples, bandwidth } = generate(Family::Unknown, LEN, &mut stream(11, index));
        let duty = crate::dsp::mean_power(&samples);
        assert!(duty > 0.01, "{index}: on for {duty} of the time");
        shares.push(bandwidth);
    }
    assert!(shares.iter().any(|share| *share < 0.1) && shares.iter().any(|share| *share > 0.9));
}

#[test]
fn modulated_carriers_are_modulated_in_short_frames_too() {
    for len in [64, 128, 512] {
        for index in 0..100 {
            let samples = generate(Family::Am, len, &mut stream(12, index)).samples;
            let mean = samples.iter().map(|x| x.norm()).sum::<f32>() / len as f32;
            let spread = samples.iter().map(|x| (x.norm() / mean - 1.0).abs()).fold(0.0, f32::max);
            assert!(spread > 0.04, "{len} {index}: {spread}");
        }
    }
}
