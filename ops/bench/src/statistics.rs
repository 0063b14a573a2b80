//! A median with its interval, and other shares of measured values.

use serde::Serialize;

/// The median, and between which values it lies in 95 of 100 cases, whatever the distribution; of fewer than
/// six values, their range.
#[derive(Serialize)]
pub struct Median {
    /// The middle of the values.
    pub median: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Of at least one value.
pub fn median(values: &[f64]) -> Median {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    // How many of `count` lie below the true median is a coin's throws.
    let (mut rank, mut below, mut ways) = (0, 0.0, 0.5f64.powi(count as i32));
    while rank < count / 2 && below + ways <= 0.025 {
        below += ways;
        ways *= (count - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    let low = rank.saturating_sub(1);
    let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
    Median { median, low: sorted[low], high: sorted[count - 1 - low] }
}

/// The value at this share of the sorted values, 0 to 1; NaN where there are none.
pub fn at(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(((sorted.len().saturating_sub(1)) as f64 * share).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
