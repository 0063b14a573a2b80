//! The parts of a frame: where it came from, what its outcome echoes, its samples and its tensor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sferic_samples::{Datatype, Geolocation};

use crate::gather::ExpectedClock;
use crate::tensor::InputTensor;

/// The longest source, bytes: the line with which its outcome is published has to be shorter than the
/// server's `max_control_line`, 4096 bytes.
pub const LONGEST_SOURCE: usize = 1024;

/// Metadata of a frame that its outcome needs and the pipeline does not read.
#[derive(Debug, Clone, Default)]
pub struct Envelope {
    /// The tokens after `<prefix>.frames.`, or after the session of `<prefix>.sessions.<session>.`.
    pub source: String,
    /// The session in the subject, where it has one. That of the body goes before it.
    pub session_id: Option<String>,
    /// The encoding of the frame, and so of its outcome.
    pub encoding: Encoding,
    /// The broker's message id, the frame's id where its body has none.
    pub message_id: Option<String>,
    /// W3C trace headers, passed on.
    pub trace: TraceHeaders,
    /// The stream that delivered it, where it came from one.
    pub delivery: Option<Delivery>,
    /// The message, where it is kept for a recording.
    pub recorded: Option<Bytes>,
    /// The id of a frame that came in a batch or over HTTP, where its outcome goes to a stream. The `seq` of
    /// such a frame says nothing of frames that never arrived.
    pub direct_id: Option<String>,
    /// Whether the frame's tensors go into the ONNX file as they are and its raw outputs come back; see
    /// [`Content::is_raw`]. No message can ask for it.
    pub is_raw: bool,
}

/// A delivery of a frame by a durable stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// `<stream>:<sequence>`: unlike a frame id, no two frames share it.
    pub id: String,
    /// Sequence number of the frame in its stream.
    pub stream_seq: u64,
    /// Number of deliveries so far, this one included.
    pub deliveries: u64,
    /// When it was published to its stream, nanoseconds since 1970 by the server's clock.
    pub published_ns: u64,
    /// The message, for the failure that ends its deliveries.
    pub payload: Option<Bytes>,
}

impl Delivery {
    /// How long it has been in its stream, by both clocks.
    pub fn age(&self) -> Duration {
        let published = UNIX_EPOCH + Duration::from_nanos(self.published_ns);
        SystemTime::now().duration_since(published).unwrap_or_default()
    }
}

/// Nanoseconds since 1970 by this machine's clock.
pub fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// How frames and outcomes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/msgpack`, the default.
    #[default]
    MessagePack,
    /// `application/json`, with binary in standard base64.
    Json,
}

impl Encoding {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessagePack => "MessagePack",
            Self::Json => "JSON",
        }
    }
}

/// The W3C headers of the trace a frame belongs to.
#[derive(Debug, Clone, Default)]
pub struct TraceHeaders {
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// `tracestate`.
    pub tracestate: Option<String>,
    /// `baggage`.
    pub baggage: Option<String>,
}

/// What is known of a frame beside its samples. Its outcome echoes all but the place of the receiver.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrameInfo {
    /// 1 to 256 printable ASCII characters.
    pub frame_id: String,
    /// Groups the frames of one emission.
    pub session_id: Option<String>,
    /// The source's frame counter.
    pub seq: Option<u64>,
    /// RFC 3339 UTC time of the first sample.
    pub datetime: Option<String>,
    /// Centre frequency, Hz.
    pub frequency: Option<f64>,
    /// Where its receiver is.
    pub geolocation: Option<Geolocation>,
}

/// How urgent a frame is; the smaller, the sooner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything.
    Critical,
    /// Before normal frames.
    High,
    /// The default.
    #[default]
    Normal,
    /// When there is room.
    Low,
}

/// One loaded version of a model. Two bundles with the same name and version differ in their digests.
#[derive(Debug, Clone, Default, Eq)]
pub struct ModelId {
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// SHA-256 of the ONNX file, lower-case hexadecimal.
    pub digest: String,
    /// SHA-256 of what else determines its answers: features, head.
    pub config_digest: [u8; 32],
}

impl PartialEq for ModelId {
    fn eq(&self, other: &Self) -> bool {
        // Usually compares a reference with itself, several times per frame.
        std::ptr::eq(self, other)
            || self.digest == other.digest
                && self.config_digest == other.config_digest
                && self.version == other.version
                && self.name == other.name
    }
}

impl std::hash::Hash for ModelId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// SHA-256 over everything that determines the answer to a frame.
pub type CacheKey = [u8; 32];

/// IQ samples as they came, not yet converted.
#[derive(Debug, Clone)]
pub struct IqSamples {
    /// Interleaved as SigMF interleaves them: `I0 Q0 I1 Q1 …` per sample instant.
    pub bytes: Bytes,
    /// What the bytes mean.
    pub datatype: Datatype,
    /// Receivers or antennas sampled together.
    pub channels: usize,
    /// Samples per second, Hz.
    pub sample_rate: Option<f64>,
}

impl IqSamples {
    /// Samples a channel.
    pub fn len(&self) -> usize {
        self.bytes.len() / (self.datatype.bytes_per_sample() * self.channels.max(1))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a frame holds for its model: samples, tensors, or both.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// The samples; `None` where the frame has tensors alone.
    pub samples: Option<IqSamples>,
    /// Tensors that the model gets as they are, sorted by name; no name twice.
    pub tensors: Vec<InputTensor>,
    /// Whether the tensors stand for inputs of the ONNX file, also for those that are computed from samples,
    /// and the answer is the raw outputs.
    pub is_raw: bool,
    /// When the signal arrived at the receiver, nanoseconds since 1970.
    pub arrival_ns: Option<i64>,
    /// When the first sample was taken, nanoseconds since 1970.
    pub begun_ns: Option<i64>,
    /// Of a session: its frames by slot, in place of all the above; `None` where a receiver is missing.
    pub slots: Vec<Option<Slot>>,
}

/// A frame of a session.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its source.
    pub source: String,
    /// What it holds.
    pub content: Content,
    /// Where its receiver is, where the model asks.
    pub place: Option<Geolocation>,
    /// Standard deviation of its receiver's times, seconds, where that is configured.
    pub sigma: Option<f64>,
    /// What was taken off its times because its clock is known to be late, seconds.
    pub clock_s: f64,
    /// Where its clock is expected.
    pub clock: Option<ExpectedClock>,
    /// Seconds from the emitter to it, where the emitter's place is known.
    pub expected_s: Option<f64>,
}

impl Content {
    /// Its bytes in the message, as far as the model gets them.
    pub fn bytes(&self) -> usize {
        let samples = self.samples.as_ref().map_or(0, |samples| samples.bytes.len());
        let tensors: usize = self.tensors.iter().map(|tensor| tensor.data.len()).sum();
        samples + tensors + self.slots.iter().flatten().map(|slot| slot.content.bytes()).sum::<usize>()
    }

    /// Whether a model gets inputs of equal shapes from both, and both want the same outputs.
    pub fn can_share_run(&self, other: &Self) -> bool {
        let size = |content: &Self| content.samples.as_ref().map(|samples| (samples.channels, samples.len()));
        let same =
            |(one, other): (&InputTensor, &InputTensor)| one.name == other.name && one.shape == other.shape;
        self.is_raw == other.is_raw
            && size(self) == size(other)
            && self.tensors.len() == other.tensors.len()
            && self.tensors.iter().zip(&other.tensors).all(same)
            // Gathered inputs have one shape, whoever takes part.
            && self.slots.len() == other.slots.len()
    }
}

impl From<IqSamples> for Content {
    fn from(samples: IqSamples) -> Self {
        Self { samples: Some(samples), ..Self::default() }
    }
}
