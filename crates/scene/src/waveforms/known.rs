//! The families whose modulation has a name.

use super::family::Family;
use super::waveform::Waveform;
use super::{am, carrier, fsk, ofdm, ook, psk};
use crate::dsp;
use crate::rng::SimRng;

/// `len` samples of a `family` other than [`Family::Unknown`], which is sent as noise.
pub(super) fn known(family: Family, len: usize, rng: &mut SimRng) -> Waveform {
    match family {
        Family::Noise | Family::Unknown => {
            Waveform { samples: dsp::white_noise(rng, len, 1.0), bandwidth: 1.0 }
        }
        Family::Tone => carrier::tone(len, rng),
        Family::Am => am::am(len, rng),
        Family::Fm => carrier::fm(len, rng),
        Family::Ook => ook::ook(len, rng),
        Family::Fsk => fsk::fsk(len, rng),
        Family::Psk => psk::psk(len, rng),
        Family::Ofdm => ofdm::ofdm(len, rng),
    }
}
