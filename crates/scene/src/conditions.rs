//! Which impairments a frame gets.

use rand::RngExt;

use crate::rng::SimRng;
use crate::waveforms::Family;

/// Share of the frames that are nearly clean: noise, a carrier offset and a file format, nothing else.
const CLEAN: f64 = 0.35;

/// Most impairments of one frame.
const MOST: usize = 4;

/// Something that a frame may suffer between the modulator and the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Impairment {
    /// A power amplifier near saturation.
    Amplifier,
    /// A filter about as wide as the signal.
    TransmitFilter,
    /// A carrier that drifts.
    Drift,
    /// A signal that begins or ends within the frame.
    PartTime,
    /// A signal in packets.
    Packets,
    /// Weak echoes.
    Multipath,
    /// Echoes as strong as the first path.
    Selective,
    /// A level that varies over time.
    Fading,
    /// A weaker signal at the band's edge.
    Neighbour,
    /// Noise that is not white.
    NoiseColour,
    /// Spectral ripple on the signal, the noise or both.
    Ripple,
    /// A recording whose outer band is empty.
    BandLimit,
    /// Steps of the receiver's gain.
    GainSteps,
    /// Phase noise of the oscillators.
    PhaseNoise,
    /// Unequal I and Q.
    IqImbalance,
    /// A constant offset.
    DcOffset,
    /// A weak carrier that is not the signal.
    Spur,
    /// Few quantiser steps.
    Coarse,
    /// An overdriven converter.
    Clip,
    /// A run of exact zeros.
    ZeroRun,
}

use Impairment::{
    Amplifier, BandLimit, Clip, Coarse, DcOffset, Drift, Fading, GainSteps, IqImbalance, Multipath,
    Neighbour, NoiseColour, Packets, PartTime, PhaseNoise, Ripple, Selective, Spur, TransmitFilter, ZeroRun,
};

impl Impairment {
    /// Every impairment and how often it is drawn relative to the others.
    const ALL: [(Self, u32); 20] = [
        (Amplifier, 2),
        (TransmitFilter, 2),
        (Drift, 2),
        (PartTime, 4),
        (Packets, 4),
        (Multipath, 3),
        (Selective, 4),
        (Fading, 3),
        (Neighbour, 3),
        (NoiseColour, 4),
        (Ripple, 4),
        (BandLimit, 3),
        (GainSteps, 4),
        (PhaseNoise, 3),
        (IqImbalance, 3),
        (DcOffset, 4),
        (Spur, 2),
        (Coarse, 4),
        (Clip, 2),
        (ZeroRun, 2),
    ];

    /// Whether a signal of `family` is still one with this impairment, and shows it.
    fn applies(self, family: Family) -> bool {
        use Family::{Am, Fm, Fsk, Noise, Ofdm, Ook, Psk, Tone};
        match self {
            // All that happens before the receiver's own noise is added.
            Amplifier | TransmitFilter | Drift | PartTime | Packets | Multipath | Selective | Fading
            | Neighbour | PhaseNoise
                if family == Noise =>
            {
                false
            }
            // A constant amplitude stays one.
            Amplifier => !matches!(family, Tone | Fm | Fsk),
            TransmitFilter => !matches!(family, Tone | Am),
            // A tone drifts by itself, as far as it may.
            Drift => family != Tone,
            // A carrier cut into pieces is on-off keying, and speech has no short packets.
            Packets => matches!(family, Fsk | Psk | Ofdm),
            // One narrow line only changes its level.
            Multipath | Selective => family != Tone,
            // On-off keying is off between its pulses anyway.
            ZeroRun => family != Ook,
            _ => true,
        }
    }

    /// Impairments of the same group exclude each other: together they could make one family of another.
    fn group(self) -> Option<u8> {
        match self {
            PartTime | Packets | ZeroRun => Some(0),
            Multipath | Selective => Some(1),
            Fading | GainSteps => Some(2),
            _ => None,
        }
    }
}

/// The impairments of one frame.
#[derive(Clone, Debug)]
pub(crate) struct Conditions(Vec<Impairment>);

impl Conditions {
    /// Draws none, or one to [`MOST`] impairments that leave a `family` what it is.
    pub(crate) fn draw(family: Family, rng: &mut SimRng) -> Self {
        let mut drawn: Vec<Impairment> = Vec::new();
        if rng.random_bool(CLEAN) {
            return Self(drawn);
        }
        for _ in 0..rng.random_range(1..=MOST) {
            let is_free = |one: Impairment| {
                let is_taken = |other: &Impairment| {
                    *other == one || (one.group().is_some() && one.group() == other.group())
                };
                one.applies(family) && !drawn.iter().any(is_taken)
            };
            let free: Vec<_> = Impairment::ALL.into_iter().filter(|(one, _)| is_free(*one)).collect();
            let mut ticket = rng.random_range(0..free.iter().map(|(_, weight)| weight).sum::<u32>().max(1));
            for (one, weight) in free {
                if ticket < weight {
                    drawn.push(one);
                    break;
                }
                ticket -= weight;
            }
        }
        Self(drawn)
    }

    /// Nothing at all, for tests of what remains.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether the frame gets this one.
    pub(crate) fn has(&self, impairment: Impairment) -> bool {
        self.0.contains(&impairment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_third_is_clean_and_the_rest_has_up_to_four() {
        for family in Family::ALL {
            let counts: Vec<usize> =
                (0..2000).map(|index| Conditions::draw(family, &mut stream(20, index)).0.len()).collect();
            let clean = counts.iter().filter(|count| **count == 0).count() as f32 / 2000.0;
            assert!((0.30..0.40).contains(&clean), "{family:?}: {clean}");
            assert_eq!(counts.iter().max(), Some(&4), "{family:?}");
        }
    }

    #[test]
    fn every_impairment_is_drawn_for_some_family() {
        for (impairment, _) in Impairment::ALL {
            let is_drawn = |index| Conditions::draw(Family::Psk, &mut stream(21, index)).has(impairment);
            assert!((0..400).any(is_drawn), "{impairment:?}");
        }
    }

    #[test]
    fn carriers_are_never_cut_into_pieces() {
        for family in [Family::Noise, Family::Tone, Family::Am, Family::Fm, Family::Ook] {
            for index in 0..1000 {
                let conditions = Conditions::draw(family, &mut stream(22, index));
                assert!(!conditions.has(Packets), "{family:?}");
                assert!(!(conditions.has(PartTime) && conditions.has(ZeroRun)), "{family:?}");
            }
        }
    }
}
