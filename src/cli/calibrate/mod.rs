//! `sferic calibrate`: how often the ellipses of a model's sigmas hold the truth, and how large they have to
//! be.

mod measure;
mod section;
mod truths;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::{HeaderMap, Request};
use clap::Args;
use futures::{StreamExt, stream};
use serde_json::json;
use sferic_actors::frame::Encoding;
use sferic_models::Bundle;
use sferic_scene::GeoPoint;

use self::measure::{Measured, Report};
use self::section::{section, with_section};
use self::truths::Truth;
use super::demo::accuracy::offset_in_sigmas;
use super::outcome::Outcome;
use super::output::Output;
use super::table::Table;
use super::{ConnectArgs, Usage};
use crate::nats::{self, Connection};

/// Frames in flight.
const OUTSTANDING: usize = 8;

/// Fewer predictions say nothing of the levels.
const LEAST: usize = 30;

/// Metres of a degree of latitude.
const DEGREE_M: f64 = 111_195.0;

/// Measures a localization model on frames whose truth is known: how often the ellipses of its sigmas hold
/// it, whatever radii its bundle has by now, and the radii with which they would.
///
/// A running daemon answers. The section [output.calibration] is printed, and with --write put into the
/// bundle, from where a reload takes it. Measure at places that the model was not trained on.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Truth: a file of lines of JSON, each the keys of a frame (samples in base64) and \
\"truth\": {\"latitude\": …, \"longitude\": …}; or recordings of SigMF, each one frame, or a folder \
of them, whose annotation has sferic:latitude and sferic:longitude, as `sferic simulate` writes them.

The mean score is −ln p(truth) of the normal density that the sigmas state; less is better.

Intervals hold with 95 % over places: neighbours within --cell metres count as one. \"elsewhere\" is how \
often radii hold that were measured on four fifths of the places, at the fifth.

Examples:
  sferic simulate --out scenes --scenes 1000 --seed 9 && sferic calibrate localization --truth scenes
  sferic calibrate street@3 --truth held-out.jsonl --source 'held-out streets' --write")]
pub struct CalibrateArgs {
    /// The model, as `name` or `name@version`.
    model: String,
    /// Frames with their truth; may be given more than once.
    #[arg(long, required = true, value_name = "PATH")]
    truth: Vec<PathBuf>,
    /// The probabilities, rising.
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_values_t = [0.5, 0.68, 0.9, 0.95])]
    levels: Vec<f64>,
    /// Truths within so many metres are of one place.
    #[arg(long, value_name = "METRES", default_value_t = 150.0)]
    cell: f64,
    /// What is measured on, for the bundle [default: the paths of --truth].
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Put the section into model.toml of the version that answered, in models.repository.
    #[arg(long)]
    write: bool,
    /// Time budget of a frame.
    #[arg(long, value_name = "D", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to connect to.
    #[command(flatten)]
    connect: ConnectArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl CalibrateArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Truths that cannot be read, no daemon, too few predictions, or a bundle that cannot be written.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.check()?;
        let settings = self.connect.settings()?;
        let mut truths = Vec::new();
        for path in &self.truth {
            truths.extend(truths::read(path).map_err(|error| Usage(format!("--truth: {error:#}")))?);
        }
        let connection = nats::connect(&settings.nats, "sferic calibrate").await?;
        let output = Output::with_bar(truths.len() as u64);
        let subject = format!("{}.frames.calibrate", settings.nats.prefix);
        let mut asked = stream::iter(truths.iter().enumerate())
            .map(|(index, truth)| self.ask(&connection, &subject, index, truth))
            .buffered(OUTSTANDING);
        let (mut measured, mut failures, mut version) = (Vec::new(), 0, None);
        while let Some(answer) = asked.next().await {
            output.advance();
            let (truth, outcome) = answer?;
            match self.measured(&outcome, truth.position) {
                Some(each) => {
                    let answered = format!("{}@{}", text(&outcome, "model"), text(&outcome, "model_version"));
                    if version.get_or_insert_with(|| answered.clone()) != &answered {
                        bail!("two versions have answered, {answered} and another: name one");
                    }
                    measured.push(each);
                }
                None => {
                    failures += 1;
                    if failures == 1 {
                        output.say(format!("{}: no position: {outcome}", truth.shown));
                    }
                }
            }
        }
        output.finish();
        ensure!(
            measured.len() >= LEAST,
            "{} of {} frames have got a position, must be {LEAST} or more",
            measured.len(),
            truths.len()
        );
        let report = Report::of(&measured, &self.levels).context("no predictions")?;
        let version = version.context("no version has answered")?;
        let paths =
            || self.truth.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let section = section(&report, &self.source.clone().unwrap_or_else(paths));
        if self.json {
            output.line(
                json!({"model": version, "failures": failures, "report": report, "section": section}),
            )?;
        } else {
            for line in
                lines(&report, &version, failures).into_iter().chain(section.lines().map(str::to_owned))
            {
                output.line(line)?;
            }
        }
        if self.write {
            let (name, number) = version.split_once('@').context("a version without a number")?;
            let path = settings.models.repository.join(name).join(number).join("model.toml");
            write(&path, &section)?;
            output.say(format!("written to {}; `sferic models reload {name}` takes it", path.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> Result<(), Usage> {
        let rises = self.levels.windows(2).all(|two| two[0] < two[1]);
        if !rises || self.levels.iter().any(|level| !(*level > 0.0 && *level < 1.0)) {
            return Err(Usage(format!("--levels is {:?}, must rise above 0 and below 1", self.levels)));
        }
        if !(self.cell > 0.0 && self.cell.is_finite()) {
            return Err(Usage(format!("--cell is {}, must be metres above 0", self.cell)));
        }
        Ok(())
    }

    async fn ask<'a>(
        &self,
        connection: &Connection,
        subject: &str,
        index: usize,
        truth: &'a Truth,
    ) -> anyhow::Result<(&'a Truth, Outcome)> {
        let timeout_ms = u64::try_from(self.timeout.as_millis())?;
        let message = truth.frame.message(&self.model, timeout_ms, &format!("calibrate-{index}"));
        let (payload, is_json) = message.with_context(|| truth.shown.clone())?;
        let mut headers = HeaderMap::new();
        let encoding = if is_json { Encoding::Json } else { Encoding::MessagePack };
        headers.insert("Content-Type", sferic_wire::content_type(encoding));
        let request = Request::new().payload(payload.into()).headers(headers);
        let request = request.timeout(Some(self.timeout + Duration::from_secs(5)));
        let reply = connection.client().send_request(subject.to_owned(), request).await;
        let reply = reply.with_context(|| format!("{} got no answer", truth.shown))?;
        Ok((truth, Outcome::decode(&reply)?))
    }

    fn measured(&self, outcome: &Outcome, truth: GeoPoint) -> Option<Measured> {
        let (error_m, x, y) = offset_in_sigmas(outcome, truth)?;
        let [sigma_x, sigma_y] = ["sigma_x", "sigma_y"].map(|key| outcome.number(&["uncertainty", key]));
        let squared = x * x + y * y;
        let score = squared / 2.0 + (std::f64::consts::TAU * sigma_x? * sigma_y?).ln();
        let east = truth.longitude * truth.latitude.to_radians().cos();
        let cell = |degrees: f64| (degrees * DEGREE_M / self.cell).floor() as i64;
        let place = (cell(truth.latitude), cell(east));
        Some(Measured { place, error_m, squared, score }).filter(|each| each.squared.is_finite())
    }
}

/// Writes the section into a bundle, which must be one with it.
fn write(path: &std::path::Path, section: &str) -> anyhow::Result<()> {
    let bundle = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let written = with_section(&bundle, section);
    let folder = path.parent().context("a bundle without a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder).context("cannot write into the bundle")?;
    std::io::Write::write_all(&mut file, written.as_bytes())?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    if let Err(error) = Bundle::read(folder) {
        std::fs::write(path, bundle)?;
        bail!("the bundle would not be one with it, and is as it was: {error}");
    }
    Ok(())
}

fn text<'a>(outcome: &'a Outcome, key: &str) -> &'a str {
    outcome.get(key).and_then(|value| value.as_str()).unwrap_or_default()
}

fn lines(report: &Report, version: &str, failures: usize) -> Vec<String> {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut table =
        Table::new(["level", "holds", "95 % over places", "radius²", "95 %", "normal", "elsewhere"]);
    for level in &report.levels {
        let ([low, high], [least, most]) = (level.held_interval, level.radius_squared_interval);
        table.row([
            percent(level.level),
            percent(level.held),
            format!("{} to {}", percent(low), percent(high)),
            format!("{:.2}", level.radius_squared),
            format!("{least:.2} to {most:.2}"),
            format!("{:.2}", -2.0 * (1.0 - level.level).ln()),
            percent(level.held_elsewhere),
        ]);
    }
    let mut lines = vec![
        format!("{version}: {} predictions at {} places, {failures} failures", report.n, report.places),
        format!(
            "error: median {:.0} m, mean {:.0} m; mean score {:.3}",
            report.median_error_m, report.mean_error_m, report.score
        ),
        String::new(),
    ];
    lines.extend(table.to_string().lines().map(str::to_owned));
    lines.push(String::new());
    lines
}
