//! Logarithms of powers, in a form that vectorises.

use crate::{FrameError, Log};

/// Takes the logarithm of every power in place.
///
/// # Errors
/// [`FrameError::Overflow`] for an infinity or NaN, which only finite but very large samples produce.
pub(crate) fn apply(log: Log, floor: f32, values: &mut [f32]) -> Result<(), FrameError> {
    let finite = match log {
        Log::Ln => map(values, |x| ln(x + floor)),
        Log::Log10 => map(values, |x| ln(x + floor) * std::f32::consts::LOG10_E),
        Log::Db => map(values, |x| ln(x.max(floor)) * (10.0 * std::f32::consts::LOG10_E)),
    };
    if finite { Ok(()) } else { Err(FrameError::Overflow) }
}

fn map(values: &mut [f32], f: impl Fn(f32) -> f32) -> bool {
    // Checked here, because this `ln` returns something finite for any input.
    let mut finite = true;
    for x in values {
        finite &= *x <= f32::MAX;
        *x = f(*x);
    }
    finite
}

/// Natural logarithm of a positive, normal, finite `x`, to 1e-6 or two units in the last place.
///
/// `x = m·2^e` with `m` in [√½, √2) gives `e·ln 2 + 2·artanh(s)`, `s = (m - 1)/(m + 1)`, |s| < 0.172: the
/// series to s⁹ is exact to 2e-9. Only integer and float arithmetic without a branch, so that the compiler
/// makes vectors of it.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let exponent = (bits - SQRT_HALF) >> 23;
    let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * (s + s * series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_exact_to_two_units_over_all_normal_magnitudes() {
        let mut x = f32::MIN_POSITIVE;
        while x < f32::MAX / 1.0001 {
            let exact = f64::from(x).ln();
            let error = (f64::from(ln(x)) - exact).abs();
            assert!(error < 2.4e-7 * exact.abs().max(0.5), "ln({x}) is off by {error}");
            x *= 1.0001;
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(f32::MAX) - f32::MAX.ln()).abs() < 1e-5);
    }

    #[test]
    fn non_finite_values_are_refused() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            for log in [Log::Ln, Log::Log10, Log::Db] {
                let mut values = [1.0, 2.0, bad, 3.0];
                assert_eq!(apply(log, 1e-10, &mut values), Err(FrameError::Overflow));
            }
        }
    }

    #[test]
    fn the_three_logs() {
        let all = |log| {
            let mut values = [0.0, 1.0, 100.0];
            apply(log, 1e-10, &mut values).unwrap();
            values
        };
        let close =
            |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
        assert!(close(all(Log::Ln), [-23.025_85, 0.0, 4.605_17]));
        assert!(close(all(Log::Log10), [-10.0, 0.0, 2.0]));
        assert!(close(all(Log::Db), [-100.0, 0.0, 20.0]));
    }
}
