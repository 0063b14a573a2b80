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
    /// A square of `side` × `side` points.
    Square(u32),
    /// A square without its corners: 32-, 128- and 512-QAM of side 6, 12 and 24.
    Cross(u32),
    /// Bipolar amplitude keying with a number of levels, none of them zero.
    Amplitude(u32),
    /// Two rings of 4 and 12 points, as in DVB-S2.
    Rings,
}

/// BPSK, QPSK, π/4- and offset QPSK, higher PSK, QAM, APSK or amplitude keying at 1.5 to 64 samples a
/// symbol.
pub(super) fn psk(len: usize, rng: &mut SimRng) -> Waveform {
    use Constellation::{Amplitude, Cross, Offset, Pi4, Psk, Rings, Square};
    let order = rng.random_range(0..4);
    let constellation = match rng.random_range(0..10) {
        0 | 1 => Psk(2),
        2 | 3 => Psk(4),
        4 => pick(rng, &[Pi4, Offset]),
        5 => Psk([8, 16, 32, 64][order]),
        6 => Square([4, 8, 16, 32][order]),
        7 => pick(rng, &[Cross(6), Cross(12), Cross(24), Rings]),
        8 => Square([4, 4, 8, 16][order]),
        _ => pick(rng, &[Amplitude(4), Amplitude(4), Amplitude(8), Amplitude(16), Amplitude(64)]),
    };
    let beta: f32 = rng.random_range(0.1..0.6);
    // A sharp pulse needs some samples to be one; the others only have to fit the band.
    let is_sharp = rng.random_bool(0.125);
    let lowest = if is_sharp { 2.0 } else { (1.0 + beta).max(1.5) };
    let sps = log_uniform(rng, lowest, 64.0_f32.min(len as f32 / 32.0).max(2.1));
    let pulse = match rng.random_range(0..7) {
        _ if is_sharp => Pulse::rectangle(rng.random_range(0.02..0.6)),
        0 => Pulse::raised_cosine(beta),
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
        Constellation::Square(side) => Complex32::new(level(side, rng), level(side, rng)),
        Constellation::Cross(side) => {
            // A corner is a sixth of the side, both ways.
            let corner = side as f32 * 2.0 / 3.0;
            loop {
                let point = Complex32::new(level(side, rng), level(side, rng));
                if point.re.abs() < corner || point.im.abs() < corner {
                    return point;
                }
            }
        }
        Constellation::Amplitude(levels) => Complex32::new(level(levels, rng), 0.0),
        Constellation::Rings => {
            // Radii in the ratio 2.7, as for code rate 5/6 in EN 302 307, table 9.
            if rng.random_bool(0.25) {
                turn(4, rng) * Complex32::from_polar(1.0, std::f32::consts::FRAC_PI_4)
            } else {
                turn(12, rng) * 2.7
            }
        }
    }
}

/// One of an even number of levels at the odd numbers around zero.
fn level(levels: u32, rng: &mut SimRng) -> f32 {
    2.0 * rng.random_range(0..levels) as f32 + 1.0 - levels as f32
}
