//! `sferic run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{ConnectArgs, Usage, logging};
use crate::app::{App, check_threads};
use crate::shutdown;

/// Runs the daemon: frames in on `<prefix>.frames.<source>`, predictions and failures out.
///
/// Ends in order on SIGTERM or SIGINT: stops reading, answers every frame in flight, exits 0. A second signal
/// ends it at once. SIGHUP reloads every model.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

impl RunArgs {
    /// Runs until a signal asks for the end.
    ///
    /// # Errors
    /// The daemon cannot start, or its actors ended more often than they may.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        check_threads(&settings).map_err(|error| Usage(error.to_string()))?;
        logging::start(&settings.telemetry)?;
        for key in settings.set_but_unbuilt() {
            tracing::warn!(key, "is set, but does nothing yet");
        }
        let mut hang_ups = shutdown::hang_ups()?;
        let mut app = tokio::select! {
            app = App::start(&settings) => app?,
            requested = shutdown::requested() => {
                requested?;
                tracing::info!("ended before it had started");
                return Ok(ExitCode::SUCCESS);
            }
        };
        let (ready, server) = (app.ready(), settings.nats.shown_url());
        let models = Arc::clone(app.models());
        let reloading = async move {
            while hang_ups.recv().await.is_some() {
                models.reload_all().await;
            }
        };
        let saying = async {
            ready.await;
            tracing::info!("ready: reading {}.frames.> at {server}", settings.nats.prefix);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            requested = shutdown::requested() => requested?,
            () = reloading => {}
            reason = app.failed() => anyhow::bail!(reason),
            () = saying => {}
        }
        app.shut_down().await;
        Ok(ExitCode::SUCCESS)
    }
}
