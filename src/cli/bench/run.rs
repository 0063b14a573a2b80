//! One run: what is sent, recorded and reported.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use sferic_actors::frame::Encoding;
use sferic_load::{End, FrameSize, KneeSearch, Recorder, Report, Request, Run, Step, repeats};
use sferic_settings::available_cores;
use tokio::sync::mpsc::UnboundedReceiver;

use super::args::{LoadArgs, WARM_UP, WARM_UP_S};
use super::client::{Client, Ended, HttpCalls, Way};
use super::costs::{Costs, Sample, Within};
use super::frames::{FrameShape, Frames};
use super::load::{Done, Load};
use super::oip::OipInput;
use super::target::Target;
use super::verify::verify;
use crate::cli::Usage;
use crate::cli::output::Output;
use crate::usage::own_cpu;

/// How much longer than a frame's budget its outcome is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// Answers that are compared at most.
const VERIFIED: usize = 1000;

/// What frames fail with that nobody takes, because the daemon has ended.
const UNREACHABLE: &str = "unreachable";

/// The rate at which a search for the knee begins where none is given, and the highest, frames a second.
const KNEE: (f64, f64) = (50.0, 1e6);

/// Frames that a step of that search has at least.
const LEAST_FRAMES: f64 = 10.0;

/// Runs the load.
///
/// # Errors
/// Wrong arguments, no daemon, or a frame that its model does not take.
pub async fn run(args: &LoadArgs) -> anyhow::Result<Report> {
    let settings = args.connect.settings()?;
    let target = match args.embedded {
        true => Target::embedded(args.connect.config.as_deref(), &settings).await?,
        false => Target::running(&settings).await?,
    };
    let done = Bench::new(args, &target).await;
    let report = match done {
        Ok(bench) => bench.run().await,
        Err(error) => Err(error),
    };
    target.end(settings.nats.publish_timeout).await;
    report
}

/// A load test of a daemon.
pub struct Bench<'a> {
    args: &'a LoadArgs,
    target: &'a Target,
    shape: FrameShape,
    client: Arc<Client>,
    /// The stream that takes the frames, if one does.
    stream: Option<String>,
    /// The daemons that share the frames.
    daemons: usize,
    costs: Costs,
    /// The model that answers, as the daemon describes it.
    model: Value,
}

impl<'a> Bench<'a> {
    /// Prepares one.
    ///
    /// # Errors
    /// There is no such model, or it has other inputs than samples.
    pub async fn new(args: &'a LoadArgs, target: &'a Target) -> anyhow::Result<Self> {
        let asked = args.model.as_ref().map_or_else(|| json!({}), |model| json!({"model": model}));
        let model = target.ask("models.info", &asked).await.map_err(|error| Usage(error.to_string()))?;
        let features = &model["features"];
        if !features.is_object() || features["kind"] == "tensor" {
            bail!("{} has other inputs than samples, of which no frames are made", model["model"]);
        }
        let shape = FrameShape {
            model: args.model.clone(),
            datatype: args.datatype,
            channels: features["num_channels"].as_u64().unwrap_or(1) as usize,
            sample_rate: Some(features["sample_rate_hz"].as_f64().unwrap_or(1e6)),
            samples: args.samples,
            timeout_ms: u64::try_from(args.timeout.as_millis())?,
            oip: args.is_oip()?.then(|| OipInput::new(&model, args.samples)).transpose()?,
            encoding: args.encoding,
        };
        let stream = if args.http.is_some() { None } else { target.stream().await };
        let mode = args.mode.as_deref().unwrap_or(if stream.is_some() { "publish" } else { "request" });
        if let (Some(stream), "request") = (&stream, mode) {
            let why = "whose acknowledgement would count as the answer: use --mode publish, or leave it out";
            return Err(Usage(format!("--mode request: the stream {stream} takes the frames, {why}")).into());
        }
        let way = match &args.http {
            Some(url) => {
                let (address, token) = match url.as_str() {
                    "embedded" => {
                        let address = target.http().context("--http embedded is for --embedded")?;
                        (address, String::new())
                    }
                    running => (running.to_owned(), args.connect.settings()?.http.token),
                };
                Way::Http(match &shape.oip {
                    None => HttpCalls::frames(&address, args.encoding, &token)?,
                    Some(input) => {
                        let answers = model["model"].as_str().unwrap_or_default();
                        let asked = args.model.as_deref().unwrap_or(answers);
                        let length = Frames::json_length(input, shape.timeout_ms);
                        HttpCalls::oip(&address, asked, length, &token)?
                    }
                })
            }
            None if mode == "publish" => Way::publishing(&target.connection, &target.prefix).await?,
            None => {
                let (connection, prefix) = (target.connection.clone(), target.prefix.clone());
                Way::Request { connection, prefix }
            }
        };
        let client = Arc::new(Client { way, encoding: args.encoding });
        let daemons = target.statistics().await?.len();
        Ok(Self { args, target, shape, client, stream, daemons, costs: Costs::default(), model })
    }

    async fn run(&self) -> anyhow::Result<Report> {
        match self.args.rate {
            _ if self.args.find_knee => self.find_knee().await,
            Some(rate) => self.measure(Some(rate)).await,
            None => self.measure(None).await,
        }
    }

    /// Looks for the highest rate that reaches every level; the report is that of the knee.
    async fn find_knee(&self) -> anyhow::Result<Report> {
        // Fewer frames in a step have no percentiles.
        let least = LEAST_FRAMES / self.args.seconds;
        let search = KneeSearch::new(self.args.rate.unwrap_or(KNEE.0), least, KNEE.1);
        let mut search = search.map_err(|error| Usage(error.to_string()))?;
        let (mut best, mut last): (Option<Report>, Option<Report>) = (None, None);
        let output = Output::plain();
        while let Some(rate) = search.next_rate() {
            let report = self.measure(Some(rate)).await?;
            let (latency, met) = (report.measured.latency_ms.as_ref(), report.reached());
            let [p50_ms, p99_ms] = [latency.map(|of| of.p50), latency.map(|of| of.p99)];
            let flaws = report.validity.reasons.join("; ");
            let reached = match (report.validity.valid, met) {
                (true, true) => "meets every level".to_owned(),
                (false, true) => format!("meets every level, but {flaws}"),
                (true, false) => "misses a level".to_owned(),
                (false, false) => format!("not valid: {flaws}"),
            };
            let p99 = p99_ms.map_or("nothing answered".to_owned(), |ms| format!("p99 {ms:.1} ms"));
            output.say(format!("{rate:.0} frames/s, {p99}: {reached}"));
            let generator_limited = report.validity.generator_limited && !met;
            search.record(Step { rate, p50_ms, p99_ms, met, generator_limited });
            if met && best.as_ref().is_none_or(|best| best.measured.rate < report.measured.rate) {
                best = Some(report);
            } else {
                last = Some(report);
            }
        }
        let mut report = best.or(last).context("no rate was tried")?;
        report.knee = Some(search.knee());
        Ok(report)
    }

    /// The model that answers, as the daemon describes it.
    pub fn model(&self) -> &Value {
        &self.model
    }

    /// Warms up, and measures.
    ///
    /// # Errors
    /// Wrong arguments, or a frame cannot be sent.
    pub async fn measure(&self, rate: Option<f64>) -> anyhow::Result<Report> {
        let args = self.args;
        let salt = rand::random();
        let frames = Arc::new(Frames::new(&self.shape, true, salt)?);
        let patience = args.timeout + GRACE;
        let load = Load { client: Arc::clone(&self.client), frames: Arc::clone(&frames), patience };
        let users = args.users.unwrap_or(1) as usize;
        // Frames of the warm-up are others than the measured ones.
        let others = |count: u32| (0..count).map(|n| u32::MAX - n).collect::<Vec<_>>();
        let mut warm_up = match rate {
            Some(rate) => {
                let times = args.times(rate, WARM_UP_S.min(args.seconds))?;
                let others = others(u32::try_from(times.len())?);
                load.clone().at(times, others)
            }
            None => load.clone().users(users, others(WARM_UP)),
        };
        while let Some(done) = warm_up.recv().await {
            if let Err(error) = done.how {
                bail!("{error}");
            }
        }
        let times = rate.map(|rate| args.times(rate, args.seconds)).transpose()?;
        let count = match &times {
            Some(times) => times.len(),
            None => users * args.requests as usize,
        };
        let which = repeats(u32::try_from(count)?, args.repeat, args.zipf, args.seed);
        let which = which.map_err(|error| Usage(error.to_string()))?;
        let window = rate.map(|_| Duration::try_from_secs_f64(args.seconds)).transpose()?;
        let mut recorder = Recorder::new(window)?;
        self.costs.begin(self.target, self.pid()).await;
        let (own, begun, started) = (own_cpu(), Instant::now(), SystemTime::now());
        let done = match times {
            Some(times) => load.at(times, which),
            None => load.users(users, which),
        };
        let output = Output::with_bar(count as u64);
        let kept = self.record(done, &mut recorder, begun, &output).await;
        output.finish();
        let kept = kept?;
        // Of an open loop it goes on a little beyond the window.
        let (generator_cpu, lasted) = (own_cpu().saturating_sub(own), begun.elapsed());
        let measured = window.unwrap_or(lasted);
        self.costs.sample(self.target, self.pid(), begun).await;
        let Within { total, by_second, by_thread, process } = self.costs.within(measured);
        let mut about = self.about(rate);
        if args.verify > 0.0 {
            let again = Frames::new(&self.shape, false, salt)?;
            match verify(&self.client, &again, &kept, patience).await {
                Ok(verified) => _ = about.insert("verified".to_owned(), serde_json::to_value(verified)?),
                // The report is worth having without.
                Err(error) => output.say(format!("the answers could not be compared: {error}")),
            }
        }
        let run = Run {
            about,
            started,
            frame: FrameSize {
                samples: (self.shape.samples * self.shape.channels) as u64,
                bytes: frames.bytes() as u64,
            },
            levels: args.levels(),
            generator_cpu: generator_cpu.mul_f64(share_of(measured, lasted)),
            generator_cores: available_cores() as f64,
            daemon_cpu: total,
            daemon_cpu_by_second: by_second,
            daemon_cpu_by_thread: by_thread,
            process_cpu: args.pid.and(process),
        };
        Ok(Report::new(&recorder, run))
    }

    /// Records requests until all are over; gives the answers that are to be verified.
    async fn record(
        &self,
        mut done: UnboundedReceiver<Done>,
        recorder: &mut Recorder,
        begun: Instant,
        output: &Output,
    ) -> anyhow::Result<Vec<(u32, Bytes)>> {
        let mut sampling = pin!(self.costs.watch(self.target, self.pid(), begun));
        let mut kept = Vec::new();
        let every = (self.args.verify > 0.0).then(|| (1.0 / self.args.verify).round() as usize);
        let (mut count, mut has_failed) = (0, false);
        loop {
            let request = tokio::select! {
                request = done.recv() => request,
                () = &mut sampling => continue,
            };
            let Some(Done { intended, sent, ended, which, how }) = request else { break };
            output.advance();
            count += 1;
            let end = match (how, sent) {
                (_, None) => End::NotSent,
                (Err(error), _) => {
                    // The daemon has answered the warm-up; that it has gone since is a result.
                    if !std::mem::replace(&mut has_failed, true) {
                        output.say(format!("a frame could not be sent: {error}"));
                    }
                    End::Failed { code: UNREACHABLE.to_owned() }
                }
                (Ok(Ended::TimedOut), _) => End::TimedOut,
                (Ok(Ended::Failed(code)), _) => End::Failed { code },
                (Ok(Ended::Answered { cache_hit, outcome }), _) => {
                    if every.is_some_and(|every| count % every == 0) && kept.len() < VERIFIED {
                        kept.push((which, outcome));
                    }
                    End::Answered { is_hit: cache_hit }
                }
            };
            recorder.record(Request { intended, sent: sent.unwrap_or(intended), ended, end });
        }
        Ok(kept)
    }

    /// What the daemons have used in the last measurement, a sample a second.
    pub fn samples(&self) -> Vec<Sample> {
        self.costs.samples()
    }

    fn pid(&self) -> Option<u32> {
        self.target.pid().or(self.args.pid)
    }

    /// What was run.
    fn about(&self, rate: Option<f64>) -> BTreeMap<String, Value> {
        let args = self.args;
        let transport = if args.http.is_some() { "http" } else { "nats" };
        let mode = match (&self.client.way, &self.stream) {
            (Way::Http(_), _) if self.shape.oip.is_some() => "infer",
            (Way::Http(_), _) => "call",
            (Way::Request { .. }, _) => "request",
            (Way::Publish { .. }, Some(_)) => "stream",
            (Way::Publish { .. }, None) => "publish",
        };
        let encoding = if args.encoding == Encoding::Json { "json" } else { "msgpack" };
        let mut about = BTreeMap::from([
            ("model", self.model["model"].clone()),
            ("version", self.model["version"].clone()),
            ("digest", self.model["digest"].clone()),
            ("transport", transport.into()),
            ("mode", mode.into()),
            ("encoding", encoding.into()),
            ("daemons", self.daemons.into()),
            ("datatype", args.datatype.name().into()),
            ("channels", self.shape.channels.into()),
            ("repeat", args.repeat.into()),
            ("sferic", env!("CARGO_PKG_VERSION").into()),
        ]);
        if let Some(input) = &self.shape.oip {
            about.insert("input", input.text().into());
        }
        match rate {
            Some(rate) => {
                about.insert("rate", ((rate * 10.0).round() / 10.0).into());
                about.insert("seconds", args.seconds.into());
                about.insert("arrivals", args.arrivals.clone().into());
            }
            None => {
                about.insert("users", args.users.unwrap_or(1).into());
                about.insert("requests", args.requests.into());
            }
        }
        about.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn share_of(part: Duration, of: Duration) -> f64 {
    (part.as_secs_f64() / of.as_secs_f64()).min(1.0)
}
