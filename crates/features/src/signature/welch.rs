//! Spectra by Welch's method (Welch 1967), in decades.

use std::f64::consts::PI;
use std::sync::Arc;

use rustfft::num_complex::{Complex32, Complex64};
use rustfft::{Fft, FftPlanner};

use super::layout::COLUMNS;
use crate::log::ln;

/// Mean power of a sequence below which its spectrum fades into a straight line: less is what rounding left.
const QUIET: f32 = 1e-2;

/// Sum of the squares of Hann's window over its length.
const HANN_POWER: f32 = 0.375;

/// Keeps decades finite: 60 dB below the mean.
const FLOOR: f32 = 1e-6;

/// One transform after another over a sequence, windowed with Hann's window. A sequence shorter than a
/// transform is windowed at its own length and followed by zeros.
struct Blocks {
    fft: Arc<dyn Fft<f32>>,
    window: Vec<f32>,
    /// The window of a shorter sequence.
    short: Vec<f32>,
    buffer: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Blocks {
    fn new(size: usize, planner: &mut FftPlanner<f32>) -> Self {
        let fft = planner.plan_fft_forward(size);
        let scratch = vec![Complex32::default(); fft.get_inplace_scratch_len()];
        let mut window = vec![0.0; size];
        hann(&mut window);
        Self { fft, window, short: vec![0.0; size], buffer: vec![Complex32::default(); size], scratch }
    }

    /// Calls `take` with the transform of each block of `re` + j `im`, whose parts `center` sees first.
    /// Returns the sum of the mean powers of their bins for a sequence of mean power 1.
    #[inline(always)]
    fn each(
        &mut self,
        (re, im): (&[f32], &[f32]),
        center: impl Fn(f32, f32) -> (f32, f32),
        hop: usize,
        mut take: impl FnMut(&[Complex32]),
    ) -> f32 {
        let size = self.window.len();
        let mut window = &self.window;
        if re.len() < size {
            self.short.truncate(re.len());
            self.short.resize(re.len(), 0.0);
            hann(&mut self.short);
            window = &self.short;
            self.buffer.fill(Complex32::default());
        }
        let unit = HANN_POWER * window.len() as f32;
        let mut units = 0.0;
        for start in (0..=re.len().saturating_sub(size)).step_by(hop) {
            let run = re[start..].iter().zip(&im[start..]).zip(window);
            for (out, ((re, im), weight)) in self.buffer.iter_mut().zip(run) {
                let (re, im) = center(*re, *im);
                *out = Complex32::new(re * weight, im * weight);
            }
            self.fft.process_with_scratch(&mut self.buffer, &mut self.scratch);
            take(&self.buffer);
            units += unit;
        }
        units
    }
}

/// Spectra of complex sequences: 512 bins.
pub(super) struct Welch {
    blocks: Blocks,
    means: [[f32; 2]; COLUMNS],
    maxima: [f32; COLUMNS],
}

impl Welch {
    pub(super) fn new(planner: &mut FftPlanner<f32>) -> Self {
        Self { blocks: Blocks::new(COLUMNS, planner), means: [[0.0; 2]; COLUMNS], maxima: [0.0; COLUMNS] }
    }

    /// The mean power over time of each bin, in rising frequency, in decades against their mean.
    pub(super) fn means(&mut self, re: &[f32], im: &[f32], hop: usize, row: &mut [f32]) {
        let Self { blocks, means, .. } = self;
        means.fill([0.0; 2]);
        let units = blocks.each(
            (re, im),
            |re, im| (re, im),
            hop,
            |bins| {
                // The squares of the parts are added up apart: they lie side by side as the bins have them.
                for ([re, im], bin) in means.iter_mut().zip(bins) {
                    *re += bin.re * bin.re;
                    *im += bin.im * bin.im;
                }
            },
        );
        rising(means.iter().map(|[re, im]| re + im), row);
        level(row, units);
    }

    /// Also the largest power over time.
    pub(super) fn means_and_maxima(
        &mut self,
        re: &[f32],
        im: &[f32],
        hop: usize,
        mean_row: &mut [f32],
        max_row: &mut [f32],
    ) {
        let Self { blocks, means, maxima } = self;
        means.fill([0.0; 2]);
        maxima.fill(0.0);
        let units = blocks.each(
            (re, im),
            |re, im| (re, im),
            hop,
            |bins| {
                for (([sum, _], max), bin) in means.iter_mut().zip(maxima.iter_mut()).zip(bins) {
                    let power = bin.re * bin.re + bin.im * bin.im;
                    *sum += power;
                    *max = if power > *max { power } else { *max };
                }
            },
        );
        rising(means.iter().map(|[sum, _]| *sum), mean_row);
        rising(maxima.iter().copied(), max_row);
        level(mean_row, units);
        level(max_row, units);
    }
}

/// Spectra of pairs of real sequences: 512 bins from 0 to half the rate. The two are the parts of one complex
/// sequence, whose transform is taken apart by its symmetries.
pub(super) struct PairWelch {
    blocks: Blocks,
    first: [f32; COLUMNS],
    second: [f32; COLUMNS],
}

impl PairWelch {
    pub(super) fn new(planner: &mut FftPlanner<f32>) -> Self {
        Self { blocks: Blocks::new(2 * COLUMNS, planner), first: [0.0; COLUMNS], second: [0.0; COLUMNS] }
    }

    /// The mean power over time of each bin, in decades against their mean; the means of the sequences are
    /// taken off.
    pub(super) fn means(
        &mut self,
        first: &[f32],
        second: &[f32],
        hop: usize,
        first_row: &mut [f32],
        second_row: &mut [f32],
    ) {
        let Self { blocks, first: firsts, second: seconds } = self;
        firsts.fill(0.0);
        seconds.fill(0.0);
        let (mean_first, mean_second) = (mean(first), mean(second));
        let center = |first, second| (first - mean_first, second - mean_second);
        let units = blocks.each((first, second), center, hop, |bins| {
            firsts[0] += 4.0 * bins[0].re * bins[0].re;
            seconds[0] += 4.0 * bins[0].im * bins[0].im;
            let sums = firsts[1..].iter_mut().zip(&mut seconds[1..]);
            let mirrored = bins[1..COLUMNS].iter().zip(bins[COLUMNS + 1..].iter().rev());
            for ((first, second), (bin, image)) in sums.zip(mirrored) {
                let (even_re, odd_re) = (bin.re + image.re, bin.re - image.re);
                let (even_im, odd_im) = (bin.im + image.im, bin.im - image.im);
                *first += even_re * even_re + odd_im * odd_im;
                *second += even_im * even_im + odd_re * odd_re;
            }
        });
        first_row.copy_from_slice(firsts);
        second_row.copy_from_slice(seconds);
        // Twice each part's spectrum.
        level(first_row, 4.0 * units);
        level(second_row, 4.0 * units);
    }
}

/// Hann's window with its zeros half a sample outside: `sin²(π (k + ½) / n)`.
fn hann(window: &mut [f32]) {
    let step = PI / window.len().max(1) as f64;
    let (mut phase, turn) = (Complex64::from_polar(1.0, 0.5 * step), Complex64::from_polar(1.0, step));
    for weight in window {
        *weight = (phase.im * phase.im) as f32;
        phase *= turn;
    }
}

/// Writes bins in rising frequency: the second half is the negative ones.
fn rising(bins: impl ExactSizeIterator<Item = f32>, row: &mut [f32]) {
    let (low, high) = row.split_at_mut(COLUMNS / 2);
    for (out, bin) in high.iter_mut().chain(low).zip(bins) {
        *out = bin;
    }
}

/// Powers to decades against their mean decade; `unit` is their mean for a sequence of mean power 1.
fn level(row: &mut [f32], unit: f32) {
    let scale = (mean(row) + QUIET * unit).recip();
    for x in row.iter_mut() {
        *x = ln(*x * scale + FLOOR) * std::f32::consts::LOG10_E;
    }
    let middle = mean(row);
    row.iter_mut().for_each(|x| *x -= middle);
}

/// Arithmetic mean.
pub(super) fn mean(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (groups, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *sum += x;
        }
    }
    (sums.iter().sum::<f32>() + rest.iter().sum::<f32>()) / values.len().max(1) as f32
}
