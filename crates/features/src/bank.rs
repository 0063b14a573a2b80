//! The filterbank: triangles on a mel or linear scale, kept as the run of bins each one touches.

use wide::f32x4;

use crate::{FeatureConfig, FrameError, MelNorm, MelScale, Sides};

/// Weights are padded with zeros to whole groups of this many, so that a band is a few whole vector
/// operations.
pub(crate) const LANES: usize = 4;
/// Number of columns weighted together.
pub(crate) const TILE: usize = 4;

/// A band without a bin, whose feature is constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmptyBand {
    /// Row of the tensor.
    pub row: usize,
    /// Lower edge, Hz (fractions of the rate where the plan has no rate).
    pub low_hz: f64,
    /// Upper edge, Hz.
    pub high_hz: f64,
}

/// Bands as runs over a power spectrum that is followed by at least `LANES` finite values.
pub(crate) struct Bank {
    /// Per band: first bin, and its groups in `weights`.
    bands: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<f32x4>,
    pub empty: Vec<EmptyBand>,
}

impl Bank {
    /// The bank of `config` at `rate` (Hz), for bins `0..=n_fft` of a transform (bin `n_fft` repeats bin 0).
    pub(crate) fn new(config: &FeatureConfig, rate: f64) -> Result<Self, FrameError> {
        let two_sided = config.sides == Sides::TwoSided;
        let per_half = if two_sided { config.n_mels / 2 } else { config.n_mels };
        let half = config.n_fft / 2;
        let f_max = config.f_max_hz.unwrap_or(rate / 2.0);
        let edges = edges(config.mel_scale, config.f_min_hz, f_max, per_half);
        // torchaudio's grid: bins evenly from 0 to half the rate, which for odd `n_fft` is stretched by
        // n/(n-1).
        let bin_hz = rate / 2.0 / half as f64;

        let mut bank =
            Self { bands: Vec::with_capacity(config.n_mels), weights: Vec::new(), empty: Vec::new() };
        let mut sound = true;
        if two_sided {
            for band in edges.windows(3).rev() {
                let (first, mut weights) = triangle(band, bin_hz, half, config.mel_norm);
                let last = first + weights.len().max(1) - 1;
                weights.reverse();
                sound &= bank.push(config.n_fft - last, &weights, [-band[2], -band[0]]);
            }
        }
        for band in edges.windows(3) {
            let (first, weights) = triangle(band, bin_hz, half, config.mel_norm);
            sound &= bank.push(first, &weights, [band[0], band[2]]);
        }
        if !sound {
            return Err(FrameError::InvalidRate(rate));
        }
        Ok(bank)
    }

    /// Adds a band; false where its triangle has no width, as with rates at the ends of the float range.
    fn push(&mut self, first: usize, weights: &[f32], [low_hz, high_hz]: [f64; 2]) -> bool {
        if !(low_hz < high_hz && weights.iter().all(|w| w.is_finite())) {
            return false;
        }
        if weights.is_empty() {
            self.empty.push(EmptyBand { row: self.bands.len(), low_hz, high_hz });
        }
        let start = self.weights.len();
        for group in weights.chunks(LANES) {
            let mut padded = [0.0; LANES];
            padded[..group.len()].copy_from_slice(group);
            self.weights.push(f32x4::new(padded));
        }
        self.bands.push((first, start..self.weights.len()));
        true
    }

    /// Sums the weighted powers of `TILE` columns into one value a band and column; band `b` is written to
    /// `out[b * stride..][..TILE]`. Columns are processed together, so the weights are loaded once for all.
    pub(crate) fn apply<'a>(&self, powers: [&'a [f32]; TILE], out: &mut [f32], stride: usize) {
        for ((first, groups), out) in self.bands.iter().zip(out.chunks_mut(stride)) {
            let weights = &self.weights[groups.clone()];
            let run = |power: &'a [f32]| power[*first..*first + weights.len() * LANES].as_chunks::<LANES>().0;
            let (p0, p1, p2, p3) = (run(powers[0]), run(powers[1]), run(powers[2]), run(powers[3]));
            let mut sums = [f32x4::ZERO; TILE];
            for ((((&weight, p0), p1), p2), p3) in weights.iter().zip(p0).zip(p1).zip(p2).zip(p3) {
                sums[0] += weight * f32x4::new(*p0);
                sums[1] += weight * f32x4::new(*p1);
                sums[2] += weight * f32x4::new(*p2);
                sums[3] += weight * f32x4::new(*p3);
            }
            let [a, b, c, d] = f32x4::transpose(sums);
            out[..TILE].copy_from_slice(&((a + b) + (c + d)).to_array());
        }
    }
}

/// `bands + 2` edges in Hz, evenly spaced on the scale.
fn edges(scale: MelScale, low: f64, high: f64, bands: usize) -> Vec<f64> {
    let (low, high) = (to_mel(scale, low), to_mel(scale, high));
    let step = (high - low) / (bands + 1) as f64;
    (0..bands + 2).map(|edge| from_mel(scale, low + step * edge as f64)).collect()
}

/// First bin and weights of the triangle over `[low, peak, high]`, over bins `0..=half` at multiples of
/// `bin_hz`.
fn triangle(band: &[f64], bin_hz: f64, half: usize, norm: MelNorm) -> (usize, Vec<f32>) {
    let [low, peak, high] = [band[0], band[1], band[2]];
    let scale = match norm {
        MelNorm::None => 1.0,
        MelNorm::Slaney => 2.0 / (high - low),
    };
    let weight = |bin: usize| {
        let hz = bin as f64 * bin_hz;
        (((hz - low) / (peak - low)).min((high - hz) / (high - peak)) * scale) as f32
    };
    // One bin to spare on both ends: rounding must not lose one, and those without weight are left out below.
    let from = ((low / bin_hz).floor() as usize).min(half);
    let to = ((high / bin_hz).ceil() as usize).min(half);
    // NaN counts as inside, and is refused where the band is added.
    let inside = |&bin: &usize| weight(bin) > 0.0 || weight(bin).is_nan();
    let Some(first) = (from..=to).find(inside) else {
        return (from, Vec::new());
    };
    (first, (first..=to).take_while(inside).map(weight).collect())
}

// O'Shaughnessy's formula as in HTK, and Slaney's: 200/3 Hz a mel up to 1 kHz, then 27 mels a factor of 6.4.
const SLANEY_HZ_PER_MEL: f64 = 200.0 / 3.0;
const SLANEY_BREAK_HZ: f64 = 1000.0;
const SLANEY_BREAK_MEL: f64 = SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL;

fn slaney_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn to_mel(scale: MelScale, hz: f64) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 / std::f64::consts::LN_10 * (hz / 700.0).ln_1p(),
        MelScale::Slaney if hz < SLANEY_BREAK_HZ => hz / SLANEY_HZ_PER_MEL,
        MelScale::Slaney => SLANEY_BREAK_MEL + (hz / SLANEY_BREAK_HZ).ln() / slaney_step(),
        MelScale::Linear => hz,
    }
}

fn from_mel(scale: MelScale, mel: f64) -> f64 {
    match scale {
        MelScale::Htk => 700.0 * (mel * std::f64::consts::LN_10 / 2595.0).exp_m1(),
        MelScale::Slaney if mel < SLANEY_BREAK_MEL => mel * SLANEY_HZ_PER_MEL,
        MelScale::Slaney => SLANEY_BREAK_HZ * ((mel - SLANEY_BREAK_MEL) * slaney_step()).exp(),
        MelScale::Linear => mel,
    }
}
