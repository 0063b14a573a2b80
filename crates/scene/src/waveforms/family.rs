//! The classes of the `modulation` model.

use serde::{Deserialize, Serialize};

/// A modulation family: a class of the `modulation` model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// No signal: receiver noise alone.
    Noise,
    /// An unmodulated carrier.
    Tone,
    /// Amplitude modulation by speech or tones, with both sidebands or one, with a carrier or without, and
    /// carriers with amplitude marks, as in DCF77.
    Am,
    /// Frequency modulation by speech or music, narrow and wide.
    Fm,
    /// On-off keying, pulse-width and pulse-position keying, as in remote controls and Mode S.
    Ook,
    /// Frequency-shift keying of 2 to 16 levels, MSK among it, with and without Gaussian shaping.
    Fsk,
    /// Linear modulation: PSK of 2 to 64 phases, QAM of 16 to 1024 points, bipolar amplitude keying.
    Psk,
    /// Orthogonal frequency-division multiplexing, as in 802.11 and LTE.
    Ofdm,
    /// A signal of none of the families above: chirps, spread spectrum, hops, mixtures, impulses, jammers.
    Unknown,
}

impl Family {
    /// Every family, in the order of the model's labels.
    pub const ALL: [Self; 9] = [
        Self::Noise,
        Self::Tone,
        Self::Am,
        Self::Fm,
        Self::Ook,
        Self::Fsk,
        Self::Psk,
        Self::Ofdm,
        Self::Unknown,
    ];

    /// The families that are one emission with a name: all but [`Family::Noise`] and [`Family::Unknown`].
    pub const EMISSIONS: [Self; 7] =
        [Self::Tone, Self::Am, Self::Fm, Self::Ook, Self::Fsk, Self::Psk, Self::Ofdm];

    /// The label: the variant's name in lower case.
    pub fn label(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Tone => "tone",
            Self::Am => "am",
            Self::Fm => "fm",
            Self::Ook => "ook",
            Self::Fsk => "fsk",
            Self::Psk => "psk",
            Self::Ofdm => "ofdm",
            Self::Unknown => "unknown",
        }
    }
}
