//! Prometheus's text format, and OpenMetrics, which has exemplars.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::catalogue::{Metric, MetricKind};
use super::family::{Family, Reading, Value};
use super::histogram::{Buckets, Exemplar};

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that the `Accept` header of a request asks for.
    pub fn asked_for(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes a reading.
pub fn write(reading: &Reading, format: Format) -> String {
    let mut page = Page { text: String::with_capacity(32 << 10), format };
    for family in reading.families() {
        page.family(family);
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn family(&mut self, family: &Family) {
        let metric = family.metric;
        let name = metric.prometheus_name();
        // OpenMetrics names a counter's family without its suffix.
        let title = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(&name),
            Format::Text => &name,
        };
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {title} {}\n# TYPE {title} {kind}\n", metric.help));
        for point in &family.points {
            let labels = labels(metric, &point.labels);
            match &point.value {
                Value::Number(number) => {
                    self.line(format_args!("{name}{} {}\n", braced(&labels, ""), Number(*number)))
                }
                Value::Buckets(buckets) => self.buckets(&name, &labels, buckets),
            }
        }
    }

    fn buckets(&mut self, name: &str, labels: &str, buckets: &Buckets) {
        let mut below = 0;
        let bounds = buckets.bounds.iter().copied().chain([f64::INFINITY]);
        for (index, (bound, count)) in bounds.zip(&buckets.counts).enumerate() {
            below += count;
            let bound = format!("le=\"{}\"", Number(bound));
            self.line(format_args!("{name}_bucket{} {below}", braced(labels, &bound)));
            if self.format == Format::OpenMetrics
                && let Some(Some(exemplar)) = buckets.exemplars.get(index)
            {
                self.exemplar(exemplar);
            }
            self.text.push('\n');
        }
        self.line(format_args!("{name}_sum{} {}\n", braced(labels, ""), Number(buckets.sum)));
        self.line(format_args!("{name}_count{} {below}\n", braced(labels, "")));
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let time = exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let Exemplar { value, trace_id, span_id, .. } = exemplar;
        self.line(format_args!(
            " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {} {time:.3}",
            Number(*value)
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
    }
}

fn labels(metric: &Metric, values: &[String]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> = metric
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    pairs.join(",")
}

fn braced(labels: &str, bound: &str) -> String {
    match (labels, bound) {
        ("", "") => String::new(),
        ("", only) | (only, "") => format!("{{{only}}}"),
        _ => format!("{{{labels},{bound}}}"),
    }
}

struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::catalogue as metrics;
    use super::super::histogram::Histogram;
    use super::*;

    fn reading() -> Reading {
        let mut reading = Reading::default();
        reading.count(&metrics::FRAMES_SHED, ["queue_full", "a\"\\\n"], 3);
        reading.number(&metrics::SESSION_BUSY, ["0"], 0.25);
        reading.count(&metrics::NATS_CONNECTED, [], 1);
        let mut histogram = Histogram::default();
        histogram.record(
            0.003,
            Some((0xab.into(), 0xcd.into())),
            SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        );
        histogram.record(100.0, None, SystemTime::UNIX_EPOCH);
        reading.buckets(&metrics::STAGE_DURATION, ["queue"], histogram.read());
        reading
    }

    #[test]
    fn text_has_names_labels_and_cumulative_buckets() {
        let text = write(&reading(), Format::Text);
        for line in [
            "# TYPE sferic_frames_shed_total counter",
            r#"sferic_frames_shed_total{reason="queue_full",source="a\"\\\n"} 3"#,
            r#"sferic_session_busy_seconds_total{session="0"} 0.25"#,
            "sferic_nats_connected 1",
            r#"sferic_stage_duration_seconds_bucket{stage="queue",le="0.0025"} 0"#,
            r#"sferic_stage_duration_seconds_bucket{stage="queue",le="0.005"} 1"#,
            r#"sferic_stage_duration_seconds_bucket{stage="queue",le="60"} 1"#,
            r#"sferic_stage_duration_seconds_bucket{stage="queue",le="+Inf"} 2"#,
            r#"sferic_stage_duration_seconds_sum{stage="queue"} 100.003"#,
            r#"sferic_stage_duration_seconds_count{stage="queue"} 2"#,
        ] {
            assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn openmetrics_has_exemplars_and_an_end() {
        assert_eq!(
            Format::asked_for("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
            Format::OpenMetrics
        );
        let text = write(&reading(), Format::OpenMetrics);
        let exemplar = format!(r#" # {{trace_id="{:032x}",span_id="{:016x}"}} 0.003 1.500"#, 0xab, 0xcd);
        assert!(text.contains(&format!("le=\"0.005\"}} 1{exemplar}\n")), "{text}");
        assert!(text.contains("# TYPE sferic_frames_shed counter\nsferic_frames_shed_total{"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
