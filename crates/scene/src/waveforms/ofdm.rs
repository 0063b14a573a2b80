//! OFDM: from the 64 subcarriers of 802.11 to the resource grid of LTE.

use rand::RngExt;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex32;

use super::waveform::Waveform;
use crate::dsp;
use crate::rng::{SimRng, log_uniform, pick};

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

/// Lengths and band of one drawn transmission.
struct Layout {
    grid: Grid,
    /// Used subcarriers on each side of the centre.
    half: usize,
    /// Samples of a symbol without its prefix.
    period: usize,
    prefix: usize,
    /// Samples over which neighbouring symbols fade into each other.
    taper: usize,
    /// Whether the signal is wider than the sampled band.
    is_wider: bool,
}

impl Layout {
    fn draw(len: usize, rng: &mut SimRng) -> Self {
        let grid = pick(rng, &[Grid::Full, Grid::Full, Grid::Packet, Grid::Blocks, Grid::Blocks]);
        let largest = (len / 8).max(64);
        let sizes: &[usize] = match grid {
            Grid::Packet => &[64, 64, 64, 128, 256],
            // The numbers of subcarriers of LTE's bandwidths, and powers of two.
            _ => &[64, 72, 128, 128, 180, 256, 300, 512, 600, 1024, 1200, 2048],
        };
        let size = pick(rng, sizes).min(largest);
        // Critically sampled, by a common ratio, or by any: the band is then 5 to 100 % of what is sampled.
        let oversampling = match rng.random_range(0..10) {
            0..4 => 1.0,
            4..7 => pick(rng, &[1.25, 1.5, 2.0, 3.0, 4.0]),
            _ => log_uniform(rng, 1.0, 20.0),
        };
        // At least three symbols are seen.
        let period = ((size as f32 * oversampling) as usize).min(len / 3).max(48);
        let is_wider =
            period <= size && rng.random_bool(if matches!(grid, Grid::Blocks) { 0.6 } else { 0.15 });
        let occupied = if is_wider {
            1.0
        } else if rng.random_bool(0.3) {
            rng.random_range(0.95..1.0)
        } else {
            rng.random_range(0.55..0.95)
        };
        let half = ((size as f32 * occupied / 2.0) as usize).clamp(8, period / 2);
        let mut prefix = match grid {
            Grid::Packet => period / pick(rng, &[4, 4, 8]),
            // 144 or 160 of 2048, or the extended prefix.
            Grid::Blocks => pick(rng, &[period * 144 / 2048, period * 160 / 2048, period / 4]),
            Grid::Full => period / pick(rng, &[4, 8, 16, 32]),
        }
        .max(2);
        // Without a prefix nothing but the edges of the band tells it from noise, so there must be edges.
        if matches!(grid, Grid::Full) && 2 * half < period * 4 / 5 && rng.random_bool(0.3) {
            prefix = 0;
        }
        let taper = if rng.random_bool(0.3) { (prefix / 2).max(period / 32) } else { 0 };
        Self { grid, half, period, prefix, taper, is_wider }
    }
}

/// OFDM of 48 to 2048 subcarriers, oversampled or wider than the sampled band, most with a cyclic prefix.
pub(super) fn ofdm(len: usize, rng: &mut SimRng) -> Waveform {
    let layout = Layout::draw(len, rng);
    let Layout { grid, half, period, prefix, taper, .. } = layout;
    let fft = FftPlanner::new().plan_fft_inverse(period);
    let start = rng.random_range(0..period + prefix);
    let mut samples = vec![Complex32::default(); len + 2 * (period + prefix) + taper];
    let mut allocation = Allocation::new(grid, half, rng);
    for first in (0..len + start).step_by(period + prefix) {
        let mut symbol = vec![Complex32::default(); period];
        allocation.fill(&mut symbol, half, rng);
        fft.process(&mut symbol);
        // The symbol goes on beyond its end while the next one begins.
        let whole = period + prefix;
        for (n, sum) in samples[first..first + whole + taper].iter_mut().enumerate() {
            let into = (n as f32 + 0.5).min((whole + taper) as f32 - n as f32 - 0.5);
            let gain = 1.0 - dsp::roll_off(into, 0.0, taper as f32);
            *sum += symbol[(n + period - prefix) % period] * gain;
        }
    }
    // A packet is seen from its first symbol; a stream at any place.
    let start = if matches!(grid, Grid::Packet) { 0 } else { start };
    let mut samples = samples[start..start + len].to_vec();
    if layout.is_wider {
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
    /// Amplitude of the reference signals over that of data.
    boost: f32,
    order: usize,
}

impl Allocation {
    fn new(grid: Grid, half: usize, rng: &mut SimRng) -> Self {
        let share = pick(rng, &[0.0, 0.05, 0.3, 0.7, 1.0]);
        // Synchronisation comes every 70 symbols, so the stretch may begin anywhere among 140.
        let symbol = if matches!(grid, Grid::Packet) { 0 } else { rng.random_range(0..140) };
        let blocks = (0..2 * half / 12 + 1).map(|_| rng.random_bool(share)).collect();
        Self {
            grid,
            symbol,
            blocks,
            share,
            control: pick(rng, &[0, 1, 2, 3]),
            comb: pick(rng, &[3, 6]),
            boost: pick(rng, &[1.0, 1.0, 1.41, 2.0]),
            order: pick(rng, &[2, 4, 16, 16, 64, 256]),
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
            let mut gain = 1.0;
            // k counts from the lowest subcarrier; the middle one stays empty.
            let bin = if k < half { period - half + k } else { (k - half + 1) % period };
            let used = match self.grid {
                Grid::Full => true,
                // Short training: every fourth subcarrier in the first two symbols.
                Grid::Packet => index >= 2 || k.is_multiple_of(4),
                // Reference signals in symbols 0 and 4 of each seven.
                Grid::Blocks => {
                    let reference = matches!(index % 7, 0 | 4) && k.is_multiple_of(self.comb);
                    gain = if reference { self.boost } else { 1.0 };
                    self.blocks[k / 12] || index % 14 < self.control || reference || centre(index, k, half)
                }
            };
            if used {
                // Short training repeats itself: the same values in both symbols, fixed by the subcarrier.
                let training = matches!(self.grid, Grid::Packet) && index < 2;
                let value = if training { quarter(k / 4 * 7 % 4) } else { point(self.order, rng) };
                bins[bin] = if training { value * 2.0 } else { value * gain };
            }
        }
    }
}

/// Whether subcarrier `k` has synchronisation or broadcast: on the middle 62 in symbols 5 and 6 of each 70
/// and on the middle 72 in symbols 7 to 10 of each 140 (3GPP TS 36.211 §6.6 and §6.11).
fn centre(index: usize, k: usize, half: usize) -> bool {
    let from_middle = k.abs_diff(half);
    (matches!(index % 70, 5 | 6) && from_middle <= 31) || (matches!(index % 140, 7..=10) && from_middle <= 36)
}

/// A unit-power point of BPSK, QPSK, or QAM of 16, 64 or 256 points.
fn point(order: usize, rng: &mut SimRng) -> Complex32 {
    match order {
        2 => Complex32::new(pick(rng, &[-1.0, 1.0]), 0.0),
        4 => quarter(rng.random_range(0..4)),
        _ => {
            let side = order.isqrt() as f32;
            let mut level = || 2.0 * rng.random_range(0..order.isqrt()) as f32 + 1.0 - side;
            // Uniform odd levels have a mean square of (side² − 1) / 3 on each axis.
            Complex32::new(level(), level()) / ((side * side - 1.0) * 2.0 / 3.0).sqrt()
        }
    }
}

fn quarter(turns: usize) -> Complex32 {
    Complex32::from_polar(1.0, std::f32::consts::FRAC_PI_2 * turns as f32 + std::f32::consts::FRAC_PI_4)
}
