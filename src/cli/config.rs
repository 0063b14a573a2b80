//! `sferic config`: what the configuration is and whether it is right.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ConnectArgs;

/// Checks or shows the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Says whether every key and value is right; exits 2 where one is not.
    Check(ConnectArgs),
    /// Prints the effective configuration as TOML, secrets hidden.
    Show(ConnectArgs),
}

impl ConfigArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// [`super::Usage`] where a key or a value is wrong.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Check(connect) => {
                connect.settings()?;
                eprintln!("the configuration is right");
            }
            Action::Show(connect) => print!("{}", toml::to_string(&connect.settings()?.redacted())?),
        }
        Ok(ExitCode::SUCCESS)
    }
}
