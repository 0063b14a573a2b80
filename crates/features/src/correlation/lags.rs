//! From a cross-spectrum to its values at lags of any step: the chirp-z transform (Rabiner, Schafer & Rader,
//! 1969).

use std::f64::consts::TAU;
use std::sync::Arc;

use rustfft::num_complex::Complex64;
use rustfft::{Fft, FftPlanner};

use super::config::CorrelationConfig;

/// `y(m) = Σ x(k) exp(2πi f(k) τ(m))` for bins `f(k)` and lags `τ(m)` in equal steps.
pub(super) struct LagTransform {
    lags: usize,
    /// Of each bin, before the convolution.
    before: Vec<Complex64>,
    /// Of each lag, after it.
    after: Vec<Complex64>,
    /// Transform of the chirp.
    chirp: Vec<Complex64>,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    buffer: Vec<Complex64>,
    scratch: Vec<Complex64>,
}

/// `exp(2πi turns)`.
fn turned(turns: f64) -> Complex64 {
    Complex64::from_polar(1.0, TAU * turns.fract())
}

impl LagTransform {
    /// For bins from `first` on that are `step_hz` apart.
    pub(super) fn new(
        (first, bins): (i64, usize),
        step_hz: f64,
        config: &CorrelationConfig,
        planner: &mut FftPlanner<f64>,
    ) -> Self {
        let lags = config.lags;
        let size = (bins + lags).next_power_of_two();
        let (forward, inverse) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
        // With k·m = (k² + m² − (k − m)²) / 2 the sum is a convolution with a chirp.
        let step = config.lag_step();
        let half_turns = |n: f64| 0.5 * step_hz * step * n * n;
        let first_lag = -((lags / 2) as f64) * step;
        let hz = |k: f64| (first as f64 + k) * step_hz;
        let before = (0..bins).map(|k| k as f64).map(|k| turned(hz(k) * first_lag + half_turns(k))).collect();
        let scale = 1.0 / size as f64;
        let after =
            (0..lags).map(|m| m as f64).map(|m| turned(hz(0.0) * m * step + half_turns(m)) * scale).collect();
        let mut chirp = vec![Complex64::default(); size];
        for n in 0..lags.max(bins) {
            let value = turned(-half_turns(n as f64));
            if n < lags {
                chirp[n] = value;
            }
            if n > 0 && n < bins {
                chirp[size - n] = value;
            }
        }
        let scratch = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        let mut scratch = vec![Complex64::default(); scratch];
        forward.process_with_scratch(&mut chirp, &mut scratch);
        let buffer = vec![Complex64::default(); size];
        Self { lags, before, after, chirp, forward, inverse, buffer, scratch }
    }

    /// The values at the lags.
    pub(super) fn apply(&mut self, spectrum: &[Complex64]) -> impl Iterator<Item = Complex64> + '_ {
        let Self { lags, before, after, chirp, forward, inverse, buffer, scratch } = self;
        buffer.fill(Complex64::default());
        for ((to, x), turn) in buffer.iter_mut().zip(spectrum).zip(before.iter()) {
            *to = x * turn;
        }
        forward.process_with_scratch(buffer, scratch);
        buffer.iter_mut().zip(chirp.iter()).for_each(|(x, chirp)| *x *= chirp);
        inverse.process_with_scratch(buffer, scratch);
        buffer.iter().take(*lags).zip(after.iter()).map(|(x, turn)| x * turn)
    }
}
