//! When the requests of an open-loop run are due.

use std::time::Duration;

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::Exp1;

use crate::error::{OutOfRange, checked_rate};

/// The schedule of an open-loop run: an iterator of offsets from the start of the run, in order.
///
/// It does not depend on answers. All but a recorded one are endless: bound them by a count with
/// [`Iterator::take`] or by a time with [`Arrivals::within`].
#[derive(Debug, Clone)]
pub struct Arrivals(Schedule);

#[derive(Debug, Clone)]
enum Schedule {
    Bursts { rate: f64, size: u32, count: u64 },
    Poisson { rate: f64, seconds: f64, rng: Xoshiro256PlusPlus },
    Recorded(std::vec::IntoIter<Duration>),
}

impl Arrivals {
    /// Requests at equal distances, the first at 0; `rate` is in requests a second.
    ///
    /// # Errors
    /// A rate that is not finite or not above 0.
    pub fn even(rate: f64) -> Result<Self, OutOfRange> {
        Self::bursts(rate, 1)
    }

    /// `size` requests at once, at equal distances that keep the mean `rate` in requests a second.
    ///
    /// # Errors
    /// A rate that is not finite or not above 0, or a size of 0.
    pub fn bursts(rate: f64, size: u32) -> Result<Self, OutOfRange> {
        if size == 0 {
            return Err(OutOfRange { name: "burst size", value: 0.0, limit: "at least 1" });
        }
        Ok(Self(Schedule::Bursts { rate: checked_rate("rate", rate)?, size, count: 0 }))
    }

    /// A Poisson process: independent, exponentially distributed gaps; `rate` is in requests a second.
    ///
    /// The same seed gives the same schedule on every platform.
    ///
    /// # Errors
    /// A rate that is not finite or not above 0.
    pub fn poisson(rate: f64, seed: u64) -> Result<Self, OutOfRange> {
        let rate = checked_rate("rate", rate)?;
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Ok(Self(Schedule::Poisson { rate, seconds: 0.0, rng }))
    }

    /// A recorded schedule, replayed once; offsets out of order are sorted.
    pub fn recorded(mut offsets: Vec<Duration>) -> Self {
        offsets.sort_unstable();
        Self(Schedule::Recorded(offsets.into_iter()))
    }

    /// The arrivals before `limit`, which is an offset from the start.
    pub fn within(self, limit: Duration) -> impl Iterator<Item = Duration> {
        self.take_while(move |&offset| offset < limit)
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = match &mut self.0 {
            Schedule::Recorded(offsets) => return offsets.next(),
            Schedule::Bursts { rate, size, count } => {
                // Multiplied rather than summed: rounding does not build up over a long run.
                let burst = *count / u64::from(*size);
                *count += 1;
                burst as f64 * f64::from(*size) / *rate
            }
            Schedule::Poisson { rate, seconds, rng } => {
                let gap: f64 = Exp1.sample(rng);
                *seconds += gap / *rate;
                *seconds
            }
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A line that is no offset.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}: {value:?} is not an offset: write seconds from the start, at least 0, as in 0.25")]
pub struct OffsetError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What it says.
    pub value: String,
}

/// Reads offsets in seconds from the start of the run, one a line; empty lines are skipped.
///
/// # Errors
/// The first line that is not a number of seconds, or is negative or not finite.
pub fn read_offsets(text: &str) -> Result<Vec<Duration>, OffsetError> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(index, value)| offset(value).ok_or_else(|| not_an_offset(index, value))).collect()
}

fn offset(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

fn not_an_offset(index: usize, value: &str) -> OffsetError {
    OffsetError { line: index + 1, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn even_arrivals_have_their_rate_and_equal_gaps() {
        let offsets: Vec<_> = Arrivals::even(250.0).unwrap().within(MINUTE).collect();
        assert_eq!((offsets.len(), offsets[0]), (15_000, Duration::ZERO));
        assert_eq!(offsets[14_999], Duration::from_millis(59_996));
        assert_eq!(Arrivals::even(3.0).unwrap().take(7).count(), 7);
    }

    #[test]
    fn bursts_come_at_once_and_keep_the_rate() {
        let offsets: Vec<_> = Arrivals::bursts(100.0, 20).unwrap().within(MINUTE).collect();
        assert_eq!(offsets.len(), 6000);
        assert!(offsets.chunks(20).all(|burst| burst.iter().all(|&offset| offset == burst[0])));
        assert_eq!(offsets[20] - offsets[19], Duration::from_millis(200));
    }

    #[test]
    fn poisson_arrivals_have_their_rate_exponential_gaps_and_follow_from_the_seed() {
        let offsets = |seed| -> Vec<_> { Arrivals::poisson(500.0, seed).unwrap().within(MINUTE).collect() };
        let first = offsets(7);
        let count = first.len() as f64;
        assert!((count - 30_000.0).abs() < 5.0 * 30_000_f64.sqrt(), "{count}");
        let gaps: Vec<f64> = first.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "deviation {} of {mean}", variance.sqrt());
        let long = gaps.iter().filter(|&&gap| gap > 3.0 * mean).count() as f64 / count;
        assert!((long - (-3.0_f64).exp()).abs() < 0.01, "{long}");
        assert!(first == offsets(7) && first != offsets(8));
    }

    #[test]
    fn recorded_arrivals_are_read_and_a_bad_line_is_named() {
        let offsets = read_offsets("0\n 0.25\n\n1e1\n").unwrap();
        let replayed: Vec<_> = Arrivals::recorded(offsets).map(|offset| offset.as_secs_f64()).collect();
        assert_eq!(replayed, [0.0, 0.25, 10.0]);
        for bad in ["-1", "soon", "inf", "NaN", "1e99"] {
            let error = read_offsets(&format!("0.5\n\n{bad}\n")).unwrap_err();
            assert_eq!((error.line, error.value.as_str()), (3, bad));
        }
    }

    #[test]
    fn rates_that_cannot_be_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Arrivals::even(rate).is_err() && Arrivals::poisson(rate, 1).is_err(), "{rate}");
        }
        let error = Arrivals::bursts(1.0, 0).unwrap_err();
        assert_eq!(error.to_string(), "burst size is 0, must be at least 1");
        // One request in longer than a Duration can be: the first is sent and the schedule ends.
        assert_eq!(Arrivals::even(1e-300).unwrap().count(), 1);
    }
}
