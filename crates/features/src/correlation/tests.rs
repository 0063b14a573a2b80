//! Correlations against their definition, and delays that are known.

use std::f64::consts::TAU;

use sferic_samples::{Datatype, Samples};

use super::*;

const RATE: f64 = 48_000.0;
const SECOND: f64 = 1e9;

fn config(windows: usize, weighting: Weighting) -> CorrelationConfig {
    CorrelationConfig { band_hz: [-9e3, 12e3], max_lag_s: 1e-3, lags: 101, windows, weighting }
}

/// A signal that is known at every instant: tones all over the band, with phases like noise.
fn signal(seconds: f64) -> Complex64 {
    (0..400)
        .map(|n| {
            let n = f64::from(n);
            let hz = -8_900.0 + 52.0 * n + 7.0 * (1.7 * n).sin();
            Complex64::from_polar(0.02, TAU * (hz * seconds + 0.618 * n * n))
        })
        .sum()
}

/// So many samples of the signal, which arrives `delay` seconds late, as `cf32_le`.
fn sampled(begun_ns: i64, rate: f64, delay: f64, length: usize) -> Vec<u8> {
    let at = |n: usize| begun_ns as f64 / SECOND + n as f64 / rate - delay;
    let values = (0..length).map(|n| signal(at(n)));
    values.flat_map(|x| [(x.re as f32).to_le_bytes(), (x.im as f32).to_le_bytes()]).flatten().collect()
}

fn stream(bytes: &[u8], begun_ns: i64, rate_hz: f64) -> Stream<'_> {
    Stream { samples: Samples::new(bytes, Datatype::Cf32Le, 1).unwrap(), rate_hz, begun_ns }
}

#[test]
fn it_is_what_its_definition_says() {
    for (windows, weighting) in [(1, Weighting::None), (3, Weighting::None), (1, Weighting::Phat)] {
        let config = config(windows, weighting);
        // Equal rates and whole samples: nothing is interpolated.
        let shift = 12;
        let begun = [0, (f64::from(shift) / RATE * SECOND).round() as i64];
        let bytes = [sampled(begun[0], RATE, 0.0, 1200), sampled(begun[1], RATE, 1.3e-4, 1200)];
        let streams = [0, 1].map(|n| Some(stream(&bytes[n], begun[n], RATE)));
        let got = Correlator::new(config.clone()).correlate(&streams).unwrap();

        let total = 1200 - shift as usize - 2 * HALF;
        let window = total / windows;
        let value = |n: usize, at: usize| {
            let part = &bytes[n][8 * at..8 * at + 8];
            let float = |at: usize| f64::from(f32::from_le_bytes(part[at..at + 4].try_into().unwrap()));
            Complex64::new(float(0), float(4))
        };
        let size = (window + 2 * 48).next_power_of_two();
        let step_hz = RATE / size as f64;
        let (first, bins) = config.bins(size, RATE);
        assert!(first < 0 && bins > 100);
        let mut expected = vec![0.0; config.lags];
        for w in 0..windows {
            let spectrum = |n: usize, start: usize| {
                let part: Vec<_> = (0..window).map(|k| value(n, start + w * window + k)).collect();
                let mean = part.iter().sum::<Complex64>() / window as f64;
                let bin = |bin: i64| {
                    let turns = |k: usize| -(bin as f64) * k as f64 / size as f64;
                    let terms = part.iter().enumerate();
                    terms.map(|(k, x)| (x - mean) * Complex64::from_polar(1.0, TAU * turns(k))).sum()
                };
                (first..first + bins as i64).map(bin).collect::<Vec<Complex64>>()
            };
            let (one, other) = (spectrum(0, HALF + shift as usize), spectrum(1, HALF));
            let energy = |bins: &[Complex64]| bins.iter().map(Complex64::norm_sqr).sum::<f64>();
            for (m, expected) in expected.iter_mut().enumerate() {
                let lag = (m as f64 - 50.0) * config.lag_step();
                let turn =
                    |k: usize| Complex64::from_polar(1.0, TAU * (first + k as i64) as f64 * step_hz * lag);
                let cross = (0..bins).map(|k| (one[k].conj() * other[k], turn(k)));
                let value = match weighting {
                    Weighting::None => {
                        cross.map(|(x, turn)| x * turn).sum::<Complex64>().norm()
                            / (energy(&one) * energy(&other)).sqrt()
                    }
                    Weighting::Phat => {
                        // With its mean a window has lost bin 0.
                        let there = cross.enumerate().filter(|(k, _)| first + *k as i64 != 0);
                        let sum: Complex64 = there.map(|(_, (x, turn))| x / x.norm() * turn).sum();
                        sum.norm() / (bins - 1) as f64
                    }
                };
                *expected += value / windows as f64;
            }
        }
        for (m, (got, expected)) in got.magnitudes.iter().zip(&expected).enumerate() {
            assert!((f64::from(*got) - expected).abs() < 1e-5, "{weighting:?} lag {m}: {got} and {expected}");
        }
    }
}

#[test]
fn a_delay_is_found_whatever_the_clocks_begin_at_and_however_fast_they_are() {
    let config = config(4, Weighting::None);
    let delays = [0.0, 212.4e-6, -133.7e-6];
    let begun = [1_000_000_000_000_012_345, 1_000_000_000_003_141_592, 1_000_000_000_001_000_007];
    let rates = [RATE, RATE * 1.000_02, RATE * 0.999_97];
    // The signal's own time begins near these instants.
    let bytes: Vec<_> =
        (0..3).map(|n| sampled(begun[n] - 1_000_000_000_000_000_000, rates[n], delays[n], 12_000)).collect();
    let streams: Vec<_> = (0..3).map(|n| Some(stream(&bytes[n], begun[n], rates[n]))).collect();
    let Correlations { magnitudes, scatter } = Correlator::new(config.clone()).correlate(&streams).unwrap();
    for (pair, (i, j)) in [(0, 1), (0, 2), (1, 2)].into_iter().enumerate() {
        let row: Vec<f64> = magnitudes[101 * pair..101 * (pair + 1)].iter().map(|&x| f64::from(x)).collect();
        let lag = peak(&row) * config.lag_step();
        assert!((lag - (delays[j] - delays[i])).abs() < 0.5e-6, "{i} {j}: {lag}");
        let most = row.iter().copied().fold(0.0, f64::max);
        assert!(most > 0.95, "{i} {j}: {most}");
        assert!(scatter[pair] > 0.0 && scatter[pair] < 1e-6, "{i} {j}: {}", scatter[pair]);
    }
}

#[test]
fn what_is_missing_is_zero_and_what_is_too_short_is_said() {
    let config = config(1, Weighting::None);
    let bytes = sampled(0, RATE, 0.0, 1200);
    let present = Some(stream(&bytes, 0, RATE));
    let mut correlator = Correlator::new(config);
    let got = correlator.correlate(&[present, None, present]).unwrap();
    let row = |pair: usize| &got.magnitudes[101 * pair..101 * (pair + 1)];
    assert!(row(0).iter().chain(row(2)).all(|&x| x == 0.0));
    assert!((row(1)[50] - 1.0).abs() < 1e-6, "{}", row(1)[50]);
    assert_eq!(correlator.correlate(&[present, None]).unwrap().magnitudes, vec![0.0; 101]);
    let later = Some(stream(&bytes, 22_000_000, RATE));
    let error = correlator.correlate(&[present, later]).unwrap_err();
    assert!(error.common_s < 0.003 && (error.needed_s - 0.004).abs() < 1e-9, "{error}");
    let never = Some(stream(&bytes, 1_000_000_000, RATE));
    assert_eq!(correlator.correlate(&[present, never]).unwrap_err().common_s, 0.0);
    let silence = vec![0; 8 * 1200];
    let silent = correlator.correlate(&[present, Some(stream(&silence, 0, RATE))]).unwrap();
    assert!(silent.magnitudes.iter().all(|&x| x == 0.0), "silence is like nothing, and no NaN");
}

#[test]
fn wrong_keys_are_refused_with_their_value() {
    let good = config(1, Weighting::None);
    assert_eq!(good.validate(), Ok(()));
    for (config, part) in [
        (CorrelationConfig { band_hz: [5.0, 5.0], ..good.clone() }, "band_hz is [5, 5]"),
        (CorrelationConfig { max_lag_s: 0.0, ..good.clone() }, "max_lag_s is 0"),
        (CorrelationConfig { lags: 100, ..good.clone() }, "lags is 100"),
        (CorrelationConfig { windows: 0, ..good.clone() }, "windows is 0"),
    ] {
        assert!(config.validate().is_err_and(|error| error.contains(part)), "{part}");
    }
}
