//! `sferic soak`: a steady load for long, and whether what must hold did hold.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sferic_load::{GateLine, Report, Soaked, Validity, interval_log};

use super::bench::args::LoadArgs;
use super::bench::costs::Sample;
use super::bench::run::Bench;
use super::bench::target::Target;
use super::bench::write;
use super::output::Output;
use super::table::Table;
use super::{ConnectArgs, Usage};

/// Interval of the lines.
const LINE: Duration = Duration::from_secs(60);

/// Runs a steady load for long, and judges memory, latency, circuits, buffers and the ledger.
///
/// Prints a line a minute, and a table of targets at the end; exits 1 where one is missed. Memory is judged
/// by its growth an hour, in runs shorter than 10 minutes by how far it has grown after the first third.
#[derive(Args, Clone, Debug)]
pub struct SoakArgs {
    /// How long it runs.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    duration: Duration,
    /// Ends after about so many frames instead.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    frames: Option<u64>,
    /// Frames a second, at random times.
    #[arg(long, value_name = "R", default_value_t = 50.0)]
    rate: f64,
    /// The model, as `name` or `name@version`; absent: the daemon's default.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Samples a channel.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    samples: usize,
    /// Starts a NATS server and a daemon of its own, which end with it.
    #[arg(long)]
    embedded: bool,
    /// The process of a daemon on this host, whose memory is shown beside that which it states.
    #[arg(long, value_name = "PID", conflicts_with = "embedded")]
    pid: Option<u32>,
    /// Prints the gate, and the report of the load, as one JSON object.
    #[arg(long)]
    json: bool,
    /// Writes the latency of each second as a log of HDR histograms, which can be merged with others.
    #[arg(long, value_name = "FILE")]
    interval_log: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn time(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl SoakArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Wrong arguments, or no daemon.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let target = match self.embedded {
            true => Target::embedded(self.connect.config.as_deref(), &settings).await?,
            false => Target::running(&settings).await?,
        };
        let done = self.soak(&target).await;
        target.end(settings.nats.publish_timeout).await;
        let (soaked, report) = done?;
        let (output, gate) = (Output::plain(), soaked.gate());
        let Validity { valid, generator_limited, reasons, .. } = &report.validity;
        // What was sent late has made the latency longer, and nothing better.
        let is_load = *valid || *generator_limited && report.measured.not_sent == 0;
        let passed = soaked.passed() && is_load;
        if let Some(path) = &self.interval_log {
            write(path, &interval_log(&report)?)?;
        }
        match self.json {
            true => output.raw(json!({"gate": gate, "passed": passed, "report": report}))?,
            false => output.raw(table(&gate).trim_end())?,
        }
        if !valid {
            let (says, reasons) = match is_load {
                true => ("the latency is the generator's too", reasons.join("; ")),
                false => ("INVALID: the load was not as asked for", reasons.join("; ")),
            };
            output.say(format!("{says}: {reasons}"));
        }
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn soak(&self, target: &Target) -> anyhow::Result<(Soaked, Report)> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err(Usage(format!("--rate is {}, must be above 0", self.rate)).into());
        }
        let seconds = self.frames.map_or(self.duration.as_secs_f64(), |frames| frames as f64 / self.rate);
        let load = LoadArgs {
            model: self.model.clone(),
            samples: self.samples,
            pid: self.pid,
            ..LoadArgs::steady(self.rate, seconds, self.connect.clone())
        };
        let bench = Bench::new(&load, target).await?;
        let before = Counts::of(&target.statistics().await?);
        let report = {
            let measuring = bench.measure(Some(self.rate));
            let watching = watch(target, &bench);
            tokio::select! {
                report = measuring => report?,
                error = watching => return Err(error),
            }
        };
        let samples = bench.samples();
        if let (Some(pid), Some(last)) = (self.pid, samples.last()) {
            let shown = |bytes: Option<u64>| match bytes {
                Some(bytes) => format!("{:.1} MB", bytes as f64 / 1e6),
                None => "nothing".to_owned(),
            };
            let stated = last.stated.as_ref().and_then(|usage| usage.resident_bytes);
            let seen = last.process.map(|(_, bytes)| bytes);
            let (stated, seen) = (shown(stated), shown(seen));
            Output::plain().say(format!("memory: {stated} as the daemon states it, {seen} of process {pid}"));
        }
        let resident =
            samples.iter().filter_map(|sample| Some((sample.at, sample.resident_bytes()?))).collect();
        // What is on its way is over by then.
        let after = Counts::of(&target.statistics().await?);
        let taken = after.buffers.map(|count| count as f64);
        let taken_before = before.buffers.map(|count| count as f64);
        let [hits, misses] = [taken[0] - taken_before[0], taken[1] - taken_before[1]];
        let soaked = Soaked {
            duration: Duration::try_from_secs_f64(seconds)?,
            p99_ms: report.measured.latency_ms.as_ref().map(|of| of.p99),
            resident,
            inferences: after.inferences.saturating_sub(before.inferences),
            dispatch: dispatch(bench.model()),
            openings: after.openings.saturating_sub(before.openings),
            buffer_hit_rate: (hits + misses > 0.0).then(|| hits / (hits + misses)),
            unbalanced: after.unbalanced,
            lost: after.lost.saturating_sub(before.lost),
        };
        Ok((soaked, report))
    }
}

/// Prints a line a minute. Returns only where the daemon is gone.
async fn watch(target: &Target, bench: &Bench<'_>) -> anyhow::Error {
    let output = Output::plain();
    let mut ticks = tokio::time::interval(LINE);
    let mut silent = 0;
    for minute in 0.. {
        ticks.tick().await;
        match target.statistics().await {
            Ok(statistics) => {
                silent = 0;
                let counts = Counts::of(&statistics);
                let bytes = bench.samples().last().and_then(Sample::resident_bytes);
                let memory = bytes.map(|bytes| format!(", {:.1} MB", bytes as f64 / 1e6));
                output.say(format!(
                    "{minute:>4} min: {} inferences, {} openings of circuits, {} lost{}",
                    counts.inferences,
                    counts.openings,
                    counts.lost,
                    memory.unwrap_or_default()
                ));
            }
            Err(error) if silent >= 2 => return error.context("the daemon does not answer any more"),
            Err(_) => silent += 1,
        }
    }
    anyhow::anyhow!("it has run for ever")
}

/// What the daemons have counted.
#[derive(Default)]
struct Counts {
    inferences: u64,
    openings: u64,
    lost: u64,
    /// Buffers taken that were reused, and that were allocated.
    buffers: [u64; 2],
    unbalanced: i64,
}

impl Counts {
    /// Of all daemons together.
    fn of(statistics: &[Value]) -> Self {
        statistics.iter().map(Self::of_one).fold(Self::default(), |all, one| Self {
            inferences: all.inferences + one.inferences,
            openings: all.openings + one.openings,
            lost: all.lost + one.lost,
            buffers: [all.buffers[0] + one.buffers[0], all.buffers[1] + one.buffers[1]],
            unbalanced: all.unbalanced + one.unbalanced,
        })
    }

    /// Of one daemon.
    fn of_one(statistics: &Value) -> Self {
        let number = |of: &Value| of.as_u64().unwrap_or_default();
        let (ledger, buffers) = (&statistics["ledger"], &statistics["buffers"]);
        let circuits = statistics["breaker"].as_array().into_iter().flatten();
        let ended = ["predictions", "failures", "lost", "in_flight", "redelivered", "duplicates_dropped"];
        let ended: u64 = ended.iter().map(|key| number(&ledger[key])).sum();
        Self {
            inferences: number(&statistics["pool"]["inferences"]),
            openings: circuits.map(|circuit| number(&circuit["openings"])).sum(),
            lost: number(&ledger["lost"]),
            buffers: [number(&buffers["hits"]), number(&buffers["misses"])],
            unbalanced: number(&ledger["received"]) as i64 - ended as i64,
        }
    }
}

/// The share of the nodes that the first of a model's providers runs; `None` where that is the CPU.
fn dispatch(model: &Value) -> Option<f64> {
    let preferred = model["providers"].get(0)?.as_str()?;
    let shares = model["shares"].as_array()?;
    let of = shares.iter().find(|share| share["provider"] == preferred);
    Some(of.and_then(|share| share["nodes"].as_f64()).unwrap_or_default())
}

fn table(gate: &[GateLine]) -> String {
    let mut table = Table::new(["WHAT", "TARGET", "MEASURED", "VERDICT"]);
    for GateLine { name, target, measured, met } in gate {
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not judged",
        };
        table.row([(*name).to_owned(), target.clone(), measured.clone(), verdict.to_owned()]);
    }
    table.to_string()
}
