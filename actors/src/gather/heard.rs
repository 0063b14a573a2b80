//! What is heard of an emission at one receiver.

use sferic_samples::{Geolocation, Samples, with_component};

use crate::frame::IqSamples;

/// Samples that a level is taken of: enough to say whether an antenna is off.
const FOR_LEVEL: usize = 1024;

/// What of a frame is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    pub source: &'a str,
    /// Where it says its receiver is.
    pub place: Option<&'a Geolocation>,
    /// When its first sample was taken, nanoseconds since 1970.
    pub begun_ns: Option<i64>,
    /// When the signal arrived, nanoseconds since 1970.
    pub arrival_ns: Option<i64>,
    /// Its samples, a channel.
    pub samples: usize,
    /// Their rate, Hz.
    pub rate_hz: Option<f64>,
    /// Their centre frequency, Hz.
    pub frequency_hz: Option<f64>,
    /// How loud they are, dB of full scale.
    pub level_db: Option<f64>,
}

impl Heard<'_> {
    /// When it was heard, by the clock of its receiver, nanoseconds since 1970.
    pub fn time_ns(&self) -> Option<i64> {
        self.arrival_ns.or(self.begun_ns)
    }
}

/// Mean power of the first samples of the first channel, dB of full scale; `None` without any, or in silence.
pub(super) fn level_db(samples: &IqSamples) -> Option<f64> {
    let view = Samples::new(&samples.bytes, samples.datatype, samples.channels).ok()?;
    let count = view.len().min(FOR_LEVEL);
    let power: f64 = with_component!(view.datatype(), D => {
        (0..count).map(|instant| f64::from(view.get::<D>(instant, 0).norm_sqr())).sum()
    });
    let level = 10.0 * (power / count as f64).log10();
    level.is_finite().then_some(level)
}
