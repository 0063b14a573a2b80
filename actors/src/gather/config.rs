//! Bounds of sessions, and what is known of receivers.

use std::collections::HashMap;
use std::time::Duration;

use sferic_samples::Geolocation;

/// Bounds of sessions, and what is known of receivers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sessions that are open at once.
    pub max_sessions: usize,
    /// Bytes of frames that wait for their session, or whose session is being answered.
    pub max_bytes: usize,
    /// How long a closed session is remembered.
    pub remember: Duration,
    /// A receiver that moved faster has jumped, metres per second.
    pub max_speed: f64,
    /// What is known of receivers beside what their frames say, by source.
    pub receivers: HashMap<String, KnownReceiver>,
    /// Emitters whose place is known.
    pub references: Vec<Reference>,
}

/// An emitter whose place is known. Frames at its frequency are taken for its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Where it is.
    pub place: Geolocation,
    /// Centre frequency of its frames, Hz.
    pub frequency_hz: f64,
    /// How far that may be off, Hz.
    pub tolerance_hz: f64,
}

impl Config {
    /// The emitter of frames with these centre frequencies, where its place is known.
    pub(super) fn reference(
        &self,
        frequencies: impl Iterator<Item = Option<f64>> + Clone,
    ) -> Option<&Reference> {
        self.references.iter().find(|of| {
            let is_its =
                |hz: Option<f64>| hz.is_some_and(|hz| (hz - of.frequency_hz).abs() <= of.tolerance_hz);
            frequencies.clone().all(is_its)
        })
    }
}

/// What is known of a receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownReceiver {
    /// Where it is, for frames that do not say it.
    pub place: Option<Geolocation>,
    /// Delay of its antenna, cables and filters, nanoseconds; subtracted from its times.
    pub delay_ns: i64,
    /// Standard deviation of its arrival times, seconds.
    pub sigma: Option<f64>,
    /// Whether its place may change.
    pub moving: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 1024,
            max_bytes: 256 << 20,
            remember: Duration::from_secs(60),
            max_speed: 100.0,
            receivers: HashMap::new(),
            references: Vec::new(),
        }
    }
}
