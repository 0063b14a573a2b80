//! The zoom: from a stretch to a stream at a lower rate that its occupied band fills.

use std::sync::Arc;

use rustfft::num_complex::Complex32;
use rustfft::{Fft, FftPlanner};

use super::band::{Band, Cells};
use super::layout::MAX_STRETCH;

/// Shortest transform.
const MIN_SIZE: usize = 64;

/// Fewest bins that are zoomed at, where there are as many.
const MIN_ZOOMED: usize = 128;

/// Transforms of 2^6 to 2^13 samples, and back of as many bins or half as many again.
const SIZES: u32 = MAX_STRETCH.ilog2() - MIN_SIZE.ilog2() + 1;

/// Plans and scratch of the zoom.
pub(super) struct Zoom {
    /// By size, from the shortest on, each twice as long.
    forward: Vec<Arc<dyn Fft<f32>>>,
    /// By size, rising: powers of two and, between them, three quarters of the next one.
    inverse: Vec<Arc<dyn Fft<f32>>>,
    spectrum: Vec<Complex32>,
    powers: Vec<f32>,
    cells: Cells,
    stream: Vec<Complex32>,
    /// Bins of the last zoom.
    zoomed: usize,
    scratch: Vec<Complex32>,
}

/// The spectrum that was zoomed at.
pub(super) struct Bins<'a> {
    /// Powers of all bins, of mean 1.
    pub powers: &'a [f32],
    /// Their cells.
    pub cells: &'a Cells,
    /// How many bins are in the zoom, half of them from the band's middle on.
    pub zoomed: usize,
}

impl Zoom {
    pub(super) fn new(planner: &mut FftPlanner<f32>) -> Self {
        let forward: Vec<_> = (0..SIZES).map(|power| planner.plan_fft_forward(MIN_SIZE << power)).collect();
        let inverse: Vec<_> = zoomed_sizes().map(|size| planner.plan_fft_inverse(size)).collect();
        let scratch = forward.iter().chain(&inverse).map(|fft| fft.get_inplace_scratch_len()).max();
        Self {
            forward,
            inverse,
            spectrum: vec![Complex32::default(); MAX_STRETCH],
            powers: vec![0.0; MAX_STRETCH],
            cells: Cells::new(MAX_STRETCH),
            stream: Vec::with_capacity(MAX_STRETCH),
            zoomed: 0,
            scratch: vec![Complex32::default(); scratch.unwrap_or_default()],
        }
    }

    /// Zooms at the occupied band of a stretch of unit mean power.
    pub(super) fn run(&mut self, re: &[f32], im: &[f32]) -> Band {
        let length = re.len();
        let size = length.next_power_of_two().max(MIN_SIZE);
        self.spectrum.resize(size, Complex32::default());
        self.spectrum[length..].fill(Complex32::default());
        for (x, (&re, &im)) in self.spectrum.iter_mut().zip(re.iter().zip(im)) {
            *x = Complex32::new(re, im);
        }
        let forward = &self.forward[(size.ilog2() - MIN_SIZE.ilog2()) as usize];
        forward.process_with_scratch(&mut self.spectrum, &mut self.scratch);
        self.powers.resize(size, 0.0);
        let scale = 1.0 / length as f32;
        for (power, x) in self.powers.iter_mut().zip(&self.spectrum) {
            *power = x.norm_sqr() * scale;
        }
        let band = self.cells.find(&self.powers);
        self.zoom(&band, length);
        band
    }

    /// Transforms the bins about the middle of the band back, less the noise beside it.
    fn zoom(&mut self, band: &Band, length: usize) {
        let size = band.size;
        let wanted = (band.occupied + band.occupied.div_ceil(2)).max(MIN_ZOOMED).min(size);
        let inverse = self.inverse.iter().find(|fft| fft.len() >= wanted);
        let Some(inverse) = inverse.or(self.inverse.last()) else {
            return;
        };
        let zoomed = inverse.len();
        self.stream.resize(zoomed, Complex32::default());
        let (high, low) = self.stream.split_at_mut(zoomed / 2);
        let gate = Gate { spectrum: &self.spectrum, gains: &self.cells.gains, width: self.cells.width };
        gate.copy(band.centre, high);
        gate.copy((band.centre + size - zoomed / 2) % size, low);
        inverse.process_with_scratch(&mut self.stream, &mut self.scratch);
        // The rest is what the zeros after the stretch became.
        self.stream.truncate((length * zoomed).div_ceil(size));
        self.zoomed = zoomed;
    }

    /// The stream at the lower rate.
    pub(super) fn stream(&self) -> &[Complex32] {
        &self.stream
    }

    /// The spectrum that was zoomed at.
    pub(super) fn bins(&self) -> Bins<'_> {
        Bins { powers: &self.powers, cells: &self.cells, zoomed: self.zoomed }
    }
}

/// The sizes of a zoom, rising: powers of two and half as many again, so that an occupied band fills much the
/// same part of each.
pub(super) fn zoomed_sizes() -> impl Iterator<Item = usize> {
    let sizes = (0..SIZES).map(|power| MIN_SIZE << power).flat_map(|size| [size, size + size / 2]);
    sizes.filter(|&size| size <= MAX_STRETCH)
}

/// A spectrum and the gains of its cells.
struct Gate<'a> {
    spectrum: &'a [Complex32],
    gains: &'a [f32],
    /// Bins in a cell.
    width: usize,
}

impl Gate<'_> {
    /// Copies bins from one on, round the end, with gains that are interpolated between the middles of cells.
    fn copy(&self, mut bin: usize, mut out: &mut [Complex32]) {
        let Self { spectrum, gains, width } = *self;
        let step = 1.0 / width as f32;
        // All three are powers of two: a mask and a shift are a tenth of a division.
        let (last_bin, last_cell, shift) = (spectrum.len() - 1, gains.len() - 1, width.ilog2());
        while !out.is_empty() {
            let from_middle = (bin + spectrum.len() - width / 2) & last_bin;
            let (cell, offset) = (from_middle >> shift, from_middle & (width - 1));
            let length = (width - offset).min(spectrum.len() - bin).min(out.len());
            let (run, rest) = out.split_at_mut(length);
            let low = gains[cell];
            let slope = (gains[(cell + 1) & last_cell] - low) * step;
            let first = low + slope * (offset as f32 + 0.5);
            for ((out, x), at) in run.iter_mut().zip(&spectrum[bin..]).zip(0i32..) {
                *out = x * (first + slope * at as f32);
            }
            bin = (bin + length) & last_bin;
            out = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    #[test]
    fn sizes_rise_and_every_bandwidth_has_one() {
        let sizes: Vec<usize> = zoomed_sizes().collect();
        assert_eq!(sizes[..4], [64, 96, 128, 192]);
        assert_eq!(sizes.last(), Some(&8192));
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1] && 2 * pair[1] <= 3 * pair[0]));
    }

    #[test]
    fn a_tone_becomes_a_few_samples_of_constant_amplitude() {
        for (length, cycles) in [(8192, 0.1234), (8192, -0.4999), (5000, 0.3), (300, 0.25)] {
            let tone = |n: usize| Complex32::from_polar(1.0, TAU * (cycles * n as f32).fract());
            let (re, im): (Vec<f32>, Vec<f32>) = (0..length).map(tone).map(|x| (x.re, x.im)).unzip();
            let mut zoom = Zoom::new(&mut FftPlanner::new());
            let band = zoom.run(&re, &im);
            let middle = band.centre as f32 / band.size as f32;
            let off = (middle - cycles).abs();
            assert!(off.min(1.0 - off) < 2.0 * zoom.cells.width as f32 / band.size as f32, "{band:?}");
            assert!(band.occupied <= 8 * zoom.cells.width, "{band:?}");
            let z = zoom.stream();
            assert_eq!(z.len(), (length * zoom.zoomed).div_ceil(band.size));
            let inner = &z[z.len() / 4..z.len() * 3 / 4];
            let level = inner[0].norm();
            assert!(inner.iter().all(|x| (x.norm() / level - 1.0).abs() < 0.05), "{cycles}");
        }
    }
}
