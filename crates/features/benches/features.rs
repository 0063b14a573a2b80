//! The stages and the whole, beside the FFTs alone (the yardstick: as many transforms by rustfft on one
//! buffer in cache).
//!
//! Stages are shown by leaving out what follows them: `spectrum` is conversion, window, FFT, power and
//! logarithm without a bank; `bands` adds nothing but replaces the bins by 128 bands; the whole normalises as
//! well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a test or bench may panic

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;
use sferic_features::{Extractor, FeatureConfig, Input, Kind, Normalize};
use sferic_samples::{Datatype, Samples};

fn features(c: &mut Criterion) {
    for instants in [16_384, 65_536, 262_144] {
        let whole = FeatureConfig::default();
        let bands = FeatureConfig { normalize: Some(Normalize::None), ..whole.clone() };
        let spectrum = FeatureConfig { kind: Kind::LogSpectrum, ..bands.clone() };
        let conversion = FeatureConfig { kind: Kind::Iq, ..bands.clone() };
        let envelope = FeatureConfig { input: Input::Envelope, ..whole.clone() };
        let cases = [
            ("conversion", &conversion, Datatype::Cf32Le),
            ("spectrum", &spectrum, Datatype::Cf32Le),
            ("bands", &bands, Datatype::Cf32Le),
            ("log_mel", &whole, Datatype::Cf32Le),
            ("log_mel_ci16", &whole, Datatype::Ci16Le),
            ("log_mel_cu8", &whole, Datatype::Cu8),
            ("log_mel_envelope", &envelope, Datatype::Cf32Le),
        ];

        let mut group = c.benchmark_group("features");
        group.throughput(Throughput::Elements(instants as u64));
        group.bench_function(BenchmarkId::new("fft_alone", instants), |b| {
            let transforms = 1 + (instants - whole.n_fft) / whole.hop_length();
            let fft = FftPlanner::<f32>::new().plan_fft_forward(whole.n_fft);
            let mut scratch = vec![Complex32::default(); fft.get_inplace_scratch_len()];
            // Zeros stay zeros, as fast as any value.
            let mut buffer = vec![Complex32::default(); whole.n_fft];
            b.iter(|| {
                (0..transforms).for_each(|_| fft.process_with_scratch(black_box(&mut buffer), &mut scratch))
            });
        });
        for (name, config, datatype) in cases {
            group.bench_function(BenchmarkId::new(name, instants), |b| {
                // 0x3c: small positive floats, and any integer; the time does not depend on the values.
                let bytes = vec![0x3c; instants * datatype.bytes_per_sample()];
                let samples = Samples::new(&bytes, datatype, 1).expect("whole samples");
                let mut extractor = Extractor::new(config, Some(192_000.0)).expect("a valid table");
                let mut out = vec![0.0; extractor.shape(instants).expect("enough samples").iter().product()];
                b.iter(|| extractor.extract(black_box(&samples), black_box(&mut out)));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(std::time::Duration::from_secs(2));
    targets = features
}
criterion_main!(benches);
