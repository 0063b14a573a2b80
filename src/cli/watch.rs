//! `sferic watch`: outcomes as they come.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use futures::stream::select_all;

use super::outcome::Outcome;
use super::output::Output;
use super::{ConnectArgs, geojson};
use crate::nats;

/// Prints predictions and failures as they come, until Ctrl-C.
///
/// Each outcome is one line: readable text, the object itself (--json, where binary values are standard base64), or a
/// GeoJSON Feature (--geojson).
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
GeoJSON: only predictions with a position are printed. The Feature's geometry is a GeometryCollection of the position \
(Point) and the confidence ellipse (Polygon, or MultiPolygon across the antimeridian); the prediction's other keys are \
its properties.

Examples:
  sferic watch
  sferic watch --subject 'iq.predictions.north.>' --json
  sferic watch --geojson --count 100 > fixes.geojsonl")]
pub struct WatchArgs {
    /// Listen to this subject, wildcards included [default: all predictions and all failures].
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Print each outcome as one JSON object.
    #[arg(long, conflicts_with = "geojson")]
    pub json: bool,
    /// Print each prediction with a position as one GeoJSON Feature.
    #[arg(long)]
    pub geojson: bool,
    /// Stop after so many lines.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

impl WatchArgs {
    /// Runs the command. Ends with 0 on Ctrl-C, after `--count` lines, or when nobody reads standard output any more.
    ///
    /// # Errors
    /// No connection, or a subject that cannot be listened to.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let prefix = &settings.nats.prefix;
        let subjects = match &self.subject {
            Some(subject) => vec![subject.clone()],
            None => vec![format!("{prefix}.predictions.>"), format!("{prefix}.failures.>")],
        };
        let connection = nats::connect(&settings.nats, "sferic watch").await?;
        let mut messages = Vec::new();
        for subject in &subjects {
            let subscribed = connection.client.subscribe(subject.clone()).await;
            messages.push(subscribed.with_context(|| format!("cannot listen to {subject:?}"))?);
        }
        let mut messages = select_all(messages);
        connection.client.flush().await.context("cannot listen")?;
        let output = Output::plain();
        output.say(format!("listening to {} at {}", subjects.join(" and "), settings.nats.shown_url()));

        let mut left = self.count.unwrap_or(u64::MAX);
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        while left > 0 {
            let message = tokio::select! {
                message = messages.next() => message.context("the connection is closed")?,
                _ = &mut interrupt => break,
            };
            let line = match Outcome::decode(&message) {
                Ok(outcome) => self.line(&outcome),
                Err(error) => {
                    output.say(format!("{}: not an outcome: {error:#}", message.subject));
                    None
                }
            };
            match line.map(|line| output.line(line)) {
                Some(Ok(())) => left -= 1,
                // Whoever read us, such as `head`, has had enough.
                Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Some(Err(error)) => return Err(error).context("cannot write to standard output"),
                None => {}
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn line(&self, outcome: &Outcome) -> Option<String> {
        if self.geojson {
            geojson::feature(outcome).map(|feature| feature.to_string())
        } else if self.json {
            Some(outcome.json())
        } else {
            Some(outcome.to_string())
        }
    }
}
