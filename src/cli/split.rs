//! `sferic models split`: divides traffic, and shows how each version does.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Usage;
use super::daemons::DaemonArgs;
use super::table::{Table, plain};

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Divides the frames of a model between versions.
#[derive(Args, Clone, Debug)]
pub struct SplitArgs {
    /// The model's name, or none for the default model; then versions with their relative shares, as
    /// 1=90 2=10. Without any it only shows.
    #[arg(value_name = "MODEL | VERSION=SHARE", value_parser = given)]
    given: Vec<Given>,
    /// What stays with one version: session, source or frame.
    #[arg(long, value_name = "KEY", value_parser = ["session", "source", "frame"])]
    key: Option<String>,
    /// Percentages that the one new version gets one after the other; at 100 it becomes active.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    steps: Vec<f64>,
    /// How long each step lasts, or the split.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<String>,
    /// Frames that the new version must have answered before the next step.
    #[arg(long, value_name = "N")]
    min_frames: Option<u64>,
    /// Ends the split.
    #[arg(long, conflicts_with_all = ["key", "steps", "lasts", "min_frames"])]
    end: bool,
    #[command(flatten)]
    daemons: DaemonArgs,
}

/// What is said of a split without an option.
#[derive(Clone, Debug)]
enum Given {
    Model(String),
    Share(String, f64),
}

fn given(text: &str) -> Result<Given, String> {
    let Some((version, share)) = text.split_once('=') else { return Ok(Given::Model(text.to_owned())) };
    let share: f64 = share.parse().map_err(|_| format!("{share:?} is no number"))?;
    if !(share.is_finite() && share > 0.0) {
        return Err(format!("a share is {share}, must be above 0"));
    }
    Ok(Given::Share(version.to_owned(), share))
}

fn time(text: &str) -> Result<String, String> {
    let read = humantime_serde::re::humantime::parse_duration(text);
    read.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl SplitArgs {
    /// Asks the daemons; `false` where one has refused.
    ///
    /// # Errors
    /// No server, or no daemon.
    pub async fn ask(&self) -> anyhow::Result<bool> {
        let mut request = json!({});
        for each in &self.given {
            let (key, value) = match each {
                Given::Model(model) => (&mut request["model"], json!(model)),
                Given::Share(version, share) => (&mut request["weights"][version], json!(share)),
            };
            if !key.is_null() {
                return Err(Usage(format!("{value} beside {key}, must be one")).into());
            }
            *key = value;
        }
        let has_options =
            !self.steps.is_empty() || self.key.is_some() || self.lasts.is_some() || self.min_frames.is_some();
        match (request["weights"].is_null(), self.end) {
            (false, true) => return Err(Usage("--end ends the split and takes no shares".to_owned()).into()),
            (true, false) if has_options => {
                return Err(Usage("a split is of versions with shares, as 1=90 2=10".to_owned()).into());
            }
            (true, true) => request["weights"] = json!({}),
            _ => {}
        }
        if let Some(empty) = request.as_object_mut() {
            empty.retain(|_, value| !value.is_null());
        }
        if !self.steps.is_empty() {
            request["steps"] = self.steps.clone().into();
        }
        let given = [
            ("key", self.key.clone().map(Value::from)),
            ("for", self.lasts.clone().map(Value::from)),
            ("min_frames", self.min_frames.map(Value::from)),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                request[key] = value;
            }
        }
        self.daemons.ask("models.split", &request, ANSWER, shown).await
    }
}

/// The versions of a model with what they have done, and the evidence against each canary.
fn shown(answer: &Value) -> String {
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
        let of = |key: &str| super::shadow::evidence(&evidence[key]);
        lines.push(format!(
            "{} against {}: evidence that it is worse: failures {}, latency {}, score {}; {:.0} is enough",
            plain(&each["canary"]),
            plain(&each["baseline"]),
            of("failures"),
            of("latency"),
            of("score"),
            evidence["needed"].as_f64().unwrap_or_default(),
        ));
    }
    lines.join("\n")
}
