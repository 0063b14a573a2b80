//! `sferic watch`: outcomes as they come.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures::StreamExt;
use sferic_telemetry::with_causes;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::output::Output;
use super::stages::Breakdown;
use super::{ConnectArgs, cot, csv, geojson, refusal};
use crate::nats::{self, Action};

const SECOND: Duration = Duration::from_secs(1);

/// What helps where a subject is refused.
const ADVICE: &str = "sign in as a user who may listen there, or choose another --subject";

/// Prints predictions and failures as they come, until Ctrl-C.
///
/// Each outcome is one line: readable text, the object itself (--json, where binary values are standard
/// base64), a GeoJSON Feature (--geojson), CSV (--csv), or a Cursor on Target event (--cot). With --stages it
/// is where the time went instead, once a second.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
GeoJSON: only predictions with a position on the map are printed. The Feature's geometry is a \
GeometryCollection of the position \
(Point) and, where it is one, the confidence ellipse (Polygon, or MultiPolygon across the antimeridian); \
the prediction's other keys are \
its properties.

Cursor on Target: the point's ce is the radius of the circle that holds the truth with 95 %, computed from \
both sigmas; a source's fixes are one track, or those of a session.

Examples:
  sferic watch
  sferic watch --stages
  sferic watch --subject 'iq.predictions.north.>' --json
  sferic watch --geojson --count 100 > fixes.geojsonl
  sferic watch --csv > outcomes.csv")]
pub struct WatchArgs {
    /// Listen to this subject, wildcards included [default: all predictions and all failures].
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Print each outcome as one JSON object.
    #[arg(long, conflicts_with_all = ["geojson", "csv", "cot"])]
    pub json: bool,
    /// Print each prediction with a position as one GeoJSON Feature.
    #[arg(long, conflicts_with_all = ["csv", "cot"])]
    pub geojson: bool,
    /// Print each outcome as a line of CSV, under a header.
    #[arg(long, conflicts_with = "cot")]
    pub csv: bool,
    /// Print each prediction with a position as one Cursor on Target event.
    #[arg(long)]
    pub cot: bool,
    /// Show once a second where the predictions' time went: a table on a terminal, else a line, or with
    /// --json an object.
    #[arg(long, conflicts_with_all = ["geojson", "csv", "cot"])]
    pub stages: bool,
    /// Stop after so many lines, or with --stages after so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

impl WatchArgs {
    /// Runs the command. Ends with 0 on Ctrl-C, after `--count` lines, or when nobody reads standard output
    /// any more.
    ///
    /// # Errors
    /// No connection, or a subject that cannot be listened to or that the server refuses.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let prefix = &settings.nats.prefix;
        let subjects = match &self.subject {
            Some(subject) => vec![subject.clone()],
            None => vec![format!("{prefix}.predictions.>"), format!("{prefix}.failures.>")],
        };
        let connection = nats::connect(&settings.nats, "sferic watch").await?;
        let mut messages = refusal::listen(&connection, &subjects, ADVICE).await?;
        let mut refused = pin!(refusal::of_any(&connection, Action::Subscribe, &subjects));
        let output = Output::plain();
        output.say(format!("listening to {} at {}", subjects.join(" and "), settings.nats.shown_url()));

        if self.csv {
            output.line(csv::header()).context("cannot write to standard output")?;
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut epoch = connection.epoch();
        let (mut breakdown, mut since, mut table_lines) = (Breakdown::default(), Instant::now(), 0);
        let mut seconds = tokio::time::interval_at(since + SECOND, SECOND);
        while left > 0 {
            let written = tokio::select! {
                message = messages.next() => {
                    let message = message.context("the connection is closed")?;
                    match Outcome::decode(&message) {
                        Ok(outcome) if self.stages => {
                            breakdown.add(&outcome);
                            None
                        }
                        Ok(outcome) => self.line(&outcome).map(|line| output.line(line)),
                        Err(error) => {
                            let error = with_causes(&error);
                            output.say(format!("{}: not an outcome: {error}", message.subject));
                            None
                        }
                    }
                }
                now = seconds.tick(), if self.stages => {
                    let report = breakdown.report(now - since);
                    since = now;
                    Some(if self.json {
                        output.line(report.json())
                    } else if io::stdout().is_terminal() {
                        output.raw(over(&report.to_string(), &mut table_lines))
                    } else {
                        output.line(report.line())
                    })
                }
                words = &mut refused => bail!(refusal::subscription(&words, ADVICE)),
                () = connection.reconnected(epoch) => {
                    epoch = connection.epoch();
                    output.say("the connection was lost and is back: outcomes of the time between are \
                        missing");
                    None
                }
                _ = &mut interrupt => break,
            };
            match written {
                Some(Ok(())) => left -= 1,
                // The reader, such as `head`, has closed standard output.
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
        } else if self.csv {
            Some(csv::line(outcome))
        } else if self.cot {
            cot::event(outcome)
        } else if self.json {
            Some(outcome.json())
        } else {
            Some(outcome.to_string())
        }
    }
}

/// Redraws a table over the previous one, which had this many lines.
fn over(table: &str, lines: &mut usize) -> String {
    let back = if *lines > 0 { format!("\x1b[{lines}A\x1b[J") } else { String::new() };
    *lines = table.lines().count();
    back + table
}
