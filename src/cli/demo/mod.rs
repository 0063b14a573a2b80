//! `sferic demo`: the main job with everything it needs, on simulated scenes whose truth is known.

pub(super) mod accuracy;
mod frames;
mod page;
mod picture;
mod receivers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use futures::{StreamExt, stream};
use serde_json::json;
use sferic_scene::{ORIGIN, Scene, SceneSimulator, trilateration};
use sferic_settings::{self as settings, Settings};

use super::outcome::Outcome;
use super::output::Output;
use super::{Usage, logging};
use crate::app::App;
use crate::nats::{self, Connection, PrivateServer};
use crate::shutdown;
use accuracy::{Accuracy, Miss, PROBABILITIES, quantile};
use frames::{OUTSTANDING, SOURCE, frame};
use picture::Mark;

/// Scenes that are played where nothing is said.
const FRAMES: u64 = 200;

/// Where measured sessions are looked for.
const MEASUREMENTS: &str = "../shared/loc/powder";

/// Plays simulated scenes through a daemon of its own, and shows each prediction beside the truth.
///
/// Starts a private NATS server and the daemon with the shipped model `localization`. Each scene is one
/// emitter somewhere among three receivers, and one frame. At the end, an accuracy summary: errors, and how
/// often the ellipses held the truth. Exits 0 when every frame got its prediction. With --page, scenes are
/// played on the operator's page instead, and each receiver's signal is classified, too. With --receivers,
/// each receiver sends frames of its own, and a gathered model answers about all of them.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many scenes are played [default: 200; with --page: on until Ctrl-C].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// What the scenes are drawn from; the same seed plays the same scenes. Those of training have other
    /// seeds.
    #[arg(long, value_name = "S", default_value_t = 2026)]
    seed: u64,
    /// Print one JSON object a frame, and the summary as the last.
    #[arg(long)]
    json: bool,
    /// Draw a PNG picture: maps of the first six scenes with truth, prediction and ellipse, and how many of
    /// all truths lie within their ellipses. A file of the same name is overwritten.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Serve the operator's page at the configuration's http.listen, and play scenes on it until Ctrl-C.
    #[arg(long, conflicts_with_all = ["json", "picture"])]
    page: bool,
    /// Play sessions of several receivers instead, for the gathered models: simulated ones for `tdoa`, and
    /// for `rss` the measured ones of --measurements that it was not trained on.
    #[arg(long, conflicts_with = "picture")]
    receivers: bool,
    /// A folder with the levels of POWDER: fixes.jsonl and fixed_receivers.json [default:
    /// ../shared/loc/powder, where it is there].
    #[arg(long, value_name = "DIR", requires = "receivers")]
    measurements: Option<PathBuf>,
    /// Configuration file; the address of the NATS server in it is replaced by the private one's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DemoArgs {
    /// Runs the command, until the scenes are played or a signal asks for the end.
    ///
    /// # Errors
    /// The configuration is wrong, or the server or the daemon cannot be started.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // Known before the scenes are played, not after.
        if let Some(folder) = self.picture.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            return Err(Usage(format!("--picture: there is no folder {}", folder.display())).into());
        }
        let server = PrivateServer::start(&[]).await?;
        // The demo prints its own lines; the daemon logs only warnings.
        let mut overrides = vec![("nats.url", server.url()), ("telemetry.log", "warn")];
        if !self.page {
            // A daemon may be running beside it.
            overrides.push(("http.listen", ""));
        }
        let overrides: Vec<_> =
            overrides.into_iter().map(|(key, value)| (key.to_owned(), toml::Value::from(value))).collect();
        let settings =
            settings::load(self.config.as_deref(), &overrides).map_err(|error| Usage(error.to_string()))?;
        logging::start(&settings.telemetry)?;
        let app = App::start(&settings).await?;
        app.ready().await;
        let connection = nats::connect(&settings.nats, "sferic demo").await?;

        let frames = self.frames.unwrap_or(if self.page { u64::MAX } else { FRAMES });
        let output = if self.page { Output::plain() } else { Output::with_bar(frames) };
        let playing = async {
            match app.http_address().filter(|_| self.page) {
                Some(address) if self.receivers => {
                    output.say(format!("the operator's page is at http://{address}/; Ctrl-C ends it"));
                    self.play_receivers(&settings, &connection, &output, frames).await
                }
                _ if self.receivers && !self.page => {
                    self.play_receivers(&settings, &connection, &output, frames).await
                }
                Some(address) => {
                    output.say(format!("the operator's page is at http://{address}/; Ctrl-C ends it"));
                    page::play(&settings, &connection, self.seed, 0..frames).await.map(|()| true)
                }
                None if self.page => anyhow::bail!("--page: http.listen is empty"),
                None => self.play(&settings, &connection, &output, frames).await,
            }
        };
        let played = tokio::select! {
            played = playing => played,
            requested = shutdown::requested() => requested.map_err(Into::into).and(Ok(self.page)),
        };
        output.finish();
        connection.close(settings.nats.publish_timeout).await;
        app.shut_down().await;
        server.kill().await.context("the private NATS server could not be ended")?;
        Ok(if played? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Plays sessions; whether each got its answer.
    async fn play_receivers(
        &self,
        settings: &Settings,
        connection: &Connection,
        output: &Output,
        sessions: u64,
    ) -> anyhow::Result<bool> {
        let usual = Path::new(MEASUREMENTS);
        let measurements = self.measurements.as_deref().or(usual.is_dir().then_some(usual));
        let prefix = &settings.nats.prefix;
        receivers::play(connection, prefix, output, (self.seed, sessions), measurements, self.json).await
    }

    /// Plays the scenes; whether each got its prediction.
    async fn play(
        &self,
        settings: &Settings,
        connection: &Connection,
        output: &Output,
        frames: u64,
    ) -> anyhow::Result<bool> {
        if !self.json {
            output.say(
                "One emitter, three receivers, an unknown power and 4 to 8 dB of shadowing in a \
                square of 6 km.",
            );
            output.line(format!(
                "{:>5}  {:<6} {:<20} {:<42} {:>7}  {:<6} {:>8}",
                "scene", "sends", "is at", "predicted (68 % ellipse)", "off by", "holds", "took"
            ))?;
        }
        let subject = format!("{}.frames.{SOURCE}", settings.nats.prefix);
        let simulator = SceneSimulator::new(self.seed);
        let ask = async |index: u64| {
            let scene = tokio::task::block_in_place(|| simulator.scene(index));
            let reply = connection.client().request(subject.clone(), frame(&scene, index)?.into()).await;
            anyhow::Ok((
                index,
                scene,
                Outcome::decode(&reply.with_context(|| format!("scene {index} got no answer"))?)?,
            ))
        };
        let mut answers = std::pin::pin!(stream::iter(0..frames).map(ask).buffered(OUTSTANDING));
        let (mut misses, mut yardstick, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(answer) = answers.next().await {
            let (index, scene, outcome) = answer?;
            let miss = Miss::of(&outcome, scene.truth.position);
            output.line(if self.json {
                json_line(index, &scene, &outcome, miss)
            } else {
                line(index, &scene, &outcome, miss)
            })?;
            output.advance();
            misses.extend(miss);
            marks.extend(miss.and_then(|miss| Mark::of(&scene, &outcome, miss)));
            yardstick.push(trilateration::locate(scene.powers()).distance_m(scene.truth.offset));
        }
        let Some(accuracy) = Accuracy::of(&misses) else {
            anyhow::bail!("none of {frames} frames got a prediction")
        };
        let yardstick_m = quantile(&yardstick, 0.5).unwrap_or(f64::NAN);
        for line in if self.json {
            vec![json!({"accuracy": accuracy, "trilateration_median_error_m": yardstick_m}).to_string()]
        } else {
            summary(&accuracy, yardstick_m)
        } {
            output.line(line)?;
        }
        if let Some(path) = &self.picture {
            std::fs::write(path, picture::png(&marks, &accuracy, yardstick_m)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            output.say(format!("picture: {}", path.display()));
        }
        Ok(misses.len() as u64 == frames)
    }
}

fn line(index: u64, scene: &Scene, outcome: &Outcome, miss: Option<Miss>) -> String {
    let truth = &scene.truth;
    let place = format!("{:.4}, {:.4}", truth.position.latitude, truth.position.longitude);
    let Some(miss) = miss else {
        return format!("{index:>5}  {:<6} {place:<20} {outcome}", truth.family.label());
    };
    let number = |path: [&str; 2]| outcome.number(&path).unwrap_or(f64::NAN);
    let predicted = format!(
        "{:.4}, {:.4} ± {:.0} × {:.0} m at {:.0}°",
        number(["position", "latitude"]),
        number(["position", "longitude"]),
        number(["ellipse", "semi_major"]),
        number(["ellipse", "semi_minor"]),
        // Not "-0".
        number(["ellipse", "rotation"]).round() + 0.0,
    );
    let holds = if miss.within <= number(["uncertainty", "confidence_interval"]) { "yes" } else { "no" };
    let took = outcome.number(&["inference_time_ms"]).unwrap_or(f64::NAN);
    format!(
        "{index:>5}  {:<6} {place:<20} {predicted:<42} {:>5.0} m  {holds:<6} {took:>5.1} ms",
        truth.family.label(),
        miss.error_m
    )
}

fn json_line(index: u64, scene: &Scene, outcome: &Outcome, miss: Option<Miss>) -> String {
    let truth = &scene.truth;
    let place = json!({"latitude": truth.position.latitude, "longitude": truth.position.longitude});
    let outcome = serde_json::from_str::<serde_json::Value>(&outcome.json()).unwrap_or_default();
    json!({"scene": index, "sends": truth.family.label(), "truth": place, "outcome": outcome, "miss": miss})
        .to_string()
}

fn summary(accuracy: &Accuracy, yardstick_m: f64) -> Vec<String> {
    let held = |(probability, held): (f64, f64)| {
        format!("{:.0} % ellipse {:.1} %", 100.0 * probability, 100.0 * held)
    };
    let coverage: Vec<_> = PROBABILITIES.into_iter().zip(accuracy.coverage).map(held).collect();
    vec![
        String::new(),
        format!(
            "{} predictions around {:.1}° N {:.1}° E",
            accuracy.predictions, ORIGIN.latitude, ORIGIN.longitude
        ),
        format!(
            "error: median {:.0} m, 90 % below {:.0} m (trilateration by signal strength, median \
             {yardstick_m:.0} m)",
            accuracy.median_error_m, accuracy.p90_error_m
        ),
        format!("held the truth: {}", coverage.join(", ")),
    ]
}
