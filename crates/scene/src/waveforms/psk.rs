//! Linear modulation: a constellation through a pulse shape.

use rand::RngExt;
use rustfft::num_complex::Complex32;

use super::pulse::Pulse;
use super::waveform::{Waveform, unit_power_while_on};
use crate::rng::{SimRng, log_uniform, pick};

#[derive(Clone, Copy)]
enum Constellation {
    Psk(u32),
    /// π/4-DQPSK as in TETRA: every other symbol turned by 45°.
    Pi4,
    /// Offset QPSK with half-symbol stagger, as in ZigBee.
    Offset,
    Qam16,
}

/// BPSK, QPSK, π/4- and offset QPSK, 8-PSK or 16-QAM at 2 to 64 samples a symbol.
pub(super) fn psk(len: usize, rng: &mut SimRng) -> Waveform {
    use Constellation::{Offset, Pi4, Psk, Qam16};
    let constellation = pick(rng, &[Psk(2), Psk(2), Psk(4), Psk(4), Psk(8), Pi4, Offset, Qam16]);
    let sps = log_uniform(rng, 2.0, 64.0_f32.min(len as f32 / 32.0).max(2.1));
    let beta = rng.random_range(0.15..0.6);
    let pulse = match rng.random_range(0..8) {
        0 => Pulse::rectangle(rng.random_range(0.05..0.6)),
        1 => Pulse::raised_cosine(beta),
        _ => Pulse::root_raised_cosine(beta),
    };
    let offset = rng.random_range(0.0..1.0);
    // The two rails of offset QPSK have a symbol clock each; all others are one complex train.
    let mut samples = if let Offset = constellation {
        let mut sign = || if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        let rail_i = pulse.train(len, sps, offset, &mut sign);
        let rail_q = pulse.train(len, sps, offset + 0.5, &mut sign);
        rail_i.into_iter().zip(rail_q).map(|(i, q)| Complex32::new(i, q)).collect()
    } else {
        let mut odd = false;
        pulse.train(len, sps, offset, || {
            odd = !odd;
            symbol(constellation, odd, rng)
        })
    };
    unit_power_while_on(&mut samples);
    Waveform { samples, bandwidth: (1.0 + beta) / sps }
}

fn symbol(constellation: Constellation, odd: bool, rng: &mut SimRng) -> Complex32 {
    let turn = |order: u32, rng: &mut SimRng| {
        let step = rng.random_range(0..order) as f32 / order as f32;
        Complex32::from_polar(1.0, std::f32::consts::TAU * step)
    };
    match constellation {
        Constellation::Psk(order) => turn(order, rng),
        Constellation::Pi4 | Constellation::Offset => {
            let eighth = if odd { std::f32::consts::FRAC_PI_4 } else { 0.0 };
            turn(4, rng) * Complex32::from_polar(1.0, eighth)
        }
        Constellation::Qam16 => {
            let levels = [-3.0, -1.0, 1.0, 3.0];
            Complex32::new(pick(rng, &levels), pick(rng, &levels))
        }
    }
}
