//! `sferic breaker`: shows and sets the circuits of running daemons.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::daemons::DaemonArgs;
use super::table::Table;
use super::table::plain;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Shows the circuits of running daemons, one of each version of a model, and sets them by hand.
#[derive(Args, Clone, Debug)]
pub struct BreakerArgs {
    /// `name` or `name@version`; absent: all.
    model: Option<String>,
    /// Sets them: `open` refuses frames until it is closed or reset, `reset` also sets its counts to zero.
    #[arg(long)]
    force: Option<Force>,
    #[command(flatten)]
    daemons: DaemonArgs,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Force {
    Open,
    Close,
    Reset,
}

impl BreakerArgs {
    /// Asks the daemons; exits 1 where one has refused.
    ///
    /// # Errors
    /// No server, or no daemon.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut request = json!({});
        if let Some(model) = &self.model {
            request["model"] = model.as_str().into();
        }
        if let Some(force) = self.force.and_then(|force| force.to_possible_value()) {
            request["force"] = force.get_name().into();
        }
        let good = self.daemons.ask("breaker", &request, ANSWER, circuits).await?;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn circuits(answer: &Value) -> String {
    let mut table = Table::new(["MODEL", "VERSION", "STATE", "FAILURES", "REFUSED", "OPENINGS", "REASON"]);
    for circuit in answer["circuits"].as_array().into_iter().flatten() {
        table.row(
            ["model", "version", "state", "failures", "refused", "openings", "reason"]
                .map(|key| plain(&circuit[key])),
        );
    }
    table.to_string()
}
