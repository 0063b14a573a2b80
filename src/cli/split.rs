//! How a split and its versions are shown.

use serde_json::Value;

use super::models::plain;
use super::table::Table;

/// The versions of a model with what they have done, and the evidence against each canary.
pub fn shown(answer: &Value) -> String {
    let split = &answer["split"];
    let mut table = Table::new([
        "VERSION", "SHARE", "ANSWERS", "FAILURES", "P50 MS", "P99 MS", "TRUTHS", "ERROR", "SCORE", "COVERAGE",
    ]);
    let versions = answer["versions"].as_object().into_iter().flatten();
    for (version, of) in versions {
        let number = |key: &str, digits: usize| {
            of[key].as_f64().map(|number| format!("{number:.digits$}")).unwrap_or_default()
        };
        let share = split["weights"][version].as_f64().map(|share| format!("{:.1} %", share * 100.0));
        table.row([
            version.clone(),
            share.unwrap_or_default(),
            plain(&of["predictions"]),
            plain(&of["failures"]),
            number("p50_ms", 2),
            number("p99_ms", 2),
            plain(&of["truths"]),
            number("error", 1),
            number("score", 3),
            number("coverage", 3),
        ]);
    }
    let model = plain(&answer["model"]);
    let mut lines = vec![match (split.is_null(), &answer["ended"]) {
        (false, _) => format!("{model}: split by {}", plain(&split["key"])),
        (true, Value::Null) => format!("{model}: no split"),
        (true, ended) => format!("{model}: no split; the last one: {}", plain(ended)),
    }];
    lines.push(table.to_string().trim_end().to_owned());
    for each in split["comparisons"].as_array().into_iter().flatten() {
        let evidence = &each["evidence"];
        let of = |key: &str| evidence[key].as_f64().unwrap_or_default();
        lines.push(format!(
            "{} against {}: evidence that it is worse: failures {:.2}, latency {:.2}, score {:.2}; {:.0} is \
             enough",
            plain(&each["canary"]),
            plain(&each["baseline"]),
            of("failures"),
            of("latency"),
            of("score"),
            of("needed"),
        ));
    }
    lines.join("\n")
}
