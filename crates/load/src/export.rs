//! Reports for other programs: CSV and HDR's interval log.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::histogram::HistogramError;
use crate::report::Report;

/// Returns a report's seconds as CSV: a header and one row a second. What was not measured is empty.
pub fn csv(report: &Report) -> String {
    let mut text = "second,sent,answered,failed,p50_ms,p99_ms,daemon_cpu_us\n".to_owned();
    for slice in &report.slices {
        let cell = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
        text.push_str(&format!(
            "{},{},{},{},{},{},{}\n",
            slice.second,
            slice.sent,
            slice.answered,
            slice.failed,
            cell(slice.p50_ms),
            cell(slice.p99_ms),
            cell(slice.daemon_cpu_us)
        ));
    }
    text
}

/// Returns a report's latency by seconds as a log in HDR's interval log format, which HdrHistogram's log
/// processors read: values in microseconds, the maximum of each line in milliseconds. `started` is when the
/// measurement began.
///
/// # Errors
/// A histogram that cannot be serialized, or a log that exceeds memory.
pub fn interval_log(report: &Report, started: SystemTime) -> Result<String, HistogramError> {
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
        let expected = "second,sent,answered,failed,p50_ms,p99_ms,daemon_cpu_us\n\
            0,1,1,0,50.175,50.175,\n1,0,0,0,,,\n2,1,1,0,70.143,70.143,\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_interval_log_is_read_back() {
        let report = report(5, 20.0, 100, 1);
        let log = interval_log(&report, SystemTime::UNIX_EPOCH).unwrap();
        let mut merged = Histogram::new(2).unwrap();
        let mut seconds = 0;
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                seconds += 1;
                merged.merge(&Histogram::from_base64(interval.encoded_histogram()).unwrap()).unwrap();
            }
        }
        assert_eq!((seconds, merged.count()), (report.slices.len(), 1000));
    }
}
