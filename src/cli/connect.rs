//! Arguments of every command that connects.

use std::path::PathBuf;

use clap::Args;
use sferic_settings::{self as settings, Settings};

use super::Usage;

/// Where the configuration and the server are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectArgs {
    /// Address of the NATS server, as in `nats://127.0.0.1:4222`; several with commas between them. Goes
    /// before the configuration's `nats.url`.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Configuration file; config/default.toml of the source tree documents every key. Environment variables
    /// of the form SFERIC__SECTION__KEY go before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConnectArgs {
    /// The settings: defaults, the file, the environment, `--url`.
    ///
    /// # Errors
    /// [`Usage`] where a key or a value is wrong.
    pub fn settings(&self) -> Result<Settings, Usage> {
        let url = self.url.iter().map(|url| ("nats.url".to_owned(), toml::Value::from(url.as_str())));
        settings::load(self.config.as_deref(), &url.collect::<Vec<_>>())
            .map_err(|error| Usage(error.to_string()))
    }
}
