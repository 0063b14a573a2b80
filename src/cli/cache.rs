//! `sferic cache`: shows and clears the answer caches of running daemons.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::daemons::DaemonArgs;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Shows or clears the answer caches of running daemons.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Shows hits, misses, entries and memory.
    Show(DaemonArgs),
    /// Removes the answers, all or those of a model; a shared cache keeps its own.
    Clear {
        /// `name` or `name@version`; absent: all.
        model: Option<String>,
        #[command(flatten)]
        daemons: DaemonArgs,
    },
}

impl CacheArgs {
    /// Asks the daemons; exits 1 where one has refused.
    ///
    /// # Errors
    /// No server, or no daemon.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let good = match self.action {
            Action::Show(daemons) => daemons.ask("cache", &json!({}), ANSWER, statistics).await?,
            Action::Clear { model, daemons } => {
                let mut request = json!({"clear": true});
                if let Some(model) = model {
                    request["model"] = model.into();
                }
                daemons
                    .ask("cache", &request, ANSWER, |answer| format!("{} answers removed", answer["cleared"]))
                    .await?
            }
        };
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn statistics(answer: &Value) -> String {
    let rate = 100.0 * answer["hit_rate"].as_f64().unwrap_or_default();
    let evicted = &answer["evicted"];
    format!(
        "hit rate: {rate:.1} % ({} hits, {} waited for an equal frame, {} misses)\nentries: {}, {} bytes\n\
         evicted: {} by age, {} by number, {} by bytes, {} not admitted",
        answer["hits"],
        answer["coalesced"],
        answer["misses"],
        answer["entries"],
        answer["bytes"],
        evicted["age"],
        evicted["size"],
        evicted["bytes"],
        evicted["not_admitted"],
    )
}
