//! Reports for people.

use crate::compare::Comparison;
use crate::histogram::Percentiles;
use crate::levels::Verdict;
use crate::report::{Cpu, FrameCosts, Report};

/// Returns a report as lines of text.
pub fn text(report: &Report) -> String {
    let measured = &report.measured;
    let mut lines: Vec<String> = report.run.iter().map(|(key, value)| row(key, &plain(value))).collect();
    lines.push(row("frame", &frame(report)));
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
    lines.push(row("", "latency is from when a frame was due, service time from when it was sent"));
    lines.extend(cpu(report).iter().map(|(name, costs)| row(name, &cost(costs))));
    lines.push(String::new());
    for verdict in &report.levels {
        let LevelWords { name, measured, target } = level(verdict);
        let met = if verdict.met { "met" } else { "MISSED" };
        lines.push(row(&name, &format!("{measured}, must be {target}: {met}")));
    }
    lines.extend(knee(report).map(|knee| row("knee", &knee)));
    let flaw = if report.passed() { "but" } else { "INVALID" };
    lines.extend(report.validity.reasons.iter().map(|reason| row(flaw, reason)));
    lines.push(row("result", result(report)));
    lines.join("\n") + "\n"
}

/// The size of a frame.
pub(crate) fn frame(report: &Report) -> String {
    format!("{} samples, {} bytes as it is sent", report.frame.samples, report.frame.bytes)
}

/// What came out, in a sentence.
pub(crate) fn result(report: &Report) -> &'static str {
    match (report.validity.valid, report.passed()) {
        _ if report.knee.as_ref().is_some_and(|knee| knee.rate.is_some()) => "every level met at the knee",
        (false, _) if report.validity.generator_limited => {
            "INVALID: the generator did not keep up, so this says nothing of the daemon; take a lower \
             rate, or give the generator cores of its own"
        }
        (false, _) => "INVALID: frames were not sent, or none was answered",
        (true, _) if report.answers_differ() => "answers differ from those of the same frames one at a time",
        (true, false) => "levels missed",
        (true, true) if report.levels.is_empty() => "not judged: there are no levels",
        (true, true) => "every level met",
    }
}

/// A level in words.
pub(crate) struct LevelWords {
    /// What is judged.
    pub(crate) name: String,
    /// What was measured, with its unit.
    pub(crate) measured: String,
    /// What it must be.
    pub(crate) target: String,
}

/// A level and what was measured of it, in words.
pub(crate) fn level(verdict: &Verdict) -> LevelWords {
    let shown = |format: fn(f64) -> String| {
        (verdict.measured.map_or("nothing measured".to_owned(), format), format(verdict.target))
    };
    let (name, is_share) = match verdict.name.as_str() {
        "p95_ms" => ("p95 of latency", false),
        "p99_ms" => ("p99 of latency", false),
        "success" => ("answered", true),
        "hit_rate" => ("from the cache", true),
        other => (other, !other.ends_with("_ms")),
    };
    let (measured, target) = match is_share {
        true => shown(|share| format!("{:.2} %", share * 1e2)),
        false => shown(|ms| format!("{ms:.3} ms")),
    };
    let target = format!("{} {target}", if is_share { "at least" } else { "at most" });
    LevelWords { name: name.to_owned(), measured, target }
}

/// What a search for the knee found, in words; `None` where there was none.
pub(crate) fn knee(report: &Report) -> Option<String> {
    let knee = report.knee.as_ref()?;
    let words = |rate: f64| {
        let (samples, bits) =
            (rate * report.frame.samples as f64 / 1e6, rate * report.frame.bytes as f64 * 8e-9);
        format!("{rate:.1} frames/s, {samples:.2} MS/s, {bits:.3} Gbit/s")
    };
    let lowest = || knee.curve.first().map_or(0.0, |step| step.rate);
    Some(match knee.rate {
        Some(rate) if knee.generator_limited => {
            format!("at least {}; the generator could not send more", words(rate))
        }
        Some(rate) if knee.at_limit => format!("at least {}; no higher rate was tried", words(rate)),
        Some(rate) => format!("{}: the highest rate that meets every level", words(rate)),
        None if knee.generator_limited => {
            format!("not known: the generator could not send {:.1} frames/s", lowest())
        }
        None => format!("none: no rate meets every level, down to {:.1} frames/s", lowest()),
    })
}

/// The CPU time of both sides, named.
pub(crate) fn cpu(report: &Report) -> Vec<(String, FrameCosts)> {
    let Cpu { daemon, daemon_by_thread, process, generator } = &report.measured.cpu;
    let threads = daemon_by_thread.iter().map(|(kind, costs)| (format!("  {kind}"), *costs));
    let named = |name: &str, costs: &Option<FrameCosts>| costs.map(|costs| (name.to_owned(), costs));
    let daemon = named("daemon's CPU", daemon).into_iter().chain(threads);
    let daemon = daemon.chain(named("  as by --pid", process));
    daemon.chain(named("generator's CPU", generator)).collect()
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
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::compare::{CompareOptions, compare};
    use crate::knee::{Knee, Step};
    use crate::recorder::{End, Recorder, Request};
    use crate::report::Run;
    use crate::testing::{answered, ms, report, run};
    use crate::validity::Validity;

    #[test]
    fn a_report_reads_as_a_table() {
        let mut recorder = Recorder::new(Some(Duration::from_secs(1))).unwrap();
        (0..98).for_each(|n| recorder.record(answered(n * 10, 2, n % 2 == 0)));
        let end = End::Failed { code: "overloaded".to_owned() };
        recorder.record(Request { intended: ms(1), sent: ms(1), ended: ms(3), end });
        recorder.record(Request { intended: ms(1), sent: ms(1), ended: ms(3), end: End::NotSent });
        let run = Run {
            daemon_cpu: Some(ms(196)),
            daemon_cpu_by_thread: BTreeMap::from([("sessions".to_owned(), ms(147))]),
            ..run()
        };
        let text = text(&Report::new(&recorder, run));
        for line in [
            "model           localization",
            "frame           12288 samples, 98304 bytes as it is sent",
            "requests        100 in 1.0 s: 98 answered, 1 failed, 0 timed out, 1 not sent",
            "                1 overloaded",
            "shares          98.99 % answered, 50.00 % of these from the cache",
            "rate            98.0 frames/s, 1.20 MS/s, 0.077 Gbit/s",
            "latency              2.000     2.000     2.000     2.000     2.000     2.000     2.000",
            "p99 of latency  2.000 ms, must be at most 750.000 ms: met",
            "answered        98.99 %, must be at least 99.00 %: MISSED",
            "daemon's CPU    2000.0 µs a frame, 162760.4 µs a megasample",
            "  sessions      1500.0 µs a frame, 122070.3 µs a megasample",
            "INVALID         the generator did not send 1 requests, 1.00 %, at most 0.1 %",
            "result          INVALID: the generator did not keep up, so this says nothing of the daemon; \
             take a lower rate, or give the generator cores of its own",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn answers_that_differ_are_the_result() {
        let mut report = report(2, 20.0, 90, 1);
        report.validity =
            Validity { valid: true, generator_limited: false, only_late: false, reasons: Vec::new() };
        for (different, says) in [(0, "every level met"), (1, "answers differ")] {
            let verified = serde_json::json!({"answers": 5, "equal": 4, "different": different});
            report.run.insert("verified".to_owned(), verified);
            assert!(result(&report).starts_with(says), "{}", result(&report));
        }
    }

    #[test]
    fn a_knee_says_whether_it_is_the_daemons() {
        let step = |rate, met| Step { rate, p50_ms: None, p99_ms: None, met, generator_limited: !met };
        let curve = vec![step(100.0, true), step(105.0, false)];
        let knee = Knee { rate: Some(100.0), at_limit: false, generator_limited: false, curve };
        let words = |knee: Knee| super::knee(&Report { knee: Some(knee), ..report(2, 20.0, 90, 1) }).unwrap();
        let all = "100.0 frames/s, 1.23 MS/s, 0.079 Gbit/s";
        assert_eq!(words(knee.clone()), format!("{all}: the highest rate that meets every level"));
        let limited = Knee { generator_limited: true, ..knee };
        assert_eq!(words(limited.clone()), format!("at least {all}; the generator could not send more"));
        let none = words(Knee { rate: None, ..limited.clone() });
        assert_eq!(none, "not known: the generator could not send 100.0 frames/s");
        let highest = words(Knee { at_limit: true, generator_limited: false, ..limited.clone() });
        assert_eq!(highest, format!("at least {all}; no higher rate was tried"));
        let none = words(Knee { rate: None, generator_limited: false, ..limited });
        assert_eq!(none, "none: no rate meets every level, down to 100.0 frames/s");
    }

    #[test]
    fn a_comparison_says_what_is_worse() {
        let (before, after) = (report(60, 20.0, 90, 1), report(60, 40.0, 90, 2));
        let text = comparison_text(&compare(&before, &after, CompareOptions::default()).unwrap());
        let worse: Vec<_> = text.lines().filter(|line| line.ends_with("WORSE")).collect();
        assert!(worse.len() == 3 && worse.iter().all(|line| line.starts_with('p')), "{text}");
    }
}
