//! What a small classifier of modulation needs to know of a frame: `kind = "signature"`.
//!
//! The loudest stretch of at most 8192 samples is scaled to unit mean power. One Fourier transform finds the
//! band that is occupied; its bins, without most of the noise beside it, are transformed back to `z`, a
//! stream at a lower rate in which a signal of any bandwidth has about the same number of samples a symbol.
//! Most rows are computed from `z`. The tensor is `[channels, 20, 512]`, whatever the length of the frame:
//!
//! | row | what | columns |
//! | --- | --- | --- |
//! | 0, 1 | spectrum of the whole band, mean and maximum over time | rising frequency, 0 Hz at column 256 |
//! | 2, 3 | the same of `z` | rising frequency, the middle of the band at column 256 |
//! | 4 | facts, see below | 32 columns each |
//! | 5, 6 | spectra of the power and of the phase steps' sine, without their means | c/1024 of `z`'s rate |
//! | 7, 8 | spectra of `z²/abs(z)` and `z⁴/abs(z)³` | rising frequency |
//! | 9 | autocorrelation of the whitened `z` at lags 1 to 512 of its samples | c is lag c + 1 |
//! | 10 | its maxima over seven lags each, 513 to 4096 | c is lags 513 + 7c to 519 + 7c |
//! | 11, 12 | amplitude of the loudest 1024 samples of `z`, at most 4 | a sample each; zeros after the end |
//! | 13, 14 | log10(amplitude + 0.02) of the same | as above |
//! | 15, 16 | cosine of the phase step from the mean step, fading where `z` is weak | as above |
//! | 17, 18 | sine of the same | as above |
//! | 19 | square root of the share of samples: 16 amplitudes, of each 32 phase steps | 32 amplitude + step |
//!
//! `z` is at unit level while it is on, `mean(abs(z)⁴) / mean(abs(z)²) = 1`; of more samples the loudest
//! 4096 count. Spectra are averages by Welch's method (Welch 1967) in decades against their mean decade,
//! `d = log10(P / (mean(P) + q) + 1e-6)`, `d - mean(d)`, where `q` is 20 dB below the spectrum of unit power.
//! Autocorrelations are in standard deviations under noise, at most 30, divided by 4: a cyclic prefix gives a
//! peak at the symbol's length. An amplitude bin of the histogram is 2/13 wide, the last is open; step 16 is
//! the mean step, one step is 2π/32. Silence gives zeros everywhere.
//!
//! The lags are those of `z`, at the same full resolution whatever the bandwidth: a signal and the same at
//! half the rate have their peak in the same column. Real sequences have transforms of 1024, whose 512
//! different bins fill a row.
//!
//! The facts, from column 32·n on:
//!
//! | n | what |
//! | --- | --- |
//! | 0 | log10 of the share of the band that is occupied |
//! | 1 | distance of its middle from 0 Hz, cycles per sample, 0 to 0.5 |
//! | 2 | log10 of the stretch's length over 1024 |
//! | 3 | log10 of (power in the occupied band over the noise in it + 0.01), at most 6 |
//! | 4 | log10 of the largest power over the mean power |
//! | 5 | share of the power that is constant (the DC level) |
//! | 6 | log10 of the number of samples of `z` over 1024 |
//! | 7 | share of `z`'s band that is occupied |
//! | 8 | log10(largest `abs(z)²` + 0.01) |
//! | 9 | mean of `abs(z)²`: 1 for a constant envelope, 1/2 for noise, less for bursts |
//! | 10 | share of samples where `abs(z)²` is above 1/4: how long it is on |
//! | 11 | length of the mean phase step over the mean length of the steps |
//! | 12 | log10 of the largest mean power of a cell of bins over the mean power |

mod band;
mod facts;
mod histogram;
mod layout;
mod repetition;
mod sequences;
mod stretch;
mod welch;
mod zoom;

use rustfft::FftPlanner;
use sferic_samples::{Component, Samples};

use facts::Facts;
use histogram::Histogram;
pub use layout::{
    COLUMNS, DERIVED, FACT_WIDTH, FACTS, HISTOGRAM, MAX_STRETCH, MAX_ZOOMED, MIN_SAMPLES, REPETITION, ROWS,
    SPECTRUM, STREAM, ZOOMED,
};
use repetition::Repetition;
use sequences::Sequences;
use stretch::Stretch;
use welch::{PairWelch, Welch};
use zoom::Zoom;

/// Samples from one transform of 512 to the next.
const HOP: usize = COLUMNS / 2;

/// Plans and scratch for the signature of a channel.
pub(crate) struct Signature {
    stretch: Stretch,
    zoom: Zoom,
    sequences: Sequences,
    welch: Welch,
    pair: PairWelch,
    repetition: Repetition,
    histogram: Histogram,
}

impl Signature {
    pub(crate) fn new() -> Self {
        let mut planner = FftPlanner::new();
        Self {
            stretch: Stretch::new(),
            zoom: Zoom::new(&mut planner),
            sequences: Sequences::new(),
            welch: Welch::new(&mut planner),
            pair: PairWelch::new(&mut planner),
            repetition: Repetition::new(),
            histogram: Histogram::new(),
        }
    }

    /// Fills the rows of one channel, `[ROWS, COLUMNS]`.
    pub(crate) fn channel<D: Component>(&mut self, samples: &Samples<'_>, channel: usize, out: &mut [f32]) {
        if self.stretch.load::<D>(samples, channel) {
            self.fill(out);
        } else {
            out.fill(0.0); // silence
        }
    }

    fn fill(&mut self, out: &mut [f32]) {
        let mut rows = out.chunks_exact_mut(COLUMNS);
        let mut next = || rows.next().unwrap_or_default();
        let stretch = &self.stretch;
        self.welch.means_and_maxima(&stretch.re, &stretch.im, HOP, next(), next());
        let band = self.zoom.run(&stretch.re, &stretch.im);
        self.sequences.run(self.zoom.stream());
        let z = &self.sequences;
        self.welch.means_and_maxima(&z.re, &z.im, HOP, next(), next());
        Facts { stretch, band: &band, zoomed: self.zoom.bins().zoomed, z }.fill(next());
        self.pair.means(&z.power, &z.sine, 2 * HOP, next(), next());
        self.welch.means(&z.square_re, &z.square_im, HOP, next());
        self.welch.means(&z.fourth_re, &z.fourth_im, HOP, next());
        self.repetition.fill(self.zoom.bins(), &band, stretch.re.len(), next(), next());
        for sequence in [&z.amplitude, &z.decades, &z.cosine, &z.sine] {
            z.copy_loudest(sequence, [next(), next()]);
        }
        self.histogram.fill(z, next());
    }
}
