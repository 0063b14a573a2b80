//! `sferic watch`: outcomes as they come.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use async_nats::Message;
use clap::Args;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use sferic_telemetry::with_causes;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::output::Output;
use super::sinks::{Sink, SinkArgs};
use super::stages::Breakdown;
use super::{ConnectArgs, cot, csv, geojson, refusal};
use crate::nats::{self, Action, Connection};
use crate::shutdown;

const SECOND: Duration = Duration::from_secs(1);

/// What helps where a subject is refused.
const ADVICE: &str = "sign in as a user who may listen there, or choose another --subject";

/// Prints predictions and failures as they come, until Ctrl-C.
///
/// Each outcome is one line: readable text, the object itself (--json, where binary values are standard
/// base64), a GeoJSON Feature (--geojson), CSV (--csv), or a Cursor on Target event (--cot). With --stages it
/// is where the time went instead, once a second. --sigmf, --parquet and --mqtt write them elsewhere; lines
/// are then printed only where their form is named.
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
  sferic watch --csv > outcomes.csv
  sferic watch --parquet today.parquet
  sferic watch --mqtt mqtt://broker/rf/north")]
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
    #[arg(long, conflicts_with_all = ["geojson", "csv", "cot", "sink"])]
    pub stages: bool,
    /// Where outcomes go beside, or instead of, standard output.
    #[command(flatten)]
    pub sink: SinkArgs,
    /// Stop after so many lines, outcomes of --sigmf, --parquet or --mqtt, or with --stages after so many
    /// seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

impl WatchArgs {
    /// Runs the command. Ends with 0 on Ctrl-C or SIGTERM, after `--count` lines, or when nobody reads
    /// standard output any more.
    ///
    /// # Errors
    /// No connection, a subject that cannot be listened to or that the server refuses, or outcomes that could
    /// not be written or are missing where they were to be.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let prefix = &settings.nats.prefix;
        let subjects = match &self.subject {
            Some(subject) => vec![subject.clone()],
            None => vec![format!("{prefix}.predictions.>"), format!("{prefix}.failures.>")],
        };
        let mut sink = self.sink.open(prefix).await?;
        let connection = nats::connect(&settings.nats, "sferic watch").await?;
        let mut messages = refusal::listen(&connection, &subjects, ADVICE).await?;
        let mut refused = pin!(refusal::of_any(&connection, Action::Subscribe, &subjects));
        let output = Output::plain();
        output.say(format!("listening to {} at {}", subjects.join(" and "), settings.nats.shown_url()));

        let mut gaps = 0;
        let watched = self.watch(&connection, &mut messages, &mut sink, &mut gaps, &output);
        let watched = tokio::select! {
            watched = watched => watched,
            words = &mut refused => Err(anyhow!(refusal::subscription(&words, ADVICE))),
        };
        let Some(sink) = sink else { return watched.map(|()| ExitCode::SUCCESS) };
        // What has come is kept, however the watching has ended.
        let closed = sink.close().await.map(|said| output.say(said));
        watched.and(closed)?;
        let missed = connection.dropped();
        ensure!(
            missed == 0,
            "at least {missed} outcomes are missing: they came faster than they could be taken"
        );
        ensure!(gaps == 0, "outcomes are missing: the connection was lost {gaps} times");
        Ok(ExitCode::SUCCESS)
    }

    /// Prints and hands on what comes.
    async fn watch(
        &self,
        connection: &Connection,
        messages: &mut SelectAll<BoxStream<'static, Message>>,
        sink: &mut Option<Sink>,
        gaps: &mut u64,
        output: &Output,
    ) -> anyhow::Result<()> {
        if self.csv {
            output.line(csv::header()).context("cannot write to standard output")?;
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut stop = pin!(shutdown::requested());
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
                        Ok(outcome) => {
                            if let Some(sink) = sink.as_mut() {
                                tokio::select! {
                                    taken = sink.take(&outcome) => taken?,
                                    _ = &mut stop => break,
                                }
                            }
                            let line = self.line(&outcome, sink.is_some());
                            line.map(|line| output.line(line)).or(sink.is_some().then_some(Ok(())))
                        }
                        Err(error) => {
                            let error = with_causes(&error);
                            output.say(format!("{}: not an outcome: {error}", message.subject));
                            None
                        }
                    }
                }
                now = seconds.tick() => {
                    if let Some(sink) = sink.as_mut() {
                        sink.tick()?;
                    }
                    self.stages.then(|| {
                        let report = breakdown.report(now - since);
                        since = now;
                        if self.json {
                            output.line(report.json())
                        } else if io::stdout().is_terminal() {
                            output.raw(over(&report.to_string(), &mut table_lines))
                        } else {
                            output.line(report.line())
                        }
                    })
                }
                () = connection.reconnected(epoch) => {
                    epoch = connection.epoch();
                    *gaps += 1;
                    output.say("the connection was lost and is back: outcomes of the time between are \
                        missing");
                    None
                }
                _ = &mut stop => break,
            };
            match written {
                Some(Ok(())) => left -= 1,
                // The reader, such as `head`, has closed standard output.
                Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Some(Err(error)) => return Err(error).context("cannot write to standard output"),
                None => {}
            }
        }
        Ok(())
    }

    /// The line of an outcome, where it is to be printed; beside a sink only in a form that is named.
    fn line(&self, outcome: &Outcome, has_sink: bool) -> Option<String> {
        if self.geojson {
            geojson::feature(outcome).map(|feature| feature.to_string())
        } else if self.csv {
            Some(csv::line(outcome))
        } else if self.cot {
            cot::event(outcome)
        } else if self.json {
            Some(outcome.json())
        } else if has_sink {
            None
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
