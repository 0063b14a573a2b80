//! Numbers in messages.

use std::fmt;

/// Formats a number as people write it, in at most two dozen characters: `250000`, `-0.5`, `1e300`,
/// `NaN`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without an exponent, 1e300 has 301 digits.
        let plain = self.0 == 0.0 || !self.0.is_finite() || (1e-5..1e16).contains(&self.0.abs());
        if plain { self.0.fmt(f) } else { write!(f, "{:e}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        let shown = [250e3, -0.5, 0.0, 1e300, -2.5e-7, f64::NAN, f64::NEG_INFINITY]
            .map(|number| Number(number).to_string());
        assert_eq!(shown, ["250000", "-0.5", "0", "1e300", "-2.5e-7", "NaN", "-inf"]);
        for number in
            [f64::MAX, f64::MIN_POSITIVE, -f64::EPSILON, 1.0 / 3.0, 9.999999999999998e15, 1e16, 1e-5]
        {
            let text = Number(number).to_string();
            assert!(text.len() <= 24 && text.parse() == Ok(number), "{text}");
        }
    }
}
