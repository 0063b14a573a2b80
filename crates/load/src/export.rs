//! Reports for other programs: CSV and HDR's interval log.

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::histogram::HistogramError;
use crate::report::{FrameSize, Report};

const HEAD: &str = "second,sent,answered,failed,megasamples,gigabits,p50_ms,p99_ms,daemon_cpu_us\n";

/// Returns a report's seconds as CSV: a header and one row a second. Megasamples and gigabits are those of
/// the frames answered in it. What was not measured is empty.
pub fn csv(report: &Report) -> String {
    let mut text = HEAD.to_owned();
    let FrameSize { samples, bytes } = report.frame;
    for slice in &report.slices {
        let cell = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        text.push_str(&format!(
            "{},{},{},{},{:.6},{:.6},{},{},{}\n",
            slice.second,
            slice.sent,
            slice.answered,
            slice.failed,
            (slice.answered * samples) as f64 / 1e6,
            (slice.answered * bytes) as f64 * 8.0 / 1e9,
            cell(slice.p50_ms),
            cell(slice.p99_ms),
            cell(slice.daemon_cpu_us)
        ));
    }
    text
}

/// Returns a report's latency by seconds as a log in HDR's interval log format, which HdrHistogram's log
/// processors read: values in microseconds, the maximum of each line in milliseconds. The intervals of a log,
/// or of several, merge to the latency of all, to two digits.
///
/// # Errors
/// A histogram that cannot be serialized, or a log that exceeds memory.
pub fn interval_log(report: &Report) -> Result<String, HistogramError> {
    let started = UNIX_EPOCH + Duration::try_from_secs_f64(report.started_s).unwrap_or_default();
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut log = IntervalLogWriterBuilder::new()
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e3)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(HistogramError::of)?;
    for slice in &report.slices {
        let (start, length) = (Duration::from_secs(slice.second), Duration::from_secs(1));
        log.write_histogram(slice.latency.inner(), start, length, None).map_err(HistogramError::of)?;
    }
    String::from_utf8(bytes).map_err(HistogramError::of)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::histogram::Histogram;
    use crate::recorder::Recorder;
    use crate::testing::{answered, report, run};

    #[test]
    fn csv_has_a_row_a_second() {
        let mut recorder = Recorder::new(None).unwrap();
        recorder.record(answered(100, 50, false));
        recorder.record(answered(2100, 70, false));
        let text = csv(&Report::new(&recorder, run()));
        let expected = HEAD.to_owned()
            + "0,1,1,0,0.012288,0.000786,50.175,50.175,\n1,0,0,0,0.000000,0.000000,,,\n\
               2,1,1,0,0.012288,0.000786,70.143,70.143,\n";
        assert_eq!(text, expected);
    }

    /// All intervals of a log merged, and how many there are.
    fn merged(log: &str) -> (Histogram, usize) {
        let (mut merged, mut seconds) = (Histogram::new(2).unwrap(), 0);
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                seconds += 1;
                merged.merge(&Histogram::from_base64(interval.encoded_histogram()).unwrap()).unwrap();
            }
        }
        (merged, seconds)
    }

    #[test]
    fn the_intervals_of_a_log_merge_to_the_latency_of_all() {
        let report = report(20, 20.0, 100, 1);
        let log = interval_log(&report).unwrap();
        assert!(log.contains("#[StartTime: 1700000000.000 "), "{}", &log[..200]);
        let (merged, seconds) = merged(&log);
        assert_eq!((seconds, merged.count()), (report.slices.len(), report.latency.count()));
        for quantile in [0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let [all, whole] = [&merged, &report.latency].map(|of| of.quantile_ms(quantile).unwrap());
            assert!((all / whole - 1.0).abs() < 0.01, "{quantile}: {all} instead of {whole}");
        }
    }
}
