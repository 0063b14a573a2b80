//! Whether times of arrival at several places agree with any place of an emitter, and who spoils it: plain
//! and synchronous.
//!
//! Least squares on a plane for the emitter's place and the time of emission; the weighted sum of squared
//! residuals has a chi-squared distribution with as many degrees of freedom as there are times over three.

/// Metres per second.
pub(super) const LIGHT: f64 = 299_792_458.0;

/// What a distribution of so many degrees of freedom, from 1, exceeds once in a thousand (chi-squared).
const ONCE_IN_A_THOUSAND: [f64; 12] =
    [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88, 29.59, 31.26, 32.91];

/// Steps of Gauss and Newton.
const STEPS: usize = 25;

/// When a signal arrived at a receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Where it stands, metres east and north on a plane.
    pub place: [f64; 2],
    /// Seconds after an instant that is the same for all.
    pub time: f64,
    /// Standard deviation of that, seconds.
    pub sigma: f64,
}

/// The one whose time does not fit the others', where all others agree and it alone can be at fault. Needs
/// five: of four it cannot be known which one is wrong.
pub fn inconsistent(arrivals: &[Arrival]) -> Option<usize> {
    if arrivals.len() < 5 || agree(arrivals) {
        return None;
    }
    let without = |at: usize| -> Vec<Arrival> {
        arrivals.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, arrival)| *arrival).collect()
    };
    let mut suspects = (0..arrivals.len()).filter(|&at| agree(&without(at)));
    let suspect = suspects.next()?;
    suspects.next().is_none().then_some(suspect)
}

/// Whether some place of the emitter explains the times.
fn agree(arrivals: &[Arrival]) -> bool {
    let freedom = arrivals.len().saturating_sub(3);
    let Some(limit) =
        freedom.checked_sub(1).map(|at| ONCE_IN_A_THOUSAND[at.min(ONCE_IN_A_THOUSAND.len() - 1)])
    else {
        return true;
    };
    // Beyond the table the limit grows by less than two for each degree.
    let limit = limit + 2.0 * freedom.saturating_sub(ONCE_IN_A_THOUSAND.len()) as f64;
    starts(arrivals).into_iter().any(|start| squares(arrivals, start) <= limit)
}

/// Where a search begins: the middle of the receivers, and all around it.
fn starts(arrivals: &[Arrival]) -> Vec<[f64; 2]> {
    let count = arrivals.len() as f64;
    let middle = [0, 1].map(|axis| arrivals.iter().map(|arrival| arrival.place[axis]).sum::<f64>() / count);
    let reach = arrivals
        .iter()
        .map(|arrival| (arrival.place[0] - middle[0]).hypot(arrival.place[1] - middle[1]))
        .fold(0.0, f64::max);
    let around = (0..16).map(|n| {
        let (sin, cos) = (f64::from(n % 8) * std::f64::consts::FRAC_PI_4).sin_cos();
        let far = if n < 8 { 0.6 } else { 1.8 } * reach;
        [middle[0] + far * cos, middle[1] + far * sin]
    });
    std::iter::once(middle).chain(around).collect()
}

/// Of one arrival: how late it is, metres; the direction to the emitter; and its weight.
type Row = (f64, [f64; 2], f64);

/// The least sum of squared residuals, in sigmas, that is found from a place on.
fn squares(arrivals: &[Arrival], mut place: [f64; 2]) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..STEPS {
        // The time of emission that fits best is taken out: it is the weighted mean.
        let weight = |arrival: &Arrival| (arrival.sigma * LIGHT).powi(-2);
        let rows: Vec<Row> = arrivals
            .iter()
            .map(|arrival| {
                let [dx, dy] = [place[0] - arrival.place[0], place[1] - arrival.place[1]];
                let distance = dx.hypot(dy).max(1.0);
                (arrival.time * LIGHT - distance, [dx / distance, dy / distance], weight(arrival))
            })
            .collect();
        let total: f64 = rows.iter().map(|row| row.2).sum();
        let mean = |of: fn(&Row) -> f64| rows.iter().map(|row| row.2 * of(row)).sum::<f64>() / total;
        let (late, slope) = (mean(|row| row.0), [mean(|row| row.1[0]), mean(|row| row.1[1])]);
        let (mut normal, mut right, mut sum) = ([[0.0; 2]; 2], [0.0; 2], 0.0);
        for (residual, direction, weight) in &rows {
            let residual = residual - late;
            let turned = [direction[0] - slope[0], direction[1] - slope[1]];
            sum += weight * residual * residual;
            for (one, right) in right.iter_mut().enumerate() {
                *right += weight * turned[one] * residual;
                for (other, normal) in normal[one].iter_mut().enumerate() {
                    *normal += weight * turned[one] * turned[other];
                }
            }
        }
        best = best.min(sum);
        // Damped, since far outside of the receivers the plane of the times is nearly flat.
        let damp = 1e-3 * (normal[0][0] + normal[1][1]) / 2.0 + f64::MIN_POSITIVE;
        let [[a, b], [_, d]] = [[normal[0][0] + damp, normal[0][1]], [0.0, normal[1][1] + damp]];
        let determinant = a * d - b * b;
        place[0] += (d * right[0] - b * right[1]) / determinant;
        place[1] += (a * right[1] - b * right[0]) / determinant;
        if !(place[0].is_finite() && place[1].is_finite()) {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receivers around an emitter, with errors in sigmas.
    fn heard(emitter: [f64; 2], errors: &[f64]) -> Vec<Arrival> {
        let sigma = 100e-9;
        errors
            .iter()
            .enumerate()
            .map(|(n, error)| {
                let angle = 2.399 * n as f64;
                let place = [9e3 * angle.cos() * (1.0 - 0.1 * n as f64), 9e3 * angle.sin()];
                let distance = (place[0] - emitter[0]).hypot(place[1] - emitter[1]);
                Arrival { place, time: 0.25 + distance / LIGHT + error * sigma, sigma }
            })
            .collect()
    }

    #[test]
    fn a_clock_that_is_five_microseconds_off_is_found_wherever_the_emitter_is() {
        let noise = [0.3, -0.8, 1.1, -0.2, 0.6, -1.0, 0.4, 0.9];
        for receivers in 5..=8 {
            for emitter in [[500.0, -800.0], [4e3, 5e3], [-6e3, 1e3], [0.0, 11e3]] {
                let fine = heard(emitter, &noise[..receivers]);
                assert_eq!(inconsistent(&fine), None, "{receivers} {emitter:?}");
                let mut found = 0;
                for wrong in 0..receivers {
                    let mut errors = noise[..receivers].to_vec();
                    errors[wrong] += 50.0;
                    if let Some(at) = inconsistent(&heard(emitter, &errors)) {
                        assert_eq!(at, wrong, "{receivers} {emitter:?}");
                        found += 1;
                    }
                }
                // Seen from some places, two of few explain it equally well; then nobody is named.
                assert!(found >= receivers - 2, "{found} of {receivers}, {emitter:?}");
            }
        }
    }

    #[test]
    fn of_four_nobody_can_tell_and_two_wrong_ones_are_not_told_apart() {
        assert_eq!(inconsistent(&heard([1e3, 0.0], &[0.0, 0.0, 50.0, 0.0])), None);
        let two = inconsistent(&heard([1e3, 0.0], &[0.0, 60.0, 0.0, 0.0, -45.0, 0.0]));
        assert_eq!(two, None);
    }
}
