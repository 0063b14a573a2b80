//! A report as one page.

use crate::histogram::{Histogram, Percentiles};
use crate::plot::{Plot, Point, Series, svg};
use crate::report::{Report, SliceReport};
use crate::text::{LevelWords, cpu, frame, knee, level, plain, rate, result};

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fff;--text:#1b1f24;--quiet:#59636e;--grid:#dfe3e8;--s0:#1f66d0;\
--s1:#b8520a;--good:#1a7f37;--bad:#c21f2d}\
@media(prefers-color-scheme:dark){:root{--page:#14171b;--text:#e6e9ed;--quiet:#9aa4af;--grid:#2c333b;\
--s0:#6ea8ff;--s1:#f0984f;--good:#4cc26b;--bad:#ff6b70}}\
body{background:var(--page);color:var(--text);font:15px/1.45 system-ui,sans-serif;max-width:46rem;\
margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .8rem .2rem 0;text-align:right;border-bottom:1px solid var(--grid)}\
th:first-child,td:first-child{text-align:left}th{color:var(--quiet);font-weight:500}\
.wide{overflow-x:auto}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}\
svg{width:100%;height:auto;margin:.5rem 0}svg text{fill:var(--quiet);font-size:12px}\
.grid{stroke:var(--grid);fill:none}.line{fill:none;stroke-width:2;stroke-linejoin:round}\
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s0.filled{fill:var(--s0)}.s1.filled{fill:var(--s1)}\
polyline.s1,path.s1{stroke-dasharray:7 3}.hollow{fill:var(--page)}";

/// Returns a report as one HTML page that needs no other file: it has no scripts, and its plots are inline
/// SVG. It is light or dark as the reader prefers.
///
/// It has the plot of the percentiles and of rate and latency over time, latency against the rate where
/// [`Report::knee`] is set, and the tables.
pub fn html(report: &Report) -> String {
    let class = match report.passed() && !report.answers_differ() {
        false => "bad",
        true if report.levels.is_empty() => "",
        true => "good",
    };
    // What comes behind the colon is said below.
    let (verdict, more) = result(report).split_once(": ").unwrap_or((result(report), ""));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Load test</title>\
         <style>{STYLE}</style></head><body><h1>Load test: <span class=\"{class}\">{verdict}</span></h1>"
    );
    for reason in &report.validity.reasons {
        page += &format!("<p class=\"bad\">{}</p>", escape(reason));
    }
    if !more.is_empty() {
        page += &format!("<p>{more}</p>");
    }
    page += &format!("<p>{}</p>", escape(&rate(report)));
    page += &levels(report);
    page += &section("Latency", &(percentile_table(report) + &percentile_plot(report)));
    page += &section("Over time", &(rate_plot(report) + &time_plot(report)));
    page += &knee_plot(report);
    page += &section("Requests", &requests(report));
    page += &costs(report);
    let run = report.run.iter().map(|(key, value)| vec![key.clone(), plain(value)]);
    let size = vec!["frame".to_owned(), frame(report)];
    page += &section("Run", &table(&[], run.chain([size])));
    page + "</body></html>\n"
}

fn section(title: &str, content: &str) -> String {
    format!("<h2>{title}</h2>{content}")
}

/// A table of texts, which are escaped.
fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    let row = |row: Vec<String>| {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{cells}</tr>")
    };
    format!("<div class=\"wide\"><table><tr>{heads}</tr>{}</table></div>", rows.map(row).collect::<String>())
}

fn levels(report: &Report) -> String {
    if report.levels.is_empty() {
        return String::new();
    }
    let rows = report.levels.iter().map(|verdict| {
        let LevelWords { name, measured, target } = level(verdict);
        let met = if verdict.met { "met" } else { "missed" };
        vec![name, target, measured, met.to_owned()]
    });
    section("Levels", &table(&["level", "must be", "measured", ""], rows))
}

fn percentile_table(report: &Report) -> String {
    let measured = &report.measured;
    let rows = [
        ("latency", measured.latency_ms),
        ("service time", measured.service_ms),
        ("cache hits' latency", measured.hit_latency_ms),
        ("sent late by", measured.lag_ms),
    ];
    let rows = rows.into_iter().filter_map(|(name, percentiles)| {
        let Percentiles { p50, p90, p95, p99, p999, max, mean } = percentiles?;
        let values = [p50, p90, p95, p99, p999, max, mean].map(|value| format!("{value:.3}"));
        Some([name.to_owned()].into_iter().chain(values).collect())
    });
    table(&["ms", "p50", "p90", "p95", "p99", "p99.9", "max", "mean"], rows)
}

/// Latency and service time against the percentile, on a logarithmic axis of what is above it.
fn percentile_plot(report: &Report) -> String {
    let nines = (report.latency.count().max(10) as f64).log10();
    let curve = |histogram: &Histogram| {
        let points = (0..).map(|step| f64::from(step) / 20.0).take_while(|&x| x <= nines);
        let quantile = |x: f64| histogram.quantile_ms(1.0 - 10_f64.powf(-x)).map(|ms| Point::new(x, ms));
        points.filter_map(quantile).collect()
    };
    let ticks = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
    svg(&Plot {
        title: "Latency by percentile",
        x_label: "percentile",
        y_label: "ms",
        x_ticks: ticks.into_iter().zip(0..).map(|(label, x)| (f64::from(x), label.to_owned())).collect(),
        series: vec![
            Series { name: "latency, from when due", points: curve(&report.latency) },
            Series { name: "service time, from when sent", points: curve(&report.service) },
        ],
    })
}

fn rate_plot(report: &Report) -> String {
    let line = |name, count: fn(&SliceReport) -> u64| Series {
        name,
        points: whole(report).map(|slice| Point::new(slice.second as f64, count(slice) as f64)).collect(),
    };
    svg(&Plot {
        title: "Answers and failures a second, over time",
        x_label: "s",
        y_label: "a second",
        x_ticks: Vec::new(),
        series: vec![line("answered", |slice| slice.answered), line("failed", |slice| slice.failed)],
    })
}

fn time_plot(report: &Report) -> String {
    let line = |name, value: fn(&SliceReport) -> Option<f64>| Series {
        name,
        points: whole(report)
            .filter_map(|slice| Some(Point::new(slice.second as f64, value(slice)?)))
            .collect(),
    };
    svg(&Plot {
        title: "Latency over time",
        x_label: "s, when due",
        y_label: "ms",
        x_ticks: Vec::new(),
        series: vec![line("p50", |slice| slice.p50_ms), line("p99", |slice| slice.p99_ms)],
    })
}

/// The whole seconds: what came in a part of one is no rate.
fn whole(report: &Report) -> impl Iterator<Item = &SliceReport> {
    report.slices.iter().take(report.measured.seconds as usize)
}

fn knee_plot(report: &Report) -> String {
    let (Some(knee), Some(found)) = (&report.knee, knee(report)) else { return String::new() };
    let line = |name, value: fn(&crate::knee::Step) -> Option<f64>| Series {
        name,
        points: knee
            .curve
            .iter()
            .filter_map(|step| Some(Point { x: step.rate, y: value(step)?, mark: Some(step.met) }))
            .collect(),
    };
    let plot = svg(&Plot {
        title: "Latency against the rate",
        x_label: "frames/s; hollow where levels were missed or the generator could not send",
        y_label: "ms",
        x_ticks: Vec::new(),
        series: vec![line("p50", |step| step.p50_ms), line("p99", |step| step.p99_ms)],
    });
    section("Latency against the rate", &format!("<p>{}</p>{plot}", escape(&found)))
}

fn requests(report: &Report) -> String {
    let measured = &report.measured;
    let counts = [
        ("due", measured.requests),
        ("answered", measured.answered),
        ("of these from the cache", measured.hits),
        ("timed out", measured.timed_out),
        ("not sent by the generator", measured.not_sent),
    ];
    let counts = counts.into_iter().map(|(name, count)| vec![name.to_owned(), count.to_string()]);
    let failures = measured.failures.iter();
    let failures = failures.map(|(code, count)| vec![format!("failed: {code}"), count.to_string()]);
    table(&["", "count"], counts.chain(failures))
}

fn costs(report: &Report) -> String {
    let rows = cpu(report).into_iter().map(|(name, costs)| {
        let values = [costs.us_per_frame, costs.us_per_megasample].map(|value| format!("{value:.1}"));
        [name].into_iter().chain(values).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    match rows.is_empty() {
        true => String::new(),
        false => section("CPU time", &table(&["µs", "a frame", "a megasample"], rows.into_iter())),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knee::{Knee, Step};
    use crate::recorder::Recorder;
    use crate::testing::{report, run};

    fn with_knee() -> Report {
        let step = |rate, met| Step {
            rate,
            p50_ms: Some(2.0),
            p99_ms: Some(rate / 10.0),
            met,
            generator_limited: false,
        };
        let curve = vec![step(100.0, true), step(200.0, true), step(400.0, false)];
        let knee = Knee { rate: Some(200.0), at_limit: false, generator_limited: false, curve };
        Report { knee: Some(knee), ..report(20, 20.0, 90, 1) }
    }

    #[test]
    fn the_page_needs_no_other_file() {
        let page = html(&with_knee());
        assert!(page.contains("MS/s") && page.contains("Gbit/s"));
        for word in ["http", "href", "src=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme:dark"));
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn what_a_report_says_is_escaped() {
        let mut report = with_knee();
        report.run.insert("<script>".to_owned(), "a'b".into());
        report.measured.failures.insert("<img onerror=x>".to_owned(), 1);
        report.validity.reasons.push("<b>".to_owned());
        report.levels[0].name = "<i>".to_owned();
        let page = html(&report);
        assert!(page.contains("nats://&lt;host&gt;&amp;&quot;co&quot;") && page.contains("a&#39;b"));
        assert!(["<script", "<img", "<b>", "<i>"].into_iter().all(|tag| !page.contains(tag)));
    }

    #[test]
    fn every_part_is_there_and_the_knee_only_where_it_was_searched() {
        let page = html(&with_knee());
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!((page.matches("filled\"").count(), page.matches("hollow\"").count()), (4, 2));
        assert!(page.contains("<td>p99 of latency</td><td>at most 750.000 ms</td>"));
        assert!(page.contains("the highest rate that meets every level"), "the knee in words");
        assert!(page.contains("<td>daemon&#39;s CPU</td><td>90.1</td>"), "some answers came after the end");
        assert_eq!(html(&report(20, 20.0, 90, 1)).matches("<svg").count(), 3);
        let empty = html(&Report::new(&Recorder::new(None).unwrap(), run()));
        assert!(empty.contains("INVALID") && !empty.contains("NaN"));
    }
}
