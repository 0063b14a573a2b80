//! The sections about models that gather the frames of several receivers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sferic_samples::{Number, units};

use super::check::Check;
use super::values::given;

/// Sessions: the frames of one emission, from several receivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Gather {
    /// Where their frames come from; empty: `<nats.prefix>.sessions.>`.
    pub subject: String,
    /// Sessions that are open at once.
    pub max_sessions: usize,
    /// Bytes of frames that wait for their session to close.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// How long a closed session is remembered, so that its late frames are known.
    #[serde(with = "units::duration")]
    pub remember: Duration,
    /// A receiver that moved faster has jumped, metres per second.
    pub max_speed: f64,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            subject: String::new(),
            max_sessions: 1024,
            max_bytes: 256 << 20,
            remember: Duration::from_secs(60),
            max_speed: 100.0,
        }
    }
}

impl Gather {
    pub(super) fn validate(&self, check: &mut Check) {
        if let Some(subject) = given(&self.subject) {
            check.open_subject("subject", subject);
        }
        check.at_least("max_sessions", self.max_sessions, 1);
        check.at_least("max_bytes", self.max_bytes, 1);
        check.positive("remember", self.remember);
        check.above_zero("max_speed", self.max_speed);
    }
}

/// What is known of a receiver beside what its frames say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section of keys")]
pub struct Receiver {
    /// The tokens after `<nats.prefix>.frames.`.
    pub source: String,
    /// Where it is, for frames without `geolocation`.
    #[serde(default)]
    pub position: Option<ReceiverPosition>,
    /// Delay of its antenna, cables and filters; subtracted from its arrival times.
    #[serde(default, with = "units::duration")]
    pub delay: Duration,
    /// Standard deviation of its arrival times, seconds.
    #[serde(default)]
    pub sigma: Option<f64>,
    /// Whether its place may change.
    #[serde(default = "yes")]
    pub moving: bool,
}

fn yes() -> bool {
    true
}

/// A place on the Earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section of keys")]
pub struct ReceiverPosition {
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east, WGS 84.
    pub longitude: f64,
    /// Metres above the ellipsoid.
    #[serde(default)]
    pub altitude: Option<f64>,
}

impl Receiver {
    /// Each receiver by itself, and that no source is there twice.
    pub(super) fn validate_all(receivers: &[Self], check: &mut Check) {
        for (n, receiver) in receivers.iter().enumerate() {
            check.section(format!("receivers.{n}"));
            check.subject("source", &receiver.source);
            let is_new = receivers[..n].iter().all(|earlier| earlier.source != receiver.source);
            check.rule(
                is_new,
                "source",
                format_args!("is {:?}, which an earlier receiver has too", receiver.source),
            );
            if let Some(sigma) = receiver.sigma {
                check.above_zero("sigma", sigma);
            }
            if let Some(place) = receiver.position {
                place.validate(check.section(format!("receivers.{n}.position")));
            }
        }
    }
}

/// An emitter whose place is known. Frames of sessions at its frequency are taken for its own, and show how
/// late the clocks of the receivers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section of keys")]
pub struct Reference {
    /// Where it is.
    pub position: ReceiverPosition,
    /// Centre frequency of its frames, Hz.
    pub frequency: f64,
    /// How far that may be off, Hz.
    #[serde(default = "kilohertz")]
    pub tolerance: f64,
}

fn kilohertz() -> f64 {
    1e3
}

impl Reference {
    /// Each reference by itself.
    pub(super) fn validate_all(references: &[Self], check: &mut Check) {
        for (n, reference) in references.iter().enumerate() {
            check.section(format!("references.{n}"));
            check.above_zero("frequency", reference.frequency);
            check.above_zero("tolerance", reference.tolerance);
            reference.position.validate(check.section(format!("references.{n}.position")));
        }
    }
}

impl ReceiverPosition {
    fn validate(self, check: &mut Check) {
        for (key, degrees, limit) in [("latitude", self.latitude, 90.0), ("longitude", self.longitude, 180.0)]
        {
            let fault = format!("is {}, must be from -{limit} to {limit} degrees", Number(degrees));
            check.rule((-limit..=limit).contains(&degrees), key, fault);
        }
        if let Some(altitude) = self.altitude {
            check.rule(
                altitude.is_finite(),
                "altitude",
                format_args!("is {altitude}, must be a finite number of metres"),
            );
        }
    }
}
