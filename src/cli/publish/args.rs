//! Arguments of `sferic publish`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use humantime_serde::re::humantime;
use sferic_recording::{Cut, name};
use sferic_samples::units::hertz;
use sferic_samples::{Datatype, Geolocation};

use crate::cli::ConnectArgs;
use crate::cli::sending::Rate;

/// Publishes recordings or live radio as frames: SigMF (.sigmf-meta, .sigmf-data, .sigmf archives), WAV or
/// raw IQ files; standard input (-), rtl_tcp, GNU Radio over ZeroMQ.
///
/// Each recording is cut into frames of equal length. One shorter than a frame goes as one frame; a shorter
/// rest at the end is reported and not sent. Captures of one frequency are one stream unless
/// core:global_index or core:datetime shows a gap, and no frame holds two frequencies or a gap.
///
/// Live sources are sent as they come, each frame with the time of its first sample. What the daemon or the
/// connection cannot take is left out in whole frames, and counted; their seq shows the gap. A source that
/// stops is waited for.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The datatype of a raw file is taken from its extension (cu8, cs8, cs16, cf32, cfile, …; --datatype for any \
other), its rate \
and centre frequency from its name where that has them side by side with units, as in \
name_433.92M_250k.cu8, and they can \
mean nothing else; what is taken is printed. WAV files (8, 16, 24, 32 bits or float, I left and Q right) are \
read by their \
header, whatever --datatype says, and take their centre frequency from their name where they have no auxi \
chunk.

Live sources:
  -                                      standard input, to its end; with --datatype and --sample-rate
  rtl_tcp://HOST[:1234]?KEY=VALUE&...    frequency, sample_rate, gain (dB or auto), ppm, bias_tee, \
direct_sampling
  zmq+tcp://HOST:PORT?KEY=VALUE&...      GNU Radio's ZMQ PUB or PUSH sink, with or without tags: datatype \
(cf32_le), sample_rate, frequency
Several may be given, each becomes a source of its own. Frequencies and rates take k, M and G.

While a recording's subject has no subscriber, its first frame is sent again, for --patience at most. A \
refusal of the \
server is an error at once.

Without --wait, exits 0 once the server has accepted every frame; with --json prints id, source and seq of \
each. With --wait, \
at most 32 frames are unanswered at a time, each outcome is printed as it comes, and the exit code is 0 \
when every frame \
got exactly one, be it a prediction or a failure. A summary goes to standard error.

Examples:
  sferic publish recording.sigmf-meta --wait
  sferic publish name_433.92M_250k.cu8 --source north.rx2 --rate realtime
  sferic publish capture.bin --datatype ci16_le --sample-rate 2.4M --model modulation --wait --json
  rtl_sdr -f 433.92M -s 1.024M - | sferic publish - --datatype cu8 --sample-rate 1.024M \
--frequency 433.92M --source roof.rx1
  sferic publish 'rtl_tcp://roof?frequency=433.92M&sample_rate=1.024M&gain=28' --position 45.06,7.66,240")]
pub struct PublishArgs {
    /// Recordings, in the order in which they are sent, or live sources.
    #[arg(required = true, value_name = "PATH")]
    pub inputs: Vec<OsString>,
    /// Publish as this source: one or more tokens, such as `north.rx2` [default: each recording's name, with
    /// = and two hexadecimal digits for each byte but letters, digits, - and _; stdin, rtl_tcp-HOST-PORT,
    /// zmq-HOST-PORT].
    #[arg(long, value_name = "SOURCE", value_parser = source)]
    pub source: Option<String>,
    /// Ask this model, `name` or `name@version` [default: the daemon's].
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Samples per frame and channel.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..))]
    pub frame_samples: u64,
    /// Samples from one frame's start to the next one's [default: --frame-samples].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub hop: Option<u64>,
    /// Frames of recordings per second; `realtime`: as they were recorded; `max`: as fast as the server
    /// accepts them [default: max].
    #[arg(long, value_name = "N|realtime|max")]
    pub rate: Option<Rate>,
    /// How long to wait for a daemon while the frames of recordings have no subscriber; 0s: not at all.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience)]
    pub patience: Duration,
    /// Time budget of each frame, such as 500ms [default: the daemon's].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
    /// How the samples are stored, whatever the file says.
    #[arg(long, value_name = "DATATYPE", value_parser = datatype, help = datatype_help())]
    pub datatype: Option<Datatype>,
    /// Samples per second, whatever the file says, such as 2.4M.
    #[arg(long, value_name = "HZ", value_parser = sample_rate)]
    pub sample_rate: Option<f64>,
    /// Centre frequency, whatever the file says, such as 433.92M.
    #[arg(long, value_name = "HZ", value_parser = frequency, allow_hyphen_values = true)]
    pub frequency: Option<f64>,
    /// Where the receiver is, whatever the file says: degrees and metres, such as 45.06,7.66,240.
    #[arg(long, value_name = "LAT,LON[,ALT]", value_parser = position, allow_hyphen_values = true)]
    pub position: Option<Geolocation>,
    /// Send only frames whose mean power is over this, dB of full scale, such as -45; the others are counted.
    #[arg(long, value_name = "DB", value_parser = squelch, allow_hyphen_values = true)]
    pub squelch: Option<f64>,
    /// Publish for a model that gathers several receivers: frame n of each goes to the session ID-n, and the
    /// recordings are sent side by side.
    #[arg(long, value_name = "ID", value_parser = session)]
    pub session: Option<String>,
    /// How many frames each session will have; it is then answered as soon as they are there.
    #[arg(long, value_name = "N", requires = "session", value_parser = clap::value_parser!(u64).range(1..))]
    pub session_size: Option<u64>,
    /// Wait for each frame's outcome and print it.
    #[arg(long)]
    pub wait: bool,
    /// Print JSON objects, one a line; binary values are in standard base64.
    #[arg(long)]
    pub json: bool,
    /// Where to connect to.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

impl PublishArgs {
    /// Length and distance of the frames.
    pub(super) fn cut(&self) -> Cut {
        Cut { frame: self.frame_samples, hop: self.hop.unwrap_or(self.frame_samples) }
    }

    /// The subject of frame `n` of a source.
    pub(super) fn subject(&self, prefix: &str, source: &str, n: u64) -> String {
        match &self.session {
            Some(session) => format!("{prefix}.sessions.{session}-{n}.{source}"),
            None => format!("{prefix}.frames.{source}"),
        }
    }
}

pub(super) fn source(text: &str) -> Result<String, String> {
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
    };
    if text.split('.').all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("must be tokens with single dots between them, without spaces, `*` and `>`".to_owned())
    }
}

fn session(text: &str) -> Result<String, String> {
    match text.contains('.') {
        false => source(text),
        true => Err("must be one token without dots".to_owned()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout >= Duration::from_millis(1) => Ok(timeout),
        _ => Err("must be a duration of at least 1ms with its unit, such as 500ms or 2s".to_owned()),
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "must be a duration with its unit, such as 30s, or 0s".to_owned())
}

fn datatype_help() -> String {
    format!("How the samples are stored ({}), whatever the file says", name::datatype_list())
}

fn datatype(text: &str) -> Result<Datatype, String> {
    name::datatype_of_name(text).ok_or_else(|| format!("supported: {}", name::datatype_list()))
}

fn sample_rate(text: &str) -> Result<f64, String> {
    let rate = hertz::parse(text).filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| "must be a number over 0, in Hz, such as 2.4M or 48000".to_owned())
}

fn frequency(text: &str) -> Result<f64, String> {
    hertz::parse(text).ok_or_else(|| "must be a number of Hz, such as 433.92M".to_owned())
}

fn position(text: &str) -> Result<Geolocation, String> {
    let must = "must be latitude and longitude in degrees within ±90 and ±180, and perhaps an altitude in \
                metres, such as 45.06,7.66,240";
    Geolocation::parse(text).ok_or_else(|| must.to_owned())
}

fn squelch(text: &str) -> Result<f64, String> {
    let level = text.strip_suffix("dB").unwrap_or(text).trim_end().parse::<f64>().ok();
    let level = level.filter(|level| level.is_finite());
    level.ok_or_else(|| "must be a number of dB of full scale, such as -45".to_owned())
}
