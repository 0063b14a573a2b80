//! OFDM: from the 64 subcarriers of 802.11 to the resource grid of LTE.

use rand::RngExt;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

use super::waveform::Waveform;
use crate::dsp;
use crate::rng::{SimRng, pick};

/// How the subcarriers are used over time.
#[derive(Clone, Copy)]
enum Grid {
    /// All subcarriers, all the time.
    Full,
    /// Training symbols first, then all: an 802.11 packet.
    Packet,
    /// Reference signals on every third or sixth subcarrier in some symbols, control symbols at the start of
    /// each subframe, and data blocks that come and go: LTE from an idle to a loaded cell.
    Blocks,
}

/// OFDM of 48 to 2048 subcarriers, oversampled or wider than the sampled band, with cyclic prefix.
pub(super) fn ofdm(len: usize, rng: &mut SimRng) -> Waveform {
    let grid = pick(rng, &[Grid::Full, Grid::Packet, Grid::Blocks, Grid::Blocks]);
    let largest = (len / 8).max(64);
    let sizes: Vec<usize> = match grid {
        Grid::Packet => vec![64, 64, 64, 128, 256],
        _ => vec![64, 128, 128, 256, 512, 1024, 2048],
    };
    let size = pick(rng, &sizes).min(largest);
    // Critically sampled, or sampled faster by a ratio that need not be whole.
    let oversampling = pick(rng, &[1.0, 1.0, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0]);
    let period = ((size as f32 * oversampling) as usize).min(len / 2).max(48);
    let occupied =
        if oversampling == 1.0 && rng.random_bool(if matches!(grid, Grid::Blocks) { 0.7 } else { 0.2 }) {
            1.0 // the cell is wider than what is sampled
        } else {
            rng.random_range(0.55..0.95)
        };
    let half = ((size as f32 * occupied / 2.0) as usize).clamp(8, period / 2);
    let prefix = match grid {
        Grid::Packet => period / pick(rng, &[4, 4, 8]),
        // 144 or 160 of 2048, or the extended prefix.
        Grid::Blocks => pick(rng, &[period * 144 / 2048, period * 160 / 2048, period / 4]),
        Grid::Full => period / pick(rng, &[4, 8, 16, 32]),
    }
    .max(2);

    let fft = FftPlanner::new().plan_fft_inverse(period);
    let start = rng.random_range(0..period + prefix);
    let mut samples = Vec::with_capacity(len + 2 * (period + prefix));
    let mut allocation = Allocation::new(grid, half, rng);
    while samples.len() < len + start {
        let mut symbol = vec![Complex32::default(); period];
        allocation.fill(&mut symbol, half, rng);
        fft.process(&mut symbol);
        samples.extend_from_slice(&symbol[period - prefix..]);
        samples.extend_from_slice(&symbol);
    }
    // A packet is seen from its first symbol; a stream at any place.
    let start = if matches!(grid, Grid::Packet) { 0 } else { start };
    let mut samples = samples[start..start + len].to_vec();
    if occupied == 1.0 {
        // The anti-aliasing filter of a receiver inside a wider signal, steep or gentle.
        let half_taps = pick(rng, &[4, 8, 24]);
        samples = dsp::filter(&samples, &dsp::low_pass(rng.random_range(0.35..0.5), half_taps, 0.0));
    }
    dsp::set_mean_power(&mut samples, 1.0);
    Waveform { samples, bandwidth: (2 * half) as f32 / period as f32 }
}

/// The subcarriers that the next symbol uses.
struct Allocation {
    grid: Grid,
    symbol: usize,
    /// Whether each block of twelve subcarriers has data; drawn again every fourteen symbols.
    blocks: Vec<bool>,
    share: f64,
    /// Symbols of each fourteen that are full of control data.
    control: usize,
    /// Reference signals are on every `comb`-th subcarrier.
    comb: usize,
    order: usize,
}

impl Allocation {
    fn new(grid: Grid, half: usize, rng: &mut SimRng) -> Self {
        let share = pick(rng, &[0.0, 0.05, 0.3, 0.7, 1.0]);
        let symbol = if matches!(grid, Grid::Packet) { 0 } else { rng.random_range(0..14) };
        let blocks = (0..2 * half / 12 + 1).map(|_| rng.random_bool(share)).collect();
        Self {
            grid,
            symbol,
            blocks,
            share,
            control: pick(rng, &[0, 1, 2, 3]),
            comb: pick(rng, &[3, 6]),
            order: pick(rng, &[2, 4, 16]),
        }
    }

    /// Puts one symbol's values on the ± `half` bins around the unused bin 0.
    fn fill(&mut self, bins: &mut [Complex32], half: usize, rng: &mut SimRng) {
        let index = self.symbol;
        self.symbol += 1;
        if index.is_multiple_of(14) {
            self.blocks.iter_mut().for_each(|on| *on = rng.random_bool(self.share));
        }
        let period = bins.len();
        for k in 0..2 * half {
            // k counts from the lowest subcarrier; the middle one stays empty.
            let bin = if k < half { period - half + k } else { (k - half + 1) % period };
            let used = match self.grid {
                Grid::Full => true,
                // Short training: every fourth subcarrier in the first two symbols.
                Grid::Packet => index >= 2 || k.is_multiple_of(4),
                // Reference signals in symbols 0 and 4 of each seven.
                Grid::Blocks => {
                    let reference = matches!(index % 7, 0 | 4) && k.is_multiple_of(self.comb);
                    self.blocks[k / 12] || index % 14 < self.control || reference
                }
            };
            if used {
                // Short training repeats itself: the same values in both symbols, fixed by the subcarrier.
                let training = matches!(self.grid, Grid::Packet) && index < 2;
                let value = if training { quarter(k / 4 * 7 % 4) } else { point(self.order, rng) };
                bins[bin] = if training { value * 2.0 } else { value };
            }
        }
    }
}

/// A unit-power point of BPSK, QPSK or 16-QAM.
fn point(order: usize, rng: &mut SimRng) -> Complex32 {
    match order {
        2 => Complex32::new(pick(rng, &[-1.0, 1.0]), 0.0),
        4 => quarter(rng.random_range(0..4)),
        _ => {
            let levels = [-3.0, -1.0, 1.0, 3.0];
            Complex32::new(pick(rng, &levels), pick(rng, &levels)) / 10f32.sqrt()
        }
    }
}

fn quarter(turns: usize) -> Complex32 {
    Complex32::from_polar(1.0, std::f32::consts::FRAC_PI_2 * turns as f32 + std::f32::consts::FRAC_PI_4)
}
