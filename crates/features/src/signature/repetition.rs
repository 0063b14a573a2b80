//! How much a stream is like itself some time later.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex32;

use super::band::Band;
use super::layout::{COLUMNS, MAX_STRETCH};
use super::zoom::{Bins, zoomed_sizes};

/// Cells on either side that a cell is compared with: an eighth of the occupied band, at most this.
const MAX_REACH: usize = 8;
const OCCUPIED_PER_REACH: usize = 8;

/// Standard deviations of noise that a value is at most, and what they are divided by.
const MOST: f32 = 30.0;
const DIVISOR: f32 = 4.0;

/// Lags whose maximum is a column of the second row.
const POOLED: usize = (MAX_STRETCH / 2 - COLUMNS) / COLUMNS;

/// Keeps quotients of nothing by nothing at zero.
const TINY: f32 = 1e-12;

/// Plans and scratch of the autocorrelation.
pub(super) struct Repetition {
    plans: Vec<Arc<dyn RealToComplex<f32>>>,
    white: Vec<f32>,
    lags: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// Of each cell: one over the mean power of the cells about it.
    whitening: Vec<f32>,
    squares: Vec<f32>,
}

impl Repetition {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let plans: Vec<_> = zoomed_sizes().map(|size| planner.plan_fft_forward(size)).collect();
        let scratch = plans.iter().map(|plan| plan.get_scratch_len()).max().unwrap_or_default();
        Self {
            plans,
            white: Vec::with_capacity(MAX_STRETCH),
            lags: Vec::with_capacity(MAX_STRETCH / 2 + 1),
            scratch: vec![Complex32::default(); scratch],
            whitening: Vec::with_capacity(MAX_STRETCH),
            squares: Vec::with_capacity(MAX_STRETCH / 2),
        }
    }

    /// The autocorrelation of the whitened bins of a zoom, at lags of its samples, in standard deviations
    /// under noise: lags 1 to 512, then the maxima of seven lags each. `length` is that of the stretch,
    /// before it was filled up with zeros.
    pub(super) fn fill(
        &mut self,
        bins: Bins<'_>,
        band: &Band,
        length: usize,
        row: &mut [f32],
        pooled: &mut [f32],
    ) {
        let Self { plans, white, lags, scratch, whitening, squares } = self;
        whiten(&bins.cells.powers, band.occupied / bins.cells.width, whitening);
        white.resize(bins.zoomed, 0.0);
        let variance = weigh(&bins, band, whitening, white);
        lags.resize(bins.zoomed / 2 + 1, Complex32::default());
        if let Some(plan) = plans.iter().find(|plan| plan.len() == bins.zoomed) {
            // Every slice has the length of the plan, the only thing that can be wrong here.
            let _ = plan.process_with_scratch(white, lags, scratch);
        }
        // Bins of a stretch with zeros at its end are correlated.
        let scale = 1.0 / (variance * band.size as f32 / length as f32 + TINY);
        squares.clear();
        squares.extend(lags[1..].iter().map(|x| x.re * x.re + x.im * x.im));
        let (single, rest) = squares.split_at(COLUMNS.min(squares.len()));
        row[..single.len()].copy_from_slice(single);
        row[single.len()..].fill(0.0);
        pooled.fill(0.0);
        for (out, lags) in pooled.iter_mut().zip(rest.chunks(POOLED)) {
            *out = lags.iter().fold(0.0, |most, &x| if x > most { x } else { most });
        }
        for x in row.iter_mut().chain(pooled) {
            let deviations = (*x * scale).sqrt();
            *x = if deviations < MOST { deviations / DIVISOR } else { MOST / DIVISOR };
        }
    }
}

/// One over the mean of the cells within reach, round the end.
fn whiten(powers: &[f32], occupied: usize, whitening: &mut Vec<f32>) {
    let cells = powers.len();
    let reach = (occupied / OCCUPIED_PER_REACH).clamp(1, MAX_REACH).min((cells - 1) / 2);
    let width = (2 * reach + 1) as f64;
    let wide = |power: &f32| f64::from(*power);
    let mut sum: f64 = powers[cells - reach..].iter().chain(&powers[..reach]).map(wide).sum();
    let entering = powers[reach..].iter().chain(powers);
    let leaving = powers[cells - reach..].iter().chain(powers);
    whitening.clear();
    whitening.extend(entering.zip(leaving).take(cells).map(|(entering, leaving)| {
        sum += wide(entering);
        let mean = (sum / width) as f32;
        sum -= wide(leaving);
        1.0 / (mean.max(0.0) + TINY)
    }));
}

/// The powers of the zoomed bins against those about them, less 1, times the gains of their cells. Returns
/// the sum of the squares of the gains: the variance at every lag under noise.
fn weigh(bins: &Bins<'_>, band: &Band, whitening: &[f32], mut white: &mut [f32]) -> f32 {
    let (width, gains) = (bins.cells.width, &bins.cells.gains);
    let mut bin = (band.centre + band.size - bins.zoomed / 2) % band.size;
    let (last_bin, shift) = (band.size - 1, width.ilog2()); // powers of two
    let mut variance = 0.0;
    while !white.is_empty() {
        let (cell, offset) = (bin >> shift, bin & (width - 1));
        let length = (width - offset).min(white.len());
        let (run, rest) = white.split_at_mut(length);
        let (gain, scale) = (gains[cell], whitening[cell]);
        for (out, power) in run.iter_mut().zip(&bins.powers[bin..]) {
            *out = (power * scale - 1.0) * gain;
        }
        variance += gain * gain * length as f32;
        bin = (bin + length) & last_bin;
        white = rest;
    }
    variance
}
