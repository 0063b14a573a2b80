//! Unit-power waveforms of eight modulation families, centred at 0 Hz, with parameters drawn from those of
//! real transmissions.

mod analog;
mod keyed;
mod ofdm;
mod psk;
mod pulse;
mod waveform;

use serde::{Deserialize, Serialize};

use crate::dsp;
use crate::rng::SimRng;
pub use waveform::Waveform;

/// A modulation family: a class of the `modulation` model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// No signal: receiver noise alone.
    Noise,
    /// An unmodulated carrier.
    Tone,
    /// Amplitude modulation: speech, tones, and carriers with amplitude marks, as in DCF77.
    Am,
    /// Frequency modulation by speech or music, narrow and wide.
    Fm,
    /// On-off keying, pulse-width and pulse-position keying, as in remote controls and Mode S.
    Ook,
    /// Frequency-shift keying of two or four levels, with and without Gaussian shaping.
    Fsk,
    /// Linear modulation: BPSK, QPSK, 8-PSK and 16-QAM.
    Psk,
    /// Orthogonal frequency-division multiplexing, as in 802.11 and LTE.
    Ofdm,
}

impl Family {
    /// Every family, in the order of the model's labels.
    pub const ALL: [Self; 8] =
        [Self::Noise, Self::Tone, Self::Am, Self::Fm, Self::Ook, Self::Fsk, Self::Psk, Self::Ofdm];

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
        }
    }
}

/// `len` samples of a `family`, with random parameters.
pub fn generate(family: Family, len: usize, rng: &mut SimRng) -> Waveform {
    match family {
        Family::Noise => Waveform { samples: dsp::white_noise(rng, len, 1.0), bandwidth: 1.0 },
        Family::Tone => analog::tone(len),
        Family::Am => analog::am(len, rng),
        Family::Fm => analog::fm(len, rng),
        Family::Ook => keyed::ook(len, rng),
        Family::Fsk => keyed::fsk(len, rng),
        Family::Psk => psk::psk(len, rng),
        Family::Ofdm => ofdm::ofdm(len, rng),
    }
}

#[cfg(test)]
mod tests;
