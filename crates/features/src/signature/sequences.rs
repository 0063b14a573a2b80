//! Sequences that are computed sample by sample from the zoomed stream.

use rustfft::num_complex::Complex32;

use super::layout::{COLUMNS, MAX_STRETCH, MAX_ZOOMED};
use super::stretch::LOUDER;
use crate::log::ln;

/// Keeps quotients of nothing by nothing at zero.
const TINY: f32 = 1e-12;

/// Phase steps fade out where the product of two amplitudes is below this.
const WEAK_STEP: f32 = 0.05;

/// Steps of this mean length have no direction.
const NO_STEP: f32 = 1e-6;

/// Powers of the stream fade out where their divisors are below this.
const WEAK: f32 = 1e-3;

/// Keeps the logarithm of an amplitude finite.
const AMPLITUDE_FLOOR: f32 = 0.02;

/// An amplitude in the stream is at most this.
const MAX_AMPLITUDE: f32 = 4.0;

/// Power from which on the signal counts as on.
const ON: f32 = 0.25;

/// Samples of the stream that are shown one by one.
const SHOWN: usize = 2 * COLUMNS;

/// Samples from one candidate for the loudest run to the next.
const PIECE: usize = 256;

const LANES: usize = 8;

/// The stream and what is derived from it: vectors of one length. Real and imaginary parts are apart, so that
/// the compiler makes vectors of every loop.
#[derive(Default)]
pub(super) struct Sequences {
    /// The stream at unit level while it is on, z.
    pub re: Vec<f32>,
    pub im: Vec<f32>,
    /// |z|².
    pub power: Vec<f32>,
    /// |z|.
    pub amplitude: Vec<f32>,
    /// log10(|z| + 0.02) of the loudest run.
    pub decades: Vec<f32>,
    /// Cosine of the phase step from the mean step, weighted by s / (s + 0.05) where s is the product of the
    /// two amplitudes.
    pub cosine: Vec<f32>,
    /// Sine of the same.
    pub sine: Vec<f32>,
    /// z² / (|z| + 0.001).
    pub square_re: Vec<f32>,
    pub square_im: Vec<f32>,
    /// z⁴ / (|z|³ + 0.001).
    pub fourth_re: Vec<f32>,
    pub fourth_im: Vec<f32>,
    /// Facts of the stream.
    pub summary: Summary,
    step_re: Vec<f32>,
    step_im: Vec<f32>,
    /// Lengths of the steps.
    step: Vec<f32>,
    /// Where the loudest run of 1024 samples starts.
    loudest: usize,
}

/// What a stream is like as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Summary {
    /// Mean of |z|².
    pub mean: f32,
    /// Largest |z|².
    pub peak: f32,
    /// Share of samples where |z|² is above 1/4.
    pub on: f32,
    /// Length of the mean step over the mean length of the steps.
    pub coherence: f32,
}

impl Sequences {
    pub(super) fn new() -> Self {
        let mut all = Self::default();
        for values in all.vectors() {
            values.reserve(MAX_STRETCH);
        }
        all
    }

    fn vectors(&mut self) -> [&mut Vec<f32>; 14] {
        [
            &mut self.re,
            &mut self.im,
            &mut self.power,
            &mut self.amplitude,
            &mut self.decades,
            &mut self.cosine,
            &mut self.sine,
            &mut self.square_re,
            &mut self.square_im,
            &mut self.fourth_re,
            &mut self.fourth_im,
            &mut self.step_re,
            &mut self.step_im,
            &mut self.step,
        ]
    }

    /// Samples of the stream.
    pub(super) fn len(&self) -> usize {
        self.re.len()
    }

    /// Computes all of them for the loudest 4096 samples of a stream of at least one.
    pub(super) fn run(&mut self, stream: &[Complex32]) {
        let length = stream.len().min(MAX_ZOOMED);
        let start = if length < stream.len() { loudest(stream, MAX_ZOOMED, Complex32::norm_sqr) } else { 0 };
        for values in self.vectors() {
            values.resize(length, 0.0);
        }
        let parts = self.re.iter_mut().zip(&mut self.im).zip(&mut self.power);
        for (x, ((re, im), power)) in stream[start..].iter().zip(parts) {
            (*re, *im) = (x.re, x.im);
            *power = x.re * x.re + x.im * x.im;
        }
        self.level();
        let mean_step = self.steps();
        self.turn(mean_step);
        self.powers();
        self.loudest = loudest(&self.power, SHOWN, |&p| p);
        let run = self.loudest..self.loudest + SHOWN.min(self.len());
        for (decades, amplitude) in self.decades[run.clone()].iter_mut().zip(&self.amplitude[run]) {
            *decades = ln(amplitude + AMPLITUDE_FLOOR) * std::f32::consts::LOG10_E;
        }
    }

    /// Brings the stream to unit level while it is on; its powers and amplitudes.
    fn level(&mut self) {
        let [sum, squares] = sums([&self.power], |[p]| [p, p * p]);
        let on = squares / (sum + TINY) + TINY;
        let (scale, power_scale) = (on.sqrt().recip(), on.recip());
        let parts = self.re.iter_mut().zip(&mut self.im);
        let powers = self.power.iter_mut().zip(&mut self.amplitude);
        for ((re, im), (power, amplitude)) in parts.zip(powers) {
            *re *= scale;
            *im *= scale;
            *power *= power_scale;
            *amplitude = power.sqrt();
        }
        let [counted] = sums([&self.power], |[p]| [if p > ON { 1.0 } else { 0.0 }]);
        let length = self.len() as f32;
        self.summary.mean = sum * power_scale / length;
        self.summary.on = counted / length;
        self.summary.peak = largest(&self.power);
    }

    /// The products z(n) conj z(n - 1); the first is that of the second sample. Returns the direction of
    /// their mean.
    fn steps(&mut self) -> (f32, f32) {
        let Self { re, im, amplitude, step_re, step_im, step, .. } = self;
        let now = re[1..].iter().zip(&im[1..]).zip(&amplitude[1..]);
        let before = re.iter().zip(im.iter()).zip(amplitude.iter());
        let steps = step_re[1..].iter_mut().zip(&mut step_im[1..]).zip(&mut step[1..]);
        for (((step_re, step_im), step), (((re, im), a), ((old_re, old_im), old_a))) in
            steps.zip(now.zip(before))
        {
            *step_re = re * old_re + im * old_im;
            *step_im = im * old_re - re * old_im;
            *step = a * old_a;
        }
        for values in [&mut *step_re, &mut *step_im, &mut *step] {
            values[0] = values.get(1).copied().unwrap_or_default();
        }
        let [sum_re, sum_im, lengths] = sums([step_re, step_im, step], |sums| sums);
        let count = step.len() as f32;
        let (mean_re, mean_im) = (sum_re / count, sum_im / count);
        let norm = (mean_re * mean_re + mean_im * mean_im).sqrt();
        self.summary.coherence = norm / (lengths / count + NO_STEP);
        (mean_re / (norm + NO_STEP), mean_im / (norm + NO_STEP))
    }

    /// The cosines and sines of the steps from the mean one.
    fn turn(&mut self, (mean_re, mean_im): (f32, f32)) {
        let Self { step_re, step_im, step, cosine, sine, .. } = self;
        let steps = step_re.iter().zip(step_im.iter()).zip(step.iter());
        for ((cosine, sine), ((re, im), step)) in cosine.iter_mut().zip(sine).zip(steps) {
            let weight = 1.0 / (step + WEAK_STEP);
            *cosine = (re * mean_re + im * mean_im) * weight;
            *sine = (im * mean_re - re * mean_im) * weight;
        }
    }

    /// The second and fourth powers at the stream's own amplitude.
    fn powers(&mut self) {
        let Self { re, im, power, amplitude, square_re, square_im, fourth_re, fourth_im, .. } = self;
        let squares = square_re.iter_mut().zip(square_im);
        let fourths = fourth_re.iter_mut().zip(fourth_im);
        let parts = re.iter().zip(im.iter()).zip(power.iter().zip(amplitude.iter()));
        for (((re, im), (power, amplitude)), (square, fourth)) in parts.zip(squares.zip(fourths)) {
            let (real, imaginary) = (re * re - im * im, 2.0 * re * im);
            // Both divisions in one.
            let (once, thrice) = (amplitude + WEAK, power * amplitude + WEAK);
            let both = 1.0 / (once * thrice);
            (*square.0, *square.1) = (real * thrice * both, imaginary * thrice * both);
            let scale = once * both;
            *fourth.0 = (real * real - imaginary * imaginary) * scale;
            *fourth.1 = 2.0 * real * imaginary * scale;
        }
    }

    /// Copies the loudest 1024 values of a sequence into two rows, then zeros.
    pub(super) fn copy_loudest(&self, sequence: &[f32], rows: [&mut [f32]; 2]) {
        let run = &sequence[self.loudest..self.loudest + SHOWN.min(self.len())];
        let (first, second) = run.split_at(COLUMNS.min(run.len()));
        for (row, values) in rows.into_iter().zip([first, second]) {
            let shown = row.iter_mut().zip(values);
            shown.for_each(|(out, &x)| *out = if x < MAX_AMPLITUDE { x } else { MAX_AMPLITUDE });
            row[values.len()..].fill(0.0);
        }
    }
}

/// Start of the loudest run of so many values, in steps of 256; 0 where there are fewer.
fn loudest<T>(values: &[T], length: usize, power: impl Fn(&T) -> f32) -> usize {
    const MOST_PIECES: usize = MAX_STRETCH / PIECE;
    let mut energies = [0.0; MOST_PIECES];
    for (energy, piece) in energies.iter_mut().zip(values.chunks_exact(PIECE)) {
        let mut sums = [0.0; LANES];
        for group in piece.as_chunks::<LANES>().0 {
            sums.iter_mut().zip(group).for_each(|(sum, x)| *sum += power(x));
        }
        *energy = sums.iter().sum();
    }
    let (mut best, mut most) = (0, 0.0);
    let pieces = (values.len() / PIECE).min(MOST_PIECES);
    for (start, run) in energies[..pieces].windows(length / PIECE).enumerate() {
        let energy = run.iter().sum::<f32>();
        if energy > LOUDER as f32 * most {
            (best, most) = (start * PIECE, energy);
        }
    }
    best
}

/// The largest of values of at least 0.
fn largest(values: &[f32]) -> f32 {
    let mut most = [0.0; LANES];
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        for (most, &x) in most.iter_mut().zip(group) {
            *most = if x > *most { x } else { *most };
        }
    }
    most.iter().chain(rest).fold(0.0, |most, &x| if x > most { x } else { most })
}

/// Sums of what `f` makes of the values at each place.
fn sums<const I: usize, const O: usize>(values: [&[f32]; I], f: impl Fn([f32; I]) -> [f32; O]) -> [f32; O] {
    let mut totals = [[0.0f32; LANES]; O];
    let groups = values.map(|values| values.as_chunks::<LANES>());
    for at in 0..groups[0].0.len() {
        for lane in 0..LANES {
            let terms = f(groups.map(|(groups, _)| groups[at][lane]));
            for (total, term) in totals.iter_mut().zip(terms) {
                total[lane] += term;
            }
        }
    }
    let mut out = totals.map(|lanes| lanes.iter().sum::<f32>());
    for at in 0..groups[0].1.len() {
        let terms = f(groups.map(|(_, rest)| rest[at]));
        out.iter_mut().zip(terms).for_each(|(out, term)| *out += term);
    }
    out
}
