//! The stretch of a frame that is looked at, at unit mean power.

use rustfft::num_complex::Complex32;
use sferic_samples::{Component, Samples};

use super::layout::MAX_STRETCH;

/// Half of the longest stretch, samples: from one stretch to the next.
const HALF: usize = MAX_STRETCH / 2;

/// Samples converted together.
const GROUP: usize = 512;
const ONES: [f32; GROUP] = [1.0; GROUP];

const LANES: usize = 8;

/// A later stretch is taken only where it is louder by this factor: among equal ones rounding must not
/// choose.
pub(super) const LOUDER: f64 = 1.05;

/// The loudest stretch of a channel: at most 8192 samples, of unit mean power.
pub(super) struct Stretch {
    /// Real parts, one a sample.
    pub re: Vec<f32>,
    /// Imaginary parts.
    pub im: Vec<f32>,
    /// The largest power of a sample.
    pub peak: f32,
    /// Share of the power that the mean of the samples has.
    pub constant: f32,
    /// As they came.
    raw: Vec<Complex32>,
}

impl Stretch {
    pub(super) fn new() -> Self {
        Self {
            re: Vec::with_capacity(MAX_STRETCH),
            im: Vec::with_capacity(MAX_STRETCH),
            peak: 0.0,
            constant: 0.0,
            raw: vec![Complex32::default(); MAX_STRETCH],
        }
    }

    /// Takes the loudest stretch of a channel of finite samples; false where there is silence alone.
    pub(super) fn load<D: Component>(&mut self, samples: &Samples<'_>, channel: usize) -> bool {
        let length = samples.len().min(MAX_STRETCH);
        let start = self.loudest::<D>(samples, channel);
        let power = read::<D>(samples, channel, start, &mut self.raw[..length]) / length as f64;
        if power == 0.0 {
            return false;
        }
        self.scale(length, power.sqrt().recip());
        true
    }

    /// Start of the loudest stretch of full length, in steps of half of it; the last one ends with the frame.
    fn loudest<D: Component>(&mut self, samples: &Samples<'_>, channel: usize) -> usize {
        let Some(last) = samples.len().checked_sub(MAX_STRETCH).filter(|&last| last > 0) else {
            return 0;
        };
        let half = &mut self.raw[..HALF];
        let mut energy_at = |start| read::<D>(samples, channel, start, half);
        let mut before = energy_at(0);
        let (mut best, mut most) = (0, 0.0);
        for start in (0..=last).step_by(HALF) {
            let after = energy_at(start + HALF);
            if before + after > LOUDER * most {
                (best, most) = (start, before + after);
            }
            before = after;
        }
        if !last.is_multiple_of(HALF) && energy_at(last) + energy_at(last + HALF) > LOUDER * most {
            best = last;
        }
        best
    }

    /// Separates the parts of the first samples, times `scale`.
    fn scale(&mut self, length: usize, scale: f64) {
        // In two steps: the scale of the smallest and largest floats is none itself.
        let first = scale.sqrt() as f32;
        let second = (scale / f64::from(first)) as f32;
        self.re.resize(length, 0.0);
        self.im.resize(length, 0.0);
        let mut sums = [[0.0; LANES]; 2];
        let mut peaks = [0.0; LANES];
        let parts = self.re.chunks_mut(GROUP).zip(self.im.chunks_mut(GROUP));
        for (raw, (re, im)) in self.raw.chunks(GROUP).zip(parts) {
            for ((x, re), im) in raw.iter().zip(re.iter_mut()).zip(im.iter_mut()) {
                (*re, *im) = (x.re * first * second, x.im * first * second);
            }
            let (re, re_rest) = re.as_chunks::<LANES>();
            let (im, im_rest) = im.as_chunks::<LANES>();
            re.iter().zip(im).for_each(|(re, im)| tally(re, im, &mut sums, &mut peaks));
            tally(re_rest, im_rest, &mut sums, &mut peaks);
        }
        let [mean_re, mean_im] = sums.map(|lanes| lanes.iter().sum::<f32>() / length as f32);
        self.peak = peaks.into_iter().fold(0.0, f32::max);
        self.constant = mean_re * mean_re + mean_im * mean_im;
    }
}

/// Adds samples to the sums of their parts, and to the largest power, place by place.
#[inline(always)]
fn tally(re: &[f32], im: &[f32], sums: &mut [[f32; LANES]; 2], peaks: &mut [f32; LANES]) {
    let [sums_re, sums_im] = sums;
    let totals = sums_re.iter_mut().zip(sums_im).zip(peaks);
    for (((sum_re, sum_im), peak), (re, im)) in totals.zip(re.iter().zip(im)) {
        *sum_re += re;
        *sum_im += im;
        let power = re * re + im * im;
        *peak = if power > *peak { power } else { *peak };
    }
}

/// Converts a run of samples from `start` on; returns the sum of |x|².
fn read<D: Component>(samples: &Samples<'_>, channel: usize, start: usize, out: &mut [Complex32]) -> f64 {
    let mut sum = 0.0;
    for (group, out) in out.chunks_mut(GROUP).enumerate() {
        samples.read_run::<D, _>(start + group * GROUP, channel, out, &ONES, |sample, _| sample);
        sum += energy(out);
    }
    sum
}

/// Sum of |x|², in float64: the squares of the largest floats are none.
fn energy(samples: &[Complex32]) -> f64 {
    const LANES: usize = 4; // of float64
    let square = |x: &Complex32| f64::from(x.re) * f64::from(x.re) + f64::from(x.im) * f64::from(x.im);
    let (groups, rest) = samples.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *sum += square(x);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(square).sum::<f64>()
}
