//! Pulse shapes, and the loop that turns symbols into samples.

use std::f32::consts::PI;

use rustfft::num_complex::Complex32;

use crate::dsp::sinc;

/// Points of a tabulated pulse per symbol; linear interpolation between them is good to −60 dB or better.
const RESOLUTION: usize = 64;

/// A pulse shape, tabulated over ± its span.
pub(super) struct Pulse {
    table: Vec<f32>,
    span: usize,
}

impl Pulse {
    /// Tabulates `shape`, a function of time in symbols, over ± `span` symbols.
    fn new(span: usize, shape: impl Fn(f32) -> f32) -> Self {
        let points = 2 * span * RESOLUTION + 1;
        let table = (0..points).map(|i| shape(i as f32 / RESOLUTION as f32 - span as f32)).collect();
        Self { table, span }
    }

    /// Root raised cosine with roll-off `beta` between 0.05 and 1 (Proakis, Digital Communications, eq.
    /// 9.2-28).
    pub(super) fn root_raised_cosine(beta: f32) -> Self {
        Self::new(6, |t| {
            let corner = 4.0 * beta * t;
            if t.abs() < 1e-4 {
                1.0 - beta + 4.0 * beta / PI
            } else if (corner.abs() - 1.0).abs() < 1e-3 {
                let angle = PI / (4.0 * beta);
                beta / 2f32.sqrt() * ((1.0 + 2.0 / PI) * angle.sin() + (1.0 - 2.0 / PI) * angle.cos())
            } else {
                ((PI * t * (1.0 - beta)).sin() + corner * (PI * t * (1.0 + beta)).cos())
                    / (PI * t * (1.0 - corner * corner))
            }
        })
    }

    /// Raised cosine with roll-off `beta`: no interference between symbols.
    pub(super) fn raised_cosine(beta: f32) -> Self {
        Self::new(6, |t| {
            let edge = 2.0 * beta * t;
            if (edge.abs() - 1.0).abs() < 1e-3 {
                PI / 4.0 * sinc(1.0 / (2.0 * beta))
            } else {
                sinc(t) * (PI * beta * t).cos() / (1.0 - edge * edge)
            }
        })
    }

    /// One symbol long, with raised-cosine edges that take the share `edge` (above 0, at most 1) of a symbol.
    pub(super) fn rectangle(edge: f32) -> Self {
        Self::new(1, |t| {
            let inside = (0.5 + edge / 2.0 - t.abs()) / edge;
            0.5 - 0.5 * (PI * inside.clamp(0.0, 1.0)).cos()
        })
    }

    /// A one-symbol rectangle through the Gaussian filter of GFSK and GMSK with bandwidth-time product `bt`
    /// (3GPP TS 45.004 §2.5 gives the same pulse for bt = 0.3).
    pub(super) fn gaussian(bt: f32) -> Self {
        // σ of the filter's impulse response in symbols.
        let sigma = 2f32.ln().sqrt() / (2.0 * PI * bt);
        Self::new(3, |t| {
            0.5 * (erf((t + 0.5) / (sigma * 2f32.sqrt())) - erf((t - 0.5) / (sigma * 2f32.sqrt())))
        })
    }

    /// The pulse at `t` symbols from its middle.
    fn at(&self, t: f32) -> f32 {
        let place = (t + self.span as f32) * RESOLUTION as f32;
        if place < 0.0 || place >= (self.table.len() - 1) as f32 {
            return 0.0;
        }
        let index = place as usize;
        let rest = place - index as f32;
        self.table[index] * (1.0 - rest) + self.table[index + 1] * rest
    }

    /// `len` samples of `Σₖ aₖ·p(n/sps − k − offset)`, where symbol `aₖ = symbol(k)` for k ≥
    /// 0; `sps` samples a symbol need not be whole. The first `span` symbols lie before the first sample.
    pub(super) fn train<T>(&self, len: usize, sps: f32, offset: f32, mut symbol: impl FnMut() -> T) -> Vec<T>
    where
        T: Copy + Default + std::ops::Mul<f32, Output = T> + std::ops::AddAssign,
    {
        let count = (len as f32 / sps).ceil() as usize + 2 * self.span + 2;
        let symbols: Vec<T> = (0..count).map(|_| symbol()).collect();
        (0..len)
            .map(|n| {
                // Time in symbols; symbol k stands at k.
                let now = (n as f64 / f64::from(sps)) as f32 + self.span as f32 + offset;
                let first = (now - self.span as f32).ceil().max(0.0) as usize;
                let last = ((now + self.span as f32).floor() as usize).min(count - 1);
                let mut sum = T::default();
                for (k, &a) in symbols.iter().enumerate().take(last + 1).skip(first) {
                    sum += a * self.at(now - k as f32);
                }
                sum
            })
            .collect()
    }
}

/// A constant-envelope signal from its frequency in cycles per sample.
pub(super) fn integrate(frequency: &[f32]) -> Vec<Complex32> {
    let mut turns = 0f64;
    frequency
        .iter()
        .map(|&f| {
            turns = (turns + f64::from(f)).fract();
            Complex32::from_polar(1.0, turns as f32 * 2.0 * PI)
        })
        .collect()
}

/// The error function to 5e-4 (Abramowitz and Stegun, 7.1.27): ample for a pulse shape.
fn erf(x: f32) -> f32 {
    let z = x.abs();
    let poly = 1.0 + z * (0.278_393 + z * (0.230_389 + z * (0.000_972 + z * 0.078_108)));
    (1.0 - poly.powi(4).recip()).copysign(x)
}
