//! Analysis windows.

use std::f64::consts::TAU;

use crate::Window;

/// The window of `win_length`, centred in `n_fft` zeros as torch and librosa do (the odd zero goes to the
/// right).
pub(crate) fn padded(window: Window, win_length: usize, n_fft: usize) -> Vec<f32> {
    let mut padded = vec![0.0; n_fft];
    let left = (n_fft - win_length) / 2;
    for (k, w) in padded[left..left + win_length].iter_mut().enumerate() {
        *w = value(window, k, win_length) as f32;
    }
    padded
}

/// Sample `k` of a window of `length`: general cosine windows, periodic (`length` in the denominator) or
/// symmetric (`length - 1`), as in scipy.signal.windows.
fn value(window: Window, k: usize, length: usize) -> f64 {
    if length == 1 {
        return 1.0;
    }
    let periodic = TAU * k as f64 / length as f64;
    let symmetric = TAU * k as f64 / (length - 1) as f64;
    match window {
        Window::Hann => 0.5 - 0.5 * periodic.cos(),
        Window::Hamming => 0.54 - 0.46 * periodic.cos(),
        Window::Blackman => 0.42 - 0.5 * periodic.cos() + 0.08 * (2.0 * periodic).cos(),
        Window::HannSymmetric => 0.5 - 0.5 * symmetric.cos(),
        Window::Rectangular => 1.0,
    }
}
