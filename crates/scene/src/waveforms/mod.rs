//! Unit-power waveforms of the modulation families, centred at 0 Hz, with parameters drawn from those of real
//! transmissions.

mod am;
mod carrier;
mod chirp;
mod family;
mod fsk;
mod known;
mod ofdm;
mod ook;
mod psk;
mod pulse;
mod sound;
mod spread;
mod unknown;
mod waveform;

use crate::rng::SimRng;
pub use family::Family;
pub use waveform::Waveform;

/// `len` samples of a `family`, with random parameters.
pub fn generate(family: Family, len: usize, rng: &mut SimRng) -> Waveform {
    match family {
        Family::Unknown => unknown::unknown(len, rng),
        _ => known::known(family, len, rng),
    }
}

#[cfg(test)]
mod tests;
