//! Trilateration from received signal strength: the baseline for the `localization` model.
//!
//! Maximum likelihood under log-normal shadowing (Patwari et al., "Locating the nodes", IEEE Signal
//! Processing Magazine 22(4), 2005, eq. 8) with the emitter's power unknown: for each place the best power is
//! the mean of received level plus path loss, and the place with the smallest squared residual wins.

use crate::dsp;
use crate::geodesy::Offset;
use crate::scene::{AREA_HALF_M, NOISE_POWER, RECEIVERS, path_loss_db};

/// Distance of neighbouring places on the search grid, metres.
const STEP_M: f64 = 100.0;

/// Estimates the emitter's place from the mean power at each receiver (relative to full scale squared).
///
/// It knows what the simulator fixes: the path-loss exponent, the noise power, which it subtracts, and
/// the area to search. A receiver whose power is that of its noise counts as receiving the signal 10 dB
/// below the noise.
pub fn locate(powers: [f32; 3]) -> Offset {
    let levels_db = powers.map(|power| {
        let signal = (power / NOISE_POWER - 1.0).max(0.1);
        f64::from(dsp::to_db(signal))
    });
    let steps = (2.0 * AREA_HALF_M / STEP_M) as usize;
    let along = |step: usize| -AREA_HALF_M + STEP_M * step as f64;
    let mut best = (f64::INFINITY, Offset { east_m: 0.0, north_m: 0.0 });
    let consider = |best: &mut (f64, Offset), offset: Offset| {
        let cost = residual(&levels_db, offset);
        if cost < best.0 {
            *best = (cost, offset);
        }
    };
    for row in 0..=steps {
        for column in 0..=steps {
            consider(&mut best, Offset { east_m: along(column), north_m: along(row) });
        }
    }
    // Refine around the best grid point, halving the step down to about a metre.
    let mut step = STEP_M / 2.0;
    while step > 1.0 {
        let centre = best.1;
        for (east, north) in [(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)] {
            let east_m = (centre.east_m + east * step).clamp(-AREA_HALF_M, AREA_HALF_M);
            let north_m = (centre.north_m + north * step).clamp(-AREA_HALF_M, AREA_HALF_M);
            consider(&mut best, Offset { east_m, north_m });
        }
        step /= 2.0;
    }
    best.1
}

/// Sum of squared differences between received level and path loss, dB², after the best common power is
/// subtracted.
fn residual(levels_db: &[f64; 3], offset: Offset) -> f64 {
    let mut powers = [0.0; 3];
    for (power, (level, receiver)) in powers.iter_mut().zip(levels_db.iter().zip(RECEIVERS)) {
        *power = level + path_loss_db(offset.distance_m(receiver));
    }
    let mean = powers.iter().sum::<f64>() / 3.0;
    powers.iter().map(|power| (power - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_emitter_without_shadowing() {
        // Three powers leave two ratios: inside the triangle they have one answer.
        for place in [(0.0, 0.0), (500.0, -300.0), (-800.0, -200.0), (300.0, 900.0)] {
            let truth = Offset { east_m: place.0, north_m: place.1 };
            let powers = RECEIVERS.map(|receiver| {
                let snr_db = 25.0 - path_loss_db(truth.distance_m(receiver));
                NOISE_POWER * (1.0 + dsp::from_db(snr_db as f32))
            });
            let found = locate(powers);
            assert!(found.distance_m(truth) < 5.0, "{found:?} instead of {truth:?}");
        }
    }

    #[test]
    fn stays_in_the_area_where_only_noise_is_heard() {
        let found = locate([NOISE_POWER * 0.99; 3]);
        assert!(found.east_m.abs() <= AREA_HALF_M && found.north_m.abs() <= AREA_HALF_M);
    }
}
