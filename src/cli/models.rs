//! `sferic models`: shows and changes the models of running daemons.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::daemons::DaemonArgs;
use super::push::PushArgs;
use super::shadow::ShadowArgs;
use super::split::SplitArgs;
use super::table::{Table, plain};

/// Time for an answer that changes nothing.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for a change: a large model is loaded, warmed and measured, and the last frame of the old one ends.
const CHANGE: Duration = Duration::from_secs(300);

/// Shows and changes the models of running daemons, all of the prefix or one.
#[derive(Args, Clone, Debug)]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Lists every version of every model: its state, whether it is active, why it failed.
    List(DaemonArgs),
    /// Shows one version, the active one by default: inputs, outputs, features, providers, nodes before and
    /// after optimisation, times and counts.
    Info(ModelArgs),
    /// Puts a bundle into an object store of NATS, from where daemons with that source fetch it.
    Push(PushArgs),
    /// Loads a version beside the active one; the highest that has not failed by default.
    Load(ModelArgs),
    /// Takes a version out of service, or the whole model.
    Unload(ForceArgs),
    /// Loads a version from disk and makes it active, without losing a frame; the highest that has not failed
    /// by default.
    Reload(ForceArgs),
    /// Makes a loaded version active; the highest by default.
    Promote(ModelArgs),
    /// Makes the version active that was so before.
    Rollback(ModelArgs),
    /// Divides the frames of a model between versions, ends that, or shows how each of them does.
    Split(SplitArgs),
    /// Lets a version see copies of the frames on spare capacity, ends that, or shows how its answers differ
    /// from the active version's.
    Shadow(ShadowArgs),
}

#[derive(Args, Clone, Debug)]
struct ModelArgs {
    /// `name` or `name@version`; the default model of the daemon where it is absent.
    model: Option<String>,
    #[command(flatten)]
    daemons: DaemonArgs,
}

#[derive(Args, Clone, Debug)]
struct ForceArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Does it even where a version is active, or its files have not changed.
    #[arg(long)]
    force: bool,
}

impl ModelsArgs {
    /// Asks the daemons; exits 1 where one has refused.
    ///
    /// # Errors
    /// No server, or no daemon.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let good = match self.action {
            Action::List(daemons) => daemons.ask("models", &json!({}), ANSWER, list).await?,
            Action::Info(of) => of.ask("models.info", json!({}), ANSWER, info).await?,
            Action::Push(push) => return push.run().await,
            Action::Load(of) => of.ask("models.load", json!({}), CHANGE, change).await?,
            Action::Promote(of) => of.ask("models.promote", json!({}), CHANGE, change).await?,
            Action::Rollback(of) => of.ask("models.rollback", json!({}), CHANGE, change).await?,
            Action::Split(of) => of.ask().await?,
            Action::Shadow(of) => of.ask().await?,
            Action::Unload(of) => of.ask("models.unload").await?,
            Action::Reload(of) => of.ask("models.reload").await?,
        };
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl ModelArgs {
    async fn ask(
        &self,
        endpoint: &str,
        mut request: Value,
        timeout: Duration,
        text: fn(&Value) -> String,
    ) -> anyhow::Result<bool> {
        if let Some(model) = &self.model {
            request["model"] = model.as_str().into();
        }
        self.daemons.ask(endpoint, &request, timeout, text).await
    }
}

impl ForceArgs {
    async fn ask(&self, endpoint: &str) -> anyhow::Result<bool> {
        self.model.ask(endpoint, json!({"force": self.force}), CHANGE, change).await
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(["MODEL", "VERSION", "STATE", "ROLE", "LOADED", "DIGEST", "REASON"]);
    for model in items(&answer["models"]) {
        for version in items(&model["versions"]) {
            table.row([
                plain(&model["name"]),
                plain(&version["version"]),
                plain(&version["state"]),
                roles(model, version),
                plain(&version["loaded_at"]).chars().take(19).collect(),
                plain(&version["digest"]).chars().take(12).collect(),
                plain(&version["reason"]),
            ]);
        }
    }
    table.to_string()
}

/// What a version is there for, and what else it is called.
fn roles(model: &Value, version: &Value) -> String {
    let number = &version["version"];
    let is = |of: &Value| of == number && !of.is_null();
    let share = number.as_str().and_then(|number| model["split"]["weights"][number].as_f64());
    let roles = [("active", &model["active"]), ("previous", &model["previous"])];
    let roles = roles.into_iter().chain([("shadow", &model["shadow"]["version"])]);
    let roles = roles.filter(|(_, of)| is(of)).map(|(role, _)| role.to_owned());
    let named = items(&version["aliases"]).map(|alias| format!("@{}", plain(alias)));
    let named = named.filter(|alias| !["@champion", "@challenger"].contains(&alias.as_str()));
    let all = roles.chain(share.map(|share| format!("{:.0} %", share * 100.0))).chain(named);
    all.collect::<Vec<_>>().join(", ")
}

fn change(answer: &Value) -> String {
    let (ms, drained) = (answer["reload_time_ms"].as_f64().unwrap_or_default(), &answer["requests_drained"]);
    format!("{} ({ms:.0} ms, {drained} frames drained)", plain(&answer["message"]))
}

fn info(answer: &Value) -> String {
    let mut lines = vec![format!("{}@{}", plain(&answer["model"]), plain(&answer["version"]))];
    for key in ["state", "active", "reason", "digest", "loaded_at"] {
        if !answer[key].is_null() {
            lines.push(format!("{key}: {}", plain(&answer[key])));
        }
    }
    for key in ["inputs", "outputs"] {
        for port in items(&answer[key]) {
            let shape: Vec<_> = items(&port["shape"]).map(plain).collect();
            let (name, dtype) = (plain(&port["name"]), plain(&port["dtype"]));
            lines.push(format!("{}: {name}, {dtype} [{}]", key.trim_end_matches('s'), shape.join(", ")));
        }
    }
    let nodes = &answer["nodes"];
    if nodes.is_object() {
        let after = if nodes["after"].is_null() { "unknown".to_owned() } else { nodes["after"].to_string() };
        lines.push(format!("nodes: {} in the file, {after} after optimisation", nodes["before"]));
    }
    for share in items(&answer["shares"]) {
        let percent = |key: &str| 100.0 * share[key].as_f64().unwrap_or_default();
        let provider = plain(&share["provider"]);
        lines.push(format!(
            "{provider}: {:.0} % of nodes, {:.0} % of time",
            percent("nodes"),
            percent("time")
        ));
    }
    for cost in items(&answer["warm_up"]) {
        let ms = cost["ms"].as_f64().unwrap_or_default();
        lines.push(format!("warm-up: {ms:.3} ms for a batch of {}", cost["batch"]));
    }
    let times = &answer["inference_ms"];
    if times["p50"].is_number() {
        let of = |key: &str| times[key].as_f64().unwrap_or_default();
        lines.push(format!("inference: p50 {:.3}, p95 {:.3}, p99 {:.3} ms", of("p50"), of("p95"), of("p99")));
    }
    if answer["predictions"].is_number() {
        lines.push(format!("served: {} predictions, {} failures", answer["predictions"], answer["failures"]));
    }
    if let Some(error) = answer["error"].as_f64() {
        let of = |key: &str| answer[key].as_f64();
        let covered = of("coverage").zip(of("promised_coverage"));
        let covered = covered.map(|(is, should)| format!(", coverage {is:.3} of {should:.3} promised"));
        lines.push(format!(
            "truth: {} answers, mean error {error:.1}, score {:.3}{}",
            answer["truths"],
            of("score").unwrap_or_default(),
            covered.unwrap_or_default()
        ));
    }
    if let Some(features) = answer["features"].as_object() {
        let keys: Vec<_> = features.iter().filter(|(_, value)| !value.is_null()).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        lines.push(format!("features: {}", keys.join(", ")));
    }
    lines.join("\n")
}
