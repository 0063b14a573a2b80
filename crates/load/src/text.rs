//! Reports for people.

use crate::compare::Comparison;
use crate::histogram::Percentiles;
use crate::report::{FrameCosts, Report};

/// Returns a report as lines of text.
pub fn text(report: &Report) -> String {
    let measured = &report.measured;
    let mut lines: Vec<String> = report.run.iter().map(|(key, value)| row(key, &plain(value))).collect();
    lines.push(String::new());
    let ends = [
        (measured.answered, "answered"),
        (measured.failed, "failed"),
        (measured.timed_out, "timed out"),
        (measured.not_sent, "not sent"),
    ];
    let ends = ends.map(|(count, end)| format!("{count} {end}")).join(", ");
    lines.push(row("requests", &format!("{} in {:.1} s: {ends}", measured.requests, measured.seconds)));
    lines.extend(measured.failures.iter().map(|(code, count)| row("", &format!("{count} {code}"))));
    let shares = [(measured.success, "answered"), (measured.hit_rate, "of these from the cache")];
    let shares = shares.map(|(share, what)| share.map(|share| format!("{:.2} % {what}", share * 1e2)));
    lines.push(row("shares", &shares.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    lines.push(row("rate", &rate(report)));
    let heads = ["p50", "p90", "p95", "p99", "p99.9", "max", "mean"].map(|head| format!("{head:>10}"));
    lines.push(row("ms", &heads.concat()));
    for (name, percentiles) in [
        ("latency", measured.latency_ms),
        ("service time", measured.service_ms),
        ("hits' latency", measured.hit_latency_ms),
        ("hits' service", measured.hit_service_ms),
        ("sent late by", measured.lag_ms),
    ] {
        lines.extend(percentiles.map(|percentiles| row(name, &columns(&percentiles))));
    }
    for (name, costs) in [("daemon's CPU", measured.cpu.daemon), ("generator's CPU", measured.cpu.generator)]
    {
        lines.extend(costs.map(|costs| row(name, &cost(&costs))));
    }
    lines.push(String::new());
    lines.extend(report.levels.iter().map(|level| {
        let measured = level.measured.map_or("-".to_owned(), |measured| format!("{measured:.3}"));
        let met = if level.met { "met" } else { "MISSED" };
        row(&level.name, &format!("{measured}, level {:.3}: {met}", level.target))
    }));
    lines.extend(report.knee.iter().map(|knee| {
        let limit = if knee.at_limit { " or more" } else { "" };
        let rate = knee.rate.map_or("none".to_owned(), |rate| format!("{rate:.1} requests/s{limit}"));
        row("knee", &rate)
    }));
    lines.extend(report.validity.reasons.iter().map(|reason| row("INVALID", reason)));
    lines.join("\n") + "\n"
}

/// Returns a comparison as lines of text.
pub fn comparison_text(comparison: &Comparison) -> String {
    let mut lines = vec![format!("{:<22}{:>12}{:>12}{:>8}  95 % interval", "", "before", "after", "ratio")];
    lines.extend(comparison.changes.iter().map(|change| {
        let [low, high] = change.interval;
        let (before, after, ratio) = (change.before, change.after, change.ratio);
        let worse = if change.worse { "  WORSE" } else { "" };
        format!("{:<22}{before:>12.3}{after:>12.3}{ratio:>8.3}  {low:.3} to {high:.3}{worse}", change.name)
    }));
    lines.extend(comparison.differences.iter().map(|difference| format!("differs: {difference}")));
    lines.join("\n") + "\n"
}

/// The line on throughput.
pub(crate) fn rate(report: &Report) -> String {
    let measured = &report.measured;
    let (samples, bits) = (measured.megasamples_per_second, measured.gigabits_per_second);
    format!("{:.1} frames/s, {samples:.2} MS/s, {bits:.3} Gbit/s", measured.rate)
}

/// A value as it is shown: text without quotes.
pub(crate) fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn row(name: &str, value: &str) -> String {
    format!("{name:<16}{value}").trim_end().to_owned()
}

fn columns(percentiles: &Percentiles) -> String {
    let Percentiles { p50, p90, p95, p99, p999, max, mean } = *percentiles;
    [p50, p90, p95, p99, p999, max, mean].map(|value| format!("{value:>10.3}")).concat()
}

fn cost(costs: &FrameCosts) -> String {
    format!("{:.1} µs a frame, {:.1} µs a megasample", costs.us_per_frame, costs.us_per_megasample)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::{CompareOptions, compare};
    use crate::recorder::{End, Recorder, Request};
    use crate::testing::{answered, ms, report, run};

    #[test]
    fn a_report_reads_as_a_table() {
        let mut recorder = Recorder::new(Some(Duration::from_secs(1))).unwrap();
        (0..98).for_each(|n| recorder.record(answered(n * 10, 2, n % 2 == 0)));
        let end = End::Failed { code: "overloaded".to_owned() };
        recorder.record(Request { intended: ms(1), sent: ms(1), ended: ms(3), end });
        recorder.record(Request { intended: ms(1), sent: ms(1), ended: ms(3), end: End::NotSent });
        let text = text(&Report::new(&recorder, run()));
        for line in [
            "model           localization",
            "requests        100 in 1.0 s: 98 answered, 1 failed, 0 timed out, 1 not sent",
            "                1 overloaded",
            "shares          98.99 % answered, 50.00 % of these from the cache",
            "rate            98.0 frames/s, 1.20 MS/s, 0.077 Gbit/s",
            "latency              2.000     2.000     2.000     2.000     2.000     2.000     2.000",
            "p99_ms          2.000, level 750.000: met",
            "success         0.990, level 0.990: MISSED",
            "INVALID         the generator did not send 1 requests, 1.00 %, at most 0.1 %",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_comparison_says_what_is_worse() {
        let (before, after) = (report(60, 20.0, 90, 1), report(60, 40.0, 90, 2));
        let text = comparison_text(&compare(&before, &after, CompareOptions::default()).unwrap());
        let worse: Vec<_> = text.lines().filter(|line| line.ends_with("WORSE")).collect();
        assert!(worse.len() == 3 && worse.iter().all(|line| line.starts_with('p')), "{text}");
    }
}
