//! What the file format and the recording program do to samples.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

/// How a recording stores its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantiser {
    /// Floating point, at any level.
    Float,
    /// Signed 8 bit.
    Ci8,
    /// Unsigned 8 bit with its zero between two steps, as from an RTL-SDR.
    Cu8,
    /// Signed 16 bit.
    Ci16,
}

impl Quantiser {
    /// Scales to a random level and rounds as the datatype would, clipping what does not fit: from a noise
    /// floor of about one step to samples that are clipped now and then. The result is scaled to ±1 full
    /// scale as the daemon decodes it; `Float` takes any level from 1e-5 to 1e4.
    pub fn apply(self, samples: &mut [Complex32], rng: &mut SimRng) {
        match self.grid() {
            None => set_any_level(samples, rng),
            Some((steps, _)) => {
                let weakest = if self == Self::Ci16 { 3.0 } else { 0.8 };
                let level = log_uniform(rng, weakest, 0.5 * steps);
                self.round(samples, level);
            }
        }
    }

    /// Rounds to a few steps: a root mean square of `weakest` to 4 of them, from a weak antenna on an 8-bit
    /// receiver. `Float` and `Ci16` do the same, as a recording that was converted later.
    pub fn apply_coarse(self, samples: &mut [Complex32], weakest: f32, rng: &mut SimRng) {
        let level = log_uniform(rng, weakest, weakest.max(4.0));
        match self {
            Self::Ci8 | Self::Cu8 => self.round(samples, level),
            Self::Float => {
                Self::Ci8.round(samples, level);
                set_any_level(samples, rng);
            }
            Self::Ci16 => {
                Self::Ci8.round(samples, level);
                // Converters shift to the left: a step of 8 bits becomes 1 to 256 steps of 16.
                let gain = 2f32.powi(-rng.random_range(0..=8));
                samples.iter_mut().for_each(|x| *x *= gain);
            }
        }
    }

    /// Steps from zero to full scale, and how far the middle step is from zero; `None` without steps.
    fn grid(self) -> Option<(f32, f32)> {
        match self {
            Self::Float => None,
            Self::Ci8 => Some((128.0, 0.0)),
            Self::Cu8 => Some((127.5, 0.5)),
            Self::Ci16 => Some((32768.0, 0.0)),
        }
    }

    /// Scales to a root mean square of `level` steps and rounds; does nothing to `Float`.
    fn round(self, samples: &mut [Complex32], level: f32) {
        let Some((steps, shift)) = self.grid() else {
            return;
        };
        dsp::set_mean_power(samples, (level / steps).powi(2));
        let round = |v: f32| {
            let step = (v * steps - shift).round() + shift;
            step.clamp(-steps.floor() - shift, steps.ceil() - 1.0 + shift) / steps
        };
        samples.iter_mut().for_each(|x| *x = Complex32::new(round(x.re), round(x.im)));
    }

    /// Draws one of the four, all equally likely.
    pub fn draw(rng: &mut SimRng) -> Self {
        pick(rng, &[Self::Float, Self::Ci8, Self::Cu8, Self::Ci16])
    }
}

/// Scales to any level that a floating-point recording may have.
fn set_any_level(samples: &mut [Complex32], rng: &mut SimRng) {
    let level = log_uniform(rng, 1e-5, 1e4);
    dsp::set_mean_power(samples, level * level);
}

/// Clips I and Q separately, as an overdriven converter does: `share` of their values that are above a tenth
/// of the largest end at the limit. The smaller ones do not count, or pulses would be clipped down to the
/// noise between them.
pub fn clip(samples: &mut [Complex32], share: f32) {
    let values = samples.iter().flat_map(|x| [x.re.abs(), x.im.abs()]);
    let largest = values.clone().fold(0.0, f32::max);
    let mut sizes: Vec<f32> = values.filter(|v| *v > 0.1 * largest).collect();
    if sizes.is_empty() {
        return;
    }
    let place = ((sizes.len() as f32 * (1.0 - share)) as usize).min(sizes.len() - 1);
    let limit = *sizes.select_nth_unstable_by(place, f32::total_cmp).1;
    let clamp = |v: f32| v.clamp(-limit, limit);
    samples.iter_mut().for_each(|x| *x = Complex32::new(clamp(x.re), clamp(x.im)));
}

/// Sets a run of samples to exact zeros, as squelches and gaps in recordings do: at either end or in between,
/// at most `share` of the stretch.
pub fn zero_run(samples: &mut [Complex32], share: f32, rng: &mut SimRng) {
    let run = (rng.random_range(0.02..share) * samples.len() as f32) as usize;
    let start = match rng.random_range(0..3) {
        0 => 0,
        1 => samples.len() - run,
        _ => rng.random_range(0..=samples.len() - run),
    };
    samples[start..start + run].fill(Complex32::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn quantised_samples_lie_on_the_grid_inside_full_scale() {
        for (quantiser, steps, shift) in
            [(Quantiser::Ci8, 128.0, 0.0), (Quantiser::Cu8, 127.5, 0.5), (Quantiser::Ci16, 32768.0, 0.0)]
        {
            for index in 0..20 {
                let mut rng = stream(5, index);
                let mut samples = dsp::white_noise(&mut rng, 2000, 1.0);
                quantiser.apply(&mut samples, &mut rng);
                for v in samples.iter().flat_map(|x| [x.re, x.im]) {
                    let step = v * steps - shift;
                    assert!((step - step.round()).abs() < 2e-3, "{quantiser:?}: {v} is off the grid");
                    assert!((-1.0..=1.0).contains(&v), "{quantiser:?}: {v} is past full scale");
                }
            }
        }
    }

    #[test]
    fn coarse_samples_take_few_values() {
        for quantiser in [Quantiser::Float, Quantiser::Ci8, Quantiser::Cu8, Quantiser::Ci16] {
            for index in 0..20 {
                let mut rng = stream(15, index);
                let mut samples = dsp::white_noise(&mut rng, 2000, 1.0);
                quantiser.apply_coarse(&mut samples, 0.8, &mut rng);
                let mut values: Vec<f32> = samples.iter().map(|x| x.re).collect();
                values.sort_by(f32::total_cmp);
                values.dedup_by(|a, b| (*a - *b).abs() <= 1e-4 * b.abs());
                // Four steps of root mean square are 2.8 a component, and 2000 draws stay within 5 of that.
                assert!((2..=30).contains(&values.len()), "{quantiser:?} {index}: {}", values.len());
            }
        }
    }

    #[test]
    fn clipping_clips_the_share() {
        let mut samples = dsp::white_noise(&mut stream(16, 0), 4000, 1.0);
        clip(&mut samples, 0.1);
        let limit = samples.iter().map(|x| x.re.abs()).fold(0.0, f32::max);
        let clipped = samples.iter().flat_map(|x| [x.re, x.im]).filter(|v| v.abs() >= limit).count();
        // Three quarters of Gaussian values are above a tenth of the largest of 8000.
        assert!((500..=700).contains(&clipped), "{clipped} of 8000");
    }

    #[test]
    fn rare_pulses_stay_above_the_noise_when_clipped() {
        let mut samples = dsp::white_noise(&mut stream(16, 1), 4000, 1e-4);
        samples[100..150].fill(Complex32::new(1.0, 0.5));
        clip(&mut samples, 0.1);
        assert!(samples[120].re > 0.4);
    }
}
