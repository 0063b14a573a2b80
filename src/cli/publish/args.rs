//! Arguments of `sferic publish`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use humantime_serde::re::humantime;
use sferic_recording::name;
use sferic_samples::Datatype;

use super::pace::Rate;
use crate::cli::ConnectArgs;

/// Publishes recordings as frames: SigMF (.sigmf-meta, .sigmf-data, .sigmf archives), WAV or raw IQ files.
///
/// Each recording is cut into frames of equal length. One shorter than a frame goes as one frame; a shorter
/// rest at the end is reported and not sent. Captures of one frequency are one stream unless
/// core:global_index or core:datetime shows a gap, and no frame holds two frequencies or a gap.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The datatype of a raw file is taken from its extension (cu8, cs8, cs16, cf32, cfile, …; --datatype for any \
other), its rate \
and centre frequency from its name where that has them side by side with units, as in \
name_433.92M_250k.cu8, and they can \
mean nothing else; what is taken is printed. WAV files (8, 16, 32 bits or float, I left and Q right) are \
read by their \
header, whatever --datatype says, and take their centre frequency from their name where they have no auxi \
chunk.

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
  sferic publish capture.bin --datatype ci16_le --sample-rate 2.4e6 --model modulation --wait --json")]
pub struct PublishArgs {
    /// Recordings, in the order in which they are sent.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Publish as this source: one or more tokens, such as `north.rx2` [default: each recording's name, with
    /// = and two hexadecimal digits for each byte but letters, digits, - and _].
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
    /// Frames per second; `realtime`: as they were recorded; `max`: as fast as the server accepts them.
    #[arg(long, value_name = "N|realtime|max", default_value = "max")]
    pub rate: Rate,
    /// How long to wait for a daemon while the frames have no subscriber; 0s: not at all.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = patience)]
    pub patience: Duration,
    /// Time budget of each frame, such as 500ms [default: the daemon's].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
    /// How the samples are stored, whatever the file says.
    #[arg(long, value_name = "DATATYPE", value_parser = datatype, help = datatype_help())]
    pub datatype: Option<Datatype>,
    /// Samples per second, whatever the file says.
    #[arg(long, value_name = "HZ", value_parser = sample_rate)]
    pub sample_rate: Option<f64>,
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
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be a number over 0, in Hz, such as 2.4e6".to_owned()),
    }
}
