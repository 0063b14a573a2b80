//! HDR histograms of times, which are merged and written as text.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::ser::Error;
use serde::{Deserialize, Serialize};

/// The longest time that is recorded; longer ones count as this.
pub const MAX_LATENCY: Duration = Duration::from_secs(600);

/// A histogram of times from 1 µs to [`MAX_LATENCY`], in whole microseconds.
///
/// It is serialized as base64 of HDR's V2 format with DEFLATE, which the HdrHistogram libraries of other
/// languages read and merge.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Histogram(hdrhistogram::Histogram<u32>);

/// A histogram that cannot be made, read or merged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no histogram: {0}")]
pub struct HistogramError(String);

impl HistogramError {
    /// An error of the library.
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Percentiles of times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Histogram {
    /// Creates an empty histogram; values are kept to `digits` significant decimal digits, 0 to 5.
    ///
    /// # Errors
    /// More than five digits.
    pub fn new(digits: u8) -> Result<Self, HistogramError> {
        let max = MAX_LATENCY.as_micros() as u64;
        hdrhistogram::Histogram::new_with_bounds(1, max, digits).map(Self).map_err(HistogramError::of)
    }

    /// Adds one time, rounded to a microsecond.
    pub fn record(&mut self, time: Duration) {
        let micros = (time.min(MAX_LATENCY).as_nanos() + 500) / 1000;
        self.0.saturating_record((micros as u64).max(1));
    }

    /// Adds all times of another histogram.
    ///
    /// # Errors
    /// A histogram written by other software, with times beyond [`MAX_LATENCY`].
    pub fn merge(&mut self, other: &Self) -> Result<(), HistogramError> {
        self.0.add(&other.0).map_err(HistogramError::of)
    }

    /// Returns how many times were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the time in milliseconds that a share `quantile` (0 to 1) does not exceed; `None` if empty.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// Returns the percentiles of a report, in milliseconds; `None` if empty.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.quantile_ms(0.5)?,
            p90: self.quantile_ms(0.9)?,
            p95: self.quantile_ms(0.95)?,
            p99: self.quantile_ms(0.99)?,
            p999: self.quantile_ms(0.999)?,
            max: self.0.max() as f64 / 1e3,
            mean: self.0.mean() / 1e3,
        })
    }

    /// Returns the values that were recorded, in microseconds and ascending, with how often each was.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), u64::from(step.count_at_value())))
    }

    /// Returns the library's histogram, in microseconds.
    pub(crate) fn inner(&self) -> &hdrhistogram::Histogram<u32> {
        &self.0
    }

    /// Returns the histogram as base64 of HDR's V2 format with DEFLATE.
    ///
    /// # Errors
    /// A histogram larger than the memory that can be addressed.
    pub fn to_base64(&self) -> Result<String, HistogramError> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).map_err(HistogramError::of)?;
        Ok(BASE64_STANDARD.encode(bytes))
    }

    /// Reads base64 of HDR's V2 format, with or without DEFLATE.
    ///
    /// # Errors
    /// Text that is no base64, or bytes that are no histogram.
    pub fn from_base64(text: &str) -> Result<Self, HistogramError> {
        let bytes = BASE64_STANDARD.decode(text).map_err(HistogramError::of)?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map(Self).map_err(HistogramError::of)
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} times, {:?}", self.count(), self.percentiles())
    }
}

impl TryFrom<String> for Histogram {
    type Error = HistogramError;

    fn try_from(text: String) -> Result<Self, HistogramError> {
        Self::from_base64(&text)
    }
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64().map_err(S::Error::custom)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new(3).unwrap();
        millis.into_iter().for_each(|ms| histogram.record(Duration::from_millis(ms)));
        histogram
    }

    #[test]
    fn percentiles_are_within_three_digits() {
        assert_eq!(of([]).percentiles(), None);
        let percentiles = of(1..=1000).percentiles().unwrap();
        let expected = [(percentiles.p50, 500.0), (percentiles.p90, 900.0), (percentiles.p95, 950.0)];
        let rest = [(percentiles.p99, 990.0), (percentiles.p999, 999.0), (percentiles.max, 1000.0)];
        for (value, expected) in expected.into_iter().chain(rest).chain([(percentiles.mean, 500.5)]) {
            assert!((value / expected - 1.0).abs() < 1e-3, "{value} instead of {expected}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_counts_as_the_ends() {
        let mut histogram = of([]);
        histogram.record(Duration::ZERO);
        histogram.record(Duration::MAX);
        assert_eq!((histogram.count(), histogram.quantile_ms(0.5)), (2, Some(1e-3)));
        assert!((histogram.quantile_ms(1.0).unwrap() / 6e5 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn text_merges_to_the_histogram_of_all() {
        let (low, high) = (of(1..500), of(500..=1000));
        let read = |histogram: &Histogram| Histogram::from_base64(&histogram.to_base64().unwrap()).unwrap();
        assert_eq!(read(&low), low);
        let mut merged = read(&low);
        merged.merge(&read(&high)).unwrap();
        assert_eq!(merged, of(1..=1000));
        assert_eq!(
            serde_json::from_str::<Histogram>(&serde_json::to_string(&merged).unwrap()).unwrap(),
            merged
        );
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["", "?", "AAAA", &of(1..9).to_base64().unwrap()[..20]] {
            assert!(Histogram::from_base64(text).is_err(), "{text}");
        }
    }
}
