//! `sferic models shadow`: lets a version see copies of the frames, and shows how its answers differ.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Usage;
use super::daemons::DaemonArgs;
use super::table::plain;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Shows or begins the shadow of a model.
#[derive(Args, Clone, Debug)]
pub struct ShadowArgs {
    /// The version that gets copies, as `name@version`; a name alone, or nothing for the default model, only
    /// shows.
    model: Option<String>,
    /// Share of the frames that are copied, 0 to 1.
    #[arg(long, value_name = "SHARE", requires = "model")]
    share: Option<f64>,
    /// Ends the shadow.
    #[arg(long, conflicts_with = "share")]
    end: bool,
    #[command(flatten)]
    daemons: DaemonArgs,
}

impl ShadowArgs {
    /// Asks the daemons; `false` where one has refused.
    ///
    /// # Errors
    /// No server, or no daemon.
    pub async fn ask(&self) -> anyhow::Result<bool> {
        let mut request = json!({});
        if let Some(model) = &self.model {
            let (name, version) =
                model.split_once('@').map_or((model.as_str(), None), |(name, version)| (name, Some(version)));
            if !name.is_empty() {
                request["model"] = name.into();
            }
            if let Some(version) = version {
                request["version"] = version.into();
            }
        }
        if let Some(share) = self.share {
            if request.get("version").is_none() {
                return Err(Usage("--share is of a version, as name@version".to_owned()).into());
            }
            request["share"] = share.into();
        }
        if self.end {
            request["version"] = Value::Null;
        }
        self.daemons.ask("models.shadow", &request, ANSWER, shown).await
    }
}

/// How the answers of a shadow differ from those of the active version.
fn shown(answer: &Value) -> String {
    let (model, shadow) = (plain(&answer["model"]), &answer["shadow"]);
    if shadow.is_null() {
        return match &answer["ended"] {
            Value::Null => format!("{model}: no shadow"),
            ended => format!("{model}: no shadow; the last one: {}", plain(ended)),
        };
    }
    let (version, active) = (plain(&shadow["version"]), plain(&shadow["active"]));
    let number = |of: &Value| of.as_f64().unwrap_or_default();
    let percent = |of: &Value| 100.0 * number(of);
    let paired = &shadow["paired"];
    let mut lines = vec![format!(
        "{model}: version {version} in the shadow of {active}, {:.0} % of the frames: \
         {} compared, {} skipped",
        percent(&shadow["share"]),
        paired["frames"],
        shadow["skipped"]
    )];
    let both = |of: &Value, digits: usize| {
        format!("{:.digits$} ({active} {:.digits$})", number(&of["shadow"]), number(&of["active"]))
    };
    let mut say = |what: &str, is: bool, text: String| {
        if is {
            lines.push(format!("{what}: {text}"));
        }
    };
    say("failures", true, both(&paired["failures"], 0));
    say("alike in every bit", paired["equal"].is_number(), format!("{:.1} %", percent(&paired["equal"])));
    let compute = &paired["compute_ms"];
    say("compute", compute.is_object(), format!("{} ms a frame", both(compute, 3)));
    let of = &paired["positions"];
    let metres = |key: &str| number(&of[key]);
    let text = format!(
        "mean {:.1} m, median {:.1} m, p95 {:.1} m; {:.1} % within the ellipse of {active}; sigmas × {:.3}",
        metres("mean_m"),
        metres("p50_m"),
        metres("p95_m"),
        percent(&of["inside"]),
        metres("sigma_ratio")
    );
    say("distance", of.is_object(), text);
    let of = &paired["labels"];
    let score = number(&of["score_difference"]);
    say(
        "labels",
        of.is_object(),
        format!("{:.1} % the same, scores differ by {score:.4}", percent(&of["same"])),
    );
    let largest = &paired["largest_difference"];
    say("largest difference of outputs", largest.is_number(), format!("{:e}", number(largest)));
    let of = &paired["truth"];
    let text = format!(
        "{} frames; error {}; score {}; evidence that it is worse {}, that it is better {} \
         (20 is strong)",
        of["frames"],
        both(&of["error"], 2),
        both(&of["score"], 3),
        evidence(&of["worse"]),
        evidence(&of["better"])
    );
    say("truth", of.is_object(), text);
    lines.join("\n")
}

/// Evidence: 1 says nothing; much of it as a power of ten.
pub fn evidence(of: &Value) -> String {
    match of.as_f64().unwrap_or_default() {
        large if large >= 1e6 => format!("{large:.0e}"),
        of => format!("{of:.2}"),
    }
}
