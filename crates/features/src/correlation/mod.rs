//! Correlations of the samples of several receivers, pair by pair.
//!
//! The streams are brought to one clock: the lowest of their rates, from the first instant that all of them
//! have. Windows of equal length without overlap; of each its mean is taken away (the carrier, since the
//! receivers are tuned alike), what lies outside the band, and its pairs are correlated without wrapping
//! round: `c(τ) = |Σ conj(Xi) Xj exp(2πifτ)| / √(Σ|Xi|² Σ|Xj|²)`, the sums over the bins of the band, the
//! mean over the windows; with `phat` the bins count alike, by their phase alone (generalised
//! cross-correlation: Knapp & Carter, 1976).

mod config;
mod lags;
mod resample;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;

pub use config::{CorrelationConfig, Weighting};
use lags::LagTransform;
use resample::{HALF, Resampler};
use rustfft::num_complex::Complex64;
use rustfft::{Fft, FftPlanner};
pub use stream::Stream;

/// What all streams have in common must be at least so many times the largest lag, for each window.
const LAGS_IN_WINDOW: f64 = 4.0;

/// A bin with less than this part of the mean holds rounding errors: that of the carrier, after it is gone.
const ROUNDING: f64 = 1e-12;

/// Correlations of all pairs `i < j` in the order `(0, 1), (0, 2), …, (1, 2), …`; zeros where one is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlations {
    /// `[pairs, lags]`: 0 to 1, lag 0 in the middle, positive where `j` is later than `i`.
    pub magnitudes: Vec<f32>,
    /// `[pairs]`: standard error of the lag of the peak over the windows, seconds; 0 with one window.
    pub scatter: Vec<f32>,
}

impl Correlations {
    /// The lag of the peak of a pair, seconds: how much later the second one is.
    pub fn lag(&self, pair: usize, config: &CorrelationConfig) -> Option<f64> {
        let row = self.magnitudes.chunks_exact(config.lags).nth(pair).unwrap_or_default();
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        row.iter().any(|&x| x > 0.0).then(|| peak(&row) * config.lag_step())
    }
}

/// Streams that cannot be correlated.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the frames have {common_s:.6} s in common, {needed_s:.6} s are needed")]
pub struct NoOverlap {
    /// What all of them have, seconds.
    pub common_s: f64,
    /// What is needed, seconds.
    pub needed_s: f64,
}

/// Correlates sessions by one configuration; keeps plans and scratch.
pub struct Correlator {
    config: CorrelationConfig,
    planner: FftPlanner<f64>,
    resampler: Resampler,
    lags: HashMap<LagKey, LagTransform>,
}

/// First bin, bins and bins a second of a transform to lags.
type LagKey = (i64, usize, u64);

/// The part of the time that all streams have.
struct Common {
    rate_hz: f64,
    /// Seconds from the first sample of each stream to the first common one.
    begins: Vec<f64>,
    /// Samples in a window.
    window: usize,
}

/// The spectra of a stream's windows within the band, and the energy of each.
struct Banded {
    windows: Vec<Vec<Complex64>>,
    energies: Vec<f64>,
}

impl Correlator {
    /// A correlator for this configuration.
    pub fn new(config: CorrelationConfig) -> Self {
        Self { config, planner: FftPlanner::new(), resampler: Resampler::new(), lags: HashMap::new() }
    }

    /// Correlates the streams of a session, by slot; `None` where a receiver is missing.
    ///
    /// # Errors
    /// [`NoOverlap`]: they have too little time in common.
    pub fn correlate(&mut self, streams: &[Option<Stream<'_>>]) -> Result<Correlations, NoOverlap> {
        let pairs = streams.len() * streams.len().saturating_sub(1) / 2;
        let lags = self.config.lags;
        let mut out = Correlations { magnitudes: vec![0.0; pairs * lags], scatter: vec![0.0; pairs] };
        let there: Vec<(usize, &Stream<'_>)> =
            streams.iter().enumerate().filter_map(|(slot, stream)| Some((slot, stream.as_ref()?))).collect();
        if there.len() < 2 {
            return Ok(out);
        }
        let common = self.common(&there)?;
        let size = (common.window + 2 * (self.config.max_lag_s * common.rate_hz).ceil() as usize)
            .next_power_of_two();
        let fft = self.planner.plan_fft_forward(size);
        let bins = self.config.bins(size, common.rate_hz);
        let mut banded: Vec<Option<Banded>> = streams.iter().map(|_| None).collect();
        for ((slot, stream), &begin) in there.iter().zip(&common.begins) {
            banded[*slot] = Some(self.banded(stream, begin, &common, &fft, bins));
        }
        let key = (bins.0, bins.1, (common.rate_hz / size as f64).to_bits());
        let (config, planner) = (&self.config, &mut self.planner);
        // The rates come from senders.
        if self.lags.len() >= 8 && !self.lags.contains_key(&key) {
            self.lags.clear();
        }
        let lag_transform = self
            .lags
            .entry(key)
            .or_insert_with(|| LagTransform::new(bins, common.rate_hz / size as f64, config, planner));
        let mut pair = 0;
        for i in 0..streams.len() {
            for j in i + 1..streams.len() {
                if let (Some(one), Some(other)) = (&banded[i], &banded[j]) {
                    let row = &mut out.magnitudes[pair * lags..(pair + 1) * lags];
                    out.scatter[pair] = correlate_pair(one, other, config, lag_transform, row);
                }
                pair += 1;
            }
        }
        Ok(out)
    }

    fn common(&self, there: &[(usize, &Stream<'_>)]) -> Result<Common, NoOverlap> {
        let rate_hz = there.iter().map(|(_, stream)| stream.rate_hz).fold(f64::INFINITY, f64::min);
        let origin = there.iter().map(|(_, stream)| stream.begun_ns).min().unwrap_or_default();
        // Subtracted as integers: nanoseconds since 1970 have 61 bits.
        let offset = |stream: &Stream<'_>| stream.begun_ns.abs_diff(origin) as f64 * 1e-9;
        // The kernel of the resampler never reaches beyond a stream.
        let margin = HALF as f64 / rate_hz;
        let first = there.iter().map(|(_, stream)| offset(stream) + margin).fold(0.0, f64::max);
        let end = |stream: &Stream<'_>| offset(stream) + (stream.samples.len() - 1) as f64 / stream.rate_hz;
        let last = there.iter().map(|(_, stream)| end(stream) - margin).fold(f64::INFINITY, f64::min);
        // Rounding must not take a sample away.
        let total = if last >= first { ((last - first) * rate_hz + 1e-6).floor() as usize + 1 } else { 0 };
        let window = total / self.config.windows;
        if (window as f64) < LAGS_IN_WINDOW * self.config.max_lag_s * rate_hz || window < 2 {
            let needed_s = self.config.windows as f64 * LAGS_IN_WINDOW * self.config.max_lag_s;
            return Err(NoOverlap { common_s: total as f64 / rate_hz, needed_s });
        }
        let begins = there.iter().map(|(_, stream)| first - offset(stream)).collect();
        Ok(Common { rate_hz, begins, window })
    }

    fn banded(
        &self,
        stream: &Stream<'_>,
        begin: f64,
        common: &Common,
        fft: &Arc<dyn Fft<f64>>,
        (first, bins): (i64, usize),
    ) -> Banded {
        let Common { rate_hz, window, .. } = *common;
        let length = window * self.config.windows;
        let samples =
            self.resampler.resample(stream, begin * stream.rate_hz, stream.rate_hz / rate_hz, length);
        let mut buffer = vec![Complex64::default(); fft.len()];
        let mut scratch = vec![Complex64::default(); fft.get_inplace_scratch_len()];
        let windows: Vec<Vec<Complex64>> = samples
            .chunks_exact(window)
            .map(|part| {
                let mean = part.iter().sum::<Complex64>() / window as f64;
                buffer.iter_mut().zip(part).for_each(|(to, from)| *to = from - mean);
                buffer[window..].fill(Complex64::default());
                fft.process_with_scratch(&mut buffer, &mut scratch);
                let length = buffer.len() as i64;
                (first..first + bins as i64).map(|bin| buffer[bin.rem_euclid(length) as usize]).collect()
            })
            .collect();
        let energies = windows.iter().map(|bins| bins.iter().map(|x| x.norm_sqr()).sum()).collect();
        Banded { windows, energies }
    }
}

/// Adds the mean magnitude over the windows to `row`; returns the standard error of the lag of the peak.
fn correlate_pair(
    one: &Banded,
    other: &Banded,
    config: &CorrelationConfig,
    lags: &mut LagTransform,
    row: &mut [f32],
) -> f32 {
    let count = config.windows as f64;
    let mut mean = vec![0.0; row.len()];
    let mut peaks = Vec::with_capacity(config.windows);
    for at in 0..config.windows {
        let mut cross: Vec<Complex64> =
            one.windows[at].iter().zip(&other.windows[at]).map(|(a, b)| a.conj() * b).collect();
        let scale = match config.weighting {
            Weighting::None => (one.energies[at] * other.energies[at]).sqrt(),
            Weighting::Phat => whiten(&mut cross),
        };
        let scale = if scale > 0.0 { scale.recip() } else { 0.0 };
        let magnitudes: Vec<f64> = lags.apply(&cross).map(|x| x.norm() * scale).collect();
        mean.iter_mut().zip(&magnitudes).for_each(|(mean, magnitude)| *mean += magnitude / count);
        peaks.push(peak(&magnitudes) * config.lag_step());
    }
    row.iter_mut().zip(mean).for_each(|(to, mean)| *to = mean as f32);
    standard_error(&peaks) as f32
}

/// Gives every bin that holds more than rounding errors the magnitude 1; returns how many do.
fn whiten(cross: &mut [Complex64]) -> f64 {
    let mean = cross.iter().map(|x| x.norm()).sum::<f64>() / cross.len().max(1) as f64;
    let mut bins = 0;
    for x in cross {
        let magnitude = x.norm();
        if magnitude > ROUNDING * mean {
            *x /= magnitude;
            bins += 1;
        } else {
            *x = Complex64::default();
        }
    }
    f64::from(bins)
}

/// Where the largest value is, in steps from the middle, by a parabola through it and its neighbours.
fn peak(values: &[f64]) -> f64 {
    let largest = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or_default();
    let shift = match (largest.checked_sub(1).and_then(|before| values.get(before)), values.get(largest + 1))
    {
        (Some(before), Some(after)) => {
            let curve = before - 2.0 * values[largest] + after;
            if curve < 0.0 { (0.5 * (before - after) / curve).clamp(-0.5, 0.5) } else { 0.0 }
        }
        _ => 0.0,
    };
    largest as f64 - (values.len() / 2) as f64 + shift
}

/// Of the mean of so many; 0 of one.
fn standard_error(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0) / count).sqrt()
}

impl std::fmt::Debug for Correlator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correlator").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
