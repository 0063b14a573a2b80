//! `sferic config`: checks and shows the configuration.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use sferic_settings::UNBUILT;

use super::ConnectArgs;
use super::output::Output;

/// Checks or shows the configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Says whether every key and value is right, and which keys do nothing yet; exits 2 where one is wrong.
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
                let settings = connect.settings()?;
                eprintln!("the configuration is right");
                for key in settings.set_but_unbuilt() {
                    eprintln!("`{key}` is set, but does nothing yet");
                }
                eprintln!("keys that do nothing yet: {}", UNBUILT.join(", "));
            }
            Action::Show(connect) => {
                let settings = connect.settings()?;
                let text = toml::to_string(&settings.redacted())?;
                Output::plain().raw(format_args!(
                    "# do nothing yet: {}\n\n{}",
                    UNBUILT.join(", "),
                    text.trim_end()
                ))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
