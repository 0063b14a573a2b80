//! Times the log-mel features, their FFTs alone and the signature on one thread; one JSON object a line.
//!
//! `timing [SAMPLES…]`, by default 16384 65536 262144. `us` is the median of a call in microseconds,
//! `min_us` the shortest. They are measured in turn, so that a busy machine slows all.

use std::hint::black_box;
use std::time::Instant;

use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;
use sferic_features::{Extractor, FeatureConfig, FrameError, Input, Kind};
use sferic_samples::{Datatype, Samples};

const ROUNDS: usize = 301;

/// Name, times in microseconds, and what is timed.
type Task<'a> = (&'static str, Vec<f64>, &'a mut dyn FnMut());

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes = std::env::args().skip(1).map(|n| n.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![16_384, 65_536, 262_144];
    }
    for instants in sizes {
        let config = FeatureConfig::default();
        let envelope = FeatureConfig { input: Input::Envelope, ..FeatureConfig::default() };
        let signature = FeatureConfig { kind: Kind::Signature, ..FeatureConfig::default() };
        let bytes = noise(instants);
        let quantized: Vec<u8> =
            bytes.as_chunks::<4>().0.iter().map(|&b| (f32::from_le_bytes(b) * 127.0) as i8 as u8).collect();

        let narrow = band_limited(instants);
        let unsigned: Vec<u8> = quantized.iter().map(|x| x ^ 0x80).collect();

        let (mut fft, transforms) = fft_alone(&config, instants);
        let mut complex = whole(&config, instants)?;
        let mut complex_ci8 = whole(&config, instants)?;
        let mut real = whole(&envelope, instants)?;
        let mut whole_band = whole(&signature, instants)?;
        let mut part_of_it = whole(&signature, instants)?;
        let mut tasks: [Task<'_>; 6] = [
            ("fft_alone", Vec::new(), &mut fft),
            ("log_mel", Vec::new(), &mut || complex(black_box(&bytes), Datatype::Cf32Le)),
            ("log_mel_ci8", Vec::new(), &mut || complex_ci8(black_box(&quantized), Datatype::Ci8)),
            ("log_mel_envelope", Vec::new(), &mut || real(black_box(&bytes), Datatype::Cf32Le)),
            ("signature_cu8", Vec::new(), &mut || whole_band(black_box(&unsigned), Datatype::Cu8)),
            ("signature_cu8_narrow", Vec::new(), &mut || part_of_it(black_box(&narrow), Datatype::Cu8)),
        ];
        for _ in 0..ROUNDS {
            for (_, times, task) in &mut tasks {
                // Once to bring code and data into the cache, once to be timed.
                task();
                let start = Instant::now();
                task();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let mut fft_us = 0.0;
        for (name, times, _) in &mut tasks {
            times.sort_by(f64::total_cmp);
            let us = times[times.len() / 2];
            if *name == "fft_alone" {
                fft_us = us;
            }
            let ratio = us / fft_us;
            let cost = format!(r#""us":{us:.2},"min_us":{:.2},"of_fft":{ratio:.3}"#, times[0]);
            println!(r#"{{"variant":"{name}","samples":{instants},"transforms":{transforms},{cost}}}"#);
        }
    }
    Ok(())
}

/// As many transforms as the features take, by rustfft on one buffer in cache.
fn fft_alone(config: &FeatureConfig, instants: usize) -> (impl FnMut(), usize) {
    let transforms = 1 + (instants - config.n_fft) / config.hop_length();
    let fft = FftPlanner::<f32>::new().plan_fft_forward(config.n_fft);
    let mut scratch = vec![Complex32::default(); fft.get_inplace_scratch_len()];
    let input: Vec<Complex32> =
        (0..config.n_fft).map(|k| Complex32::new((k as f32).sin(), (k as f32).cos())).collect();
    let mut buffer = input.clone();
    let run = move || {
        buffer.copy_from_slice(&input); // or the values grow past float32 over the rounds
        for _ in 0..transforms.min(8) {
            fft.process_with_scratch(black_box(&mut buffer), &mut scratch);
        }
        for done in (8..transforms).step_by(8) {
            buffer.copy_from_slice(&input);
            for _ in 0..8.min(transforms - done) {
                fft.process_with_scratch(black_box(&mut buffer), &mut scratch);
            }
        }
    };
    (run, transforms)
}

fn whole(
    config: &FeatureConfig,
    instants: usize,
) -> Result<impl FnMut(&[u8], Datatype), Box<dyn std::error::Error>> {
    let mut extractor = Extractor::new(config, Some(192_000.0))?;
    let mut out = vec![0.0; extractor.shape(instants)?.iter().product()];
    Ok(move |bytes: &[u8], datatype: Datatype| {
        let samples = Samples::new(bytes, datatype, 1).map_err(FrameError::from);
        let done = samples.and_then(|samples| extractor.extract(&samples, &mut out));
        assert_eq!(done, Ok(()));
        black_box(&out);
    })
}

/// Noise within a twentieth of the band, and a little beside it, in `cu8`.
fn band_limited(instants: usize) -> Vec<u8> {
    let mut before = [0.0; 2];
    let components = noise(instants);
    let smoothed = components.as_chunks::<4>().0.iter().enumerate().map(|(n, bytes)| {
        let x = f32::from_le_bytes(*bytes);
        before[n % 2] = 0.9 * before[n % 2] + 0.1 * x;
        (127.5 + 300.0 * before[n % 2] + 2.0 * x) as u8
    });
    smoothed.collect()
}

/// White noise of `instants` samples in `cf32_le`, within ±0.5.
fn noise(instants: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..2 * instants).flat_map(|_| next().to_le_bytes()).collect()
}
