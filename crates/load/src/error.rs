//! Settings outside their range.

/// A number that is not in its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {value}, must be {limit}")]
pub struct OutOfRange {
    /// What the number is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// The range, in words.
    pub limit: &'static str,
}

/// Returns a rate in requests a second if it is finite and above 0.
pub(crate) fn checked_rate(name: &'static str, rate: f64) -> Result<f64, OutOfRange> {
    match rate.is_finite() && rate > 0.0 {
        true => Ok(rate),
        false => Err(OutOfRange { name, value: rate, limit: "a finite number above 0" }),
    }
}
