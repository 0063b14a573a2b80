//! A stretch of one emission.

use rustfft::num_complex::Complex32;

use crate::dsp;

/// A stretch of one emission at complex baseband.
#[derive(Clone, Debug)]
pub struct Waveform {
    /// The samples: unit mean power while the emission is on.
    pub samples: Vec<Complex32>,
    /// Approximate occupied bandwidth, cycles per sample; may reach or pass 1 where the emission is wider
    /// than the sampled band.
    pub bandwidth: f32,
}

/// Scales to unit mean power over the samples where the emission is on: those above a tenth of the peak's
/// amplitude.
pub fn unit_power_while_on(samples: &mut [Complex32]) {
    let peak = samples.iter().map(Complex32::norm_sqr).fold(0.0, f32::max);
    let on: Vec<Complex32> = samples.iter().copied().filter(|x| x.norm_sqr() > 0.01 * peak).collect();
    let power = dsp::mean_power(&on);
    if power > 0.0 {
        let gain = power.sqrt().recip();
        samples.iter_mut().for_each(|x| *x *= gain);
    }
}
