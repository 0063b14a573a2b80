//! Arguments of a load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sferic_actors::frame::Encoding;
use sferic_load::{Arrivals, Levels, read_offsets};
use sferic_samples::Datatype;

use crate::cli::{ConnectArgs, Usage};

/// Requests of a closed loop before the measured ones.
pub const WARM_UP: u32 = 100;

/// Seconds of an open loop before the measured ones.
pub const WARM_UP_S: f64 = 2.0;

/// Frames of an open loop at most.
const MOST: usize = 10_000_000;

/// What is sent, how, and what it must reach.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Users, each of which sends its next frame when it has the answer to the last one; without this and
    /// `--rate` one.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub users: Option<u32>,
    /// Frames of each user.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub requests: u32,
    /// Frames a second, whatever has been answered; latency counts from when a frame should have been sent.
    /// Of a search for the knee, the rate that is tried first.
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// Seconds at that rate, after two to warm up; of a search for the knee, of each step.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// When frames are sent at a rate: poisson, even, bursts:N, or a file with a time in seconds a line.
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    pub arrivals: String,
    /// Looks for the highest rate that meets every level, by steps at rates of its own.
    #[arg(long, conflicts_with = "users")]
    pub find_knee: bool,
    /// Exactly this share of the frames repeats an earlier one, which the cache may answer, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub repeat: f64,
    /// How unequal repeated frames are: the exponent of Zipf's law; 0: all alike.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub zipf: f64,
    /// The model, as `name` or `name@version`; absent: the daemon's default.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Samples a channel.
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub samples: usize,
    /// How samples are stored: cf32_le, ci16_le, ci8 or cu8.
    #[arg(long, value_name = "DATATYPE", default_value = "cf32_le")]
    pub datatype: Datatype,
    /// What frames are encoded in: msgpack, or json with the samples in base64.
    #[arg(long, value_name = "ENCODING", default_value = "msgpack", value_parser = encoding)]
    pub encoding: Encoding,
    /// The budget of a frame: the daemon fails it after that, and it counts as not answered.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime)]
    pub timeout: Duration,
    /// Over NATS: request, or publish and read the outcomes from their subjects; absent: publish where a
    /// stream takes the frames, else request.
    #[arg(long, value_name = "MODE", value_parser = ["request", "publish"])]
    pub mode: Option<String>,
    /// Sends the frames over HTTP, to the daemon at this address; of one of its own, `--http embedded`. NATS
    /// is still asked for the model and what the daemon uses.
    #[arg(long, value_name = "URL", conflicts_with = "mode")]
    pub http: Option<String>,
    /// Over HTTP: sferic's own frames, or requests of the Open Inference Protocol with the model's input as a
    /// binary tensor, as long as the features of `--samples`.
    #[arg(
        long,
        value_name = "PROTOCOL",
        default_value = "sferic",
        value_parser = ["sferic", "oip"],
        conflicts_with = "mode"
    )]
    pub protocol: String,
    /// Starts a NATS server and a daemon of its own, which end with it.
    #[arg(long, conflicts_with = "url")]
    pub embedded: bool,
    /// The process of a daemon on this host, whose processor time is shown beside what it states.
    #[arg(long, value_name = "PID", conflicts_with = "embedded")]
    pub pid: Option<u32>,
    /// Compares this share of the answers, at most 1000, with those of the same frames sent again one at a
    /// time without the cache.
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub verify: f64,
    /// A level: the 95th percentile of latency must not be longer.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime)]
    pub p95: Duration,
    /// A level: the 99th percentile of latency must not be longer.
    #[arg(long, value_name = "TIME", default_value = "750ms", value_parser = humantime)]
    pub p99: Duration,
    /// A level: the share of the frames sent that must be answered.
    #[arg(long, value_name = "SHARE", default_value = "0.99", value_parser = share)]
    pub success: f64,
    /// A level: the share of the answers that must come from the cache; absent: `--repeat` less 0.02, without
    /// `--repeat` not judged.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub hit_rate: Option<f64>,
    /// Seed of arrivals and repeated frames.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Prints the report as one JSON object, which `sferic bench compare` reads.
    #[arg(long)]
    pub json: bool,
    /// Writes a line a second.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Writes a page with plots, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Writes the latency of each second as a log of HDR histograms, which can be merged with others.
    #[arg(long, value_name = "FILE")]
    pub interval_log: Option<PathBuf>,
    /// Where the configuration and the server are.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

fn humantime(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn encoding(text: &str) -> Result<Encoding, String> {
    match text {
        "msgpack" => Ok(Encoding::MessagePack),
        "json" => Ok(Encoding::Json),
        _ => Err("must be msgpack or json".to_owned()),
    }
}

/// A share: 0.8 or 80%.
fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    let share = number.map_err(|_| format!("{text:?} is no share, as 0.8 or 80%"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{text} is no share of 0 to 1")) }
}

impl LoadArgs {
    /// A steady load of one kind, for `seconds`.
    pub fn steady(rate: f64, seconds: f64, connect: ConnectArgs) -> Self {
        Self {
            users: None,
            requests: 0,
            rate: Some(rate),
            seconds,
            arrivals: "poisson".to_owned(),
            find_knee: false,
            repeat: 0.0,
            zipf: 0.0,
            model: None,
            samples: 8192,
            datatype: Datatype::Cf32Le,
            timeout: Duration::from_secs(5),
            encoding: Encoding::MessagePack,
            mode: None,
            http: None,
            protocol: "sferic".to_owned(),
            embedded: false,
            pid: None,
            verify: 0.0,
            p95: Duration::MAX,
            p99: Duration::MAX,
            success: 0.0,
            hit_rate: None,
            seed: 1,
            json: false,
            csv: None,
            html: None,
            interval_log: None,
            connect,
        }
    }

    /// Whether requests of the Open Inference Protocol are sent.
    ///
    /// # Errors
    /// [`Usage`]: something that they cannot be asked for.
    pub fn is_oip(&self) -> Result<bool, Usage> {
        let is_oip = self.protocol == "oip";
        let wrong = match () {
            () if self.http.is_none() => "is for HTTP: say --http URL too",
            () if self.encoding == Encoding::Json => "has a tensor in binary: leave --encoding json out",
            () if self.repeat > 0.0 => "has no sign of a cache hit in its answers: leave --repeat out",
            () if self.verify > 0.0 => "has no answers that --verify compares: leave it out",
            () => return Ok(is_oip),
        };
        if is_oip { Err(Usage(format!("--protocol oip {wrong}"))) } else { Ok(false) }
    }

    /// What must be reached.
    pub fn levels(&self) -> Levels {
        let of_repeats = (self.repeat > 0.0).then_some((self.repeat - 0.02).max(0.0));
        Levels {
            // A steady load has none.
            p95: Some(self.p95).filter(|level| *level < Duration::MAX),
            p99: Some(self.p99).filter(|level| *level < Duration::MAX),
            success: Some(self.success),
            hit_rate: self.hit_rate.or(of_repeats),
        }
    }

    /// When frames are sent at this rate, for so many seconds.
    ///
    /// # Errors
    /// [`Usage`]: a value that cannot be.
    pub fn times(&self, rate: f64, seconds: f64) -> Result<Vec<Duration>, Usage> {
        let wrong = |error: &dyn std::fmt::Display| Usage(format!("--arrivals {}: {error}", self.arrivals));
        let arrivals = match self.arrivals.as_str() {
            "poisson" => Arrivals::poisson(rate, self.seed),
            "even" => Arrivals::even(rate),
            other => match other.strip_prefix("bursts:") {
                Some(size) => Arrivals::bursts(rate, size.parse().map_err(|error| wrong(&error))?),
                None => {
                    let text = std::fs::read_to_string(Path::new(other)).map_err(|error| wrong(&error))?;
                    Ok(Arrivals::recorded(read_offsets(&text).map_err(|error| wrong(&error))?))
                }
            },
        };
        let within = Duration::try_from_secs_f64(seconds).map_err(|error| wrong(&error))?;
        let times = arrivals.map_err(|error| wrong(&error))?.within(within).take(MOST).collect::<Vec<_>>();
        if times.is_empty() {
            return Err(Usage(format!("no frame is sent within {seconds} s at {rate} frames/s")));
        }
        Ok(times)
    }
}
