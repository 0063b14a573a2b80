//! Time per stage of the frames of the last second, from their predictions.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use super::escaped::Escaped;
use super::outcome::Outcome;

/// Maximum number of values per stage and second for quantiles; further ones are only counted.
const MOST: usize = 1 << 16;
/// The stages in order; others in a prediction are appended.
const ORDER: [&str; 5] = ["decode", "preprocess_wait", "features", "queue", "inference"];
/// The rest of the total: waiting for the cache, and between stages.
const REST: &str = "between";
const WHOLE: &str = "whole";

/// The outcomes since the last report.
#[derive(Debug, Default)]
pub struct Breakdown {
    failures: u64,
    cached: u64,
    stages: Vec<(String, Times)>,
    whole: Times,
}

#[derive(Debug, Default)]
struct Times {
    count: u64,
    sum_ms: f64,
    ms: Vec<f64>,
}

impl Times {
    fn add(&mut self, ms: f64) {
        self.count += 1;
        self.sum_ms += ms;
        if self.ms.len() < MOST {
            self.ms.push(ms);
        }
    }

    fn quantile(&self, share: f64) -> f64 {
        let at = ((self.ms.len() as f64 * share) as usize).min(self.ms.len().saturating_sub(1));
        self.ms.get(at).copied().unwrap_or(0.0)
    }
}

/// The rows of one interval.
#[derive(Debug)]
pub struct Report {
    seconds: f64,
    failures: u64,
    cached: u64,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    stage: String,
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    share: f64,
}

impl Breakdown {
    /// Adds an outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        let Some(whole) = outcome.number(&["inference_time_ms"]) else {
            self.failures += u64::from(outcome.code().is_some());
            return;
        };
        self.whole.add(whole);
        self.cached += u64::from(outcome.get("_cache_hit").and_then(rmpv::Value::as_bool) == Some(true));
        let mut rest = whole;
        for (stage, ms) in outcome.get("stages_ms").and_then(rmpv::Value::as_map).into_iter().flatten() {
            if let (Some(stage), Some(ms)) = (stage.as_str(), ms.as_f64()) {
                rest -= ms;
                self.times(stage).add(ms);
            }
        }
        self.times(REST).add(rest.max(0.0));
    }

    fn times(&mut self, stage: &str) -> &mut Times {
        let at = self.stages.iter().position(|(name, _)| name == stage).unwrap_or_else(|| {
            self.stages.push((stage.to_owned(), Times::default()));
            self.stages.len() - 1
        });
        &mut self.stages[at].1
    }

    /// Returns the report of `interval`, and starts a new one.
    pub fn report(&mut self, interval: Duration) -> Report {
        let Self { failures, cached, mut stages, whole } = std::mem::take(self);
        let place = |stage: &str| {
            ORDER.iter().position(|&each| each == stage).unwrap_or(ORDER.len() + usize::from(stage == REST))
        };
        stages.sort_by_key(|(stage, _)| place(stage));
        let all = if whole.sum_ms > 0.0 { whole.sum_ms } else { 1.0 };
        let row = |(stage, mut times): (String, Times)| {
            times.ms.sort_by(f64::total_cmp);
            let (p50_ms, p99_ms) = (times.quantile(0.5), times.quantile(0.99));
            Row { stage, count: times.count, p50_ms, p99_ms, share: times.sum_ms / all }
        };
        let rows = stages.into_iter().chain([(WHOLE.to_owned(), whole)]).map(row).collect();
        Report { seconds: interval.as_secs_f64().max(1e-3), failures, cached, rows }
    }
}

impl Report {
    /// As a JSON object.
    pub fn json(&self) -> String {
        let row = |row: &Row| {
            let per_second = row.count as f64 / self.seconds;
            let body = json!({
                "count": row.count, "per_second": per_second, "p50_ms": row.p50_ms, "p99_ms": row.p99_ms,
                "share": row.share,
            });
            (row.stage.clone(), body)
        };
        let stages: serde_json::Map<_, _> = self.rows.iter().map(row).collect();
        let predictions = self.rows.last().map_or(0, |whole| whole.count);
        json!({
            "seconds": self.seconds,
            "predictions": predictions,
            "failures": self.failures,
            "cached": self.cached,
            "stages": stages,
        })
        .to_string()
    }

    /// As one line.
    pub fn line(&self) -> String {
        let stage = |row: &Row| format!("  {} {:.2}/{:.2} ms", row.stage, row.p50_ms, row.p99_ms);
        format!("{}{}", self.head(), self.rows.iter().map(stage).collect::<String>())
    }

    fn head(&self) -> String {
        let predictions = self.rows.last().map_or(0, |whole| whole.count);
        let per_second = |count: u64| count as f64 / self.seconds;
        format!(
            "{:.0} predictions/s ({:.0} cached), {:.0} failures/s",
            per_second(predictions),
            per_second(self.cached),
            per_second(self.failures)
        )
    }
}

/// A table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head())?;
        write!(f, "{:<16}{:>10}{:>12}{:>12}{:>8}", "stage", "per s", "p50 ms", "p99 ms", "share")?;
        for row in &self.rows {
            let per_second = row.count as f64 / self.seconds;
            let stage = Escaped(&row.stage).to_string();
            write!(
                f,
                "\n{stage:<16}{per_second:>10.1}{:>12.3}{:>12.3}{:>7.1}%",
                row.p50_ms,
                row.p99_ms,
                100.0 * row.share
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::*;

    fn prediction(features: f64, whole: f64, cached: bool) -> Outcome {
        let stages = if cached { String::new() } else { format!(r#","features":{features}"#) };
        outcome(&format!(
            r#"{{"inference_time_ms":{whole},"stages_ms":{{"inference":1.0{stages}}},"_cache_hit":{cached}}}"#
        ))
    }

    #[test]
    fn a_second_is_broken_down_by_stage() {
        let mut breakdown = Breakdown::default();
        for n in 0..100 {
            breakdown.add(&prediction(f64::from(n), f64::from(n) + 2.0, false));
        }
        breakdown.add(&prediction(0.0, 2.0, true));
        breakdown.add(&outcome(r#"{"code":"overloaded"}"#));
        let report = breakdown.report(Duration::from_secs(2));
        let names: Vec<_> = report.rows.iter().map(|row| row.stage.as_str()).collect();
        assert_eq!(names, ["features", "inference", "between", "whole"], "in a frame's order");
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(
            (&json["predictions"], &json["failures"], &json["cached"]),
            (&101.into(), &1.into(), &1.into())
        );
        let features = &json["stages"]["features"];
        assert_eq!((&features["count"], &features["per_second"]), (&100.into(), &50.0.into()));
        assert_eq!((&features["p50_ms"], &features["p99_ms"]), (&50.0.into(), &99.0.into()));
        let share = |stage: &str| json["stages"][stage]["share"].as_f64().unwrap();
        assert!((share("features") + share("inference") + share("between") - 1.0).abs() < 1e-9, "{json}");
        assert_eq!(share("whole"), 1.0);
        assert!(
            report.to_string().contains("features              50.0      50.000      99.000"),
            "{report}"
        );
        assert!(
            report.line().starts_with("50 predictions/s (0 cached), 0 failures/s  features 50.00/99.00 ms"),
            "{}",
            report.line()
        );

        breakdown.add(&outcome(r#"{"inference_time_ms":1.0,"stages_ms":{"a\u001b[2J\n":1.0}}"#));
        let table = breakdown.report(Duration::from_secs(1)).to_string();
        assert!(
            table.contains(r"a\u001b[2J\u000a ") && table.lines().count() == 5,
            "a sender names the stages: {table}"
        );

        let empty = breakdown.report(Duration::from_secs(1));
        assert!(empty.json().contains(r#""predictions":0"#), "it begins anew: {}", empty.json());
    }
}
