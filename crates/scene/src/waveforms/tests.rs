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
            // An idle OFDM cell is on between its reference symbols too, only weaker: it counts as a whole.
            let floor = if family == Family::Ofdm { 0.0 } else { 0.01 };
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
    for family in [Family::Tone, Family::Am, Family::Fm, Family::Fsk, Family::Psk, Family::Ofdm] {
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
    // Somewhere among the lags of a symbol the correlation stands out over white noise's 1/√LEN = 0.016.
    for index in 0..20 {
        let samples = generate(Family::Ofdm, LEN, &mut stream(4, index)).samples;
        let strongest = (48..LEN / 2)
            .map(|lag| {
                let sum: Complex32 = samples.iter().zip(&samples[lag..]).map(|(a, b)| a.conj() * b).sum();
                sum.norm() / (LEN - lag) as f32
            })
            .fold(0.0, f32::max);
        assert!(strongest > 0.04, "{index}: {strongest}");
    }
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
