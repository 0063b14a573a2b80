//! Accuracy of predictions: errors, and how often an ellipse covered the truth.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use serde::Serialize;
use sferic_scene::GeoPoint;

use crate::cli::outcome::Outcome;

/// The probabilities whose ellipses are counted.
pub const PROBABILITIES: [f64; 4] = [0.5, 0.68, 0.9, 0.95];

/// Error of one prediction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Miss {
    /// From the prediction to the truth, metres on WGS 84.
    pub error_m: f64,
    /// Probability of the smallest ellipse of the stated uncertainty that covers the truth.
    pub within: f64,
}

/// How far a prediction is from the truth: metres on WGS 84, and in sigmas along the axes of its uncertainty.
/// `None` where it has no position and uncertainty.
pub fn offset_in_sigmas(outcome: &Outcome, truth: GeoPoint) -> Option<(f64, f64, f64)> {
    let [latitude, longitude] = ["latitude", "longitude"].map(|key| outcome.number(&["position", key]));
    let [sigma_x, sigma_y, theta] =
        ["sigma_x", "sigma_y", "theta"].map(|key| outcome.number(&["uncertainty", key]));
    let (error_m, azimuth, _, _): (f64, f64, f64, f64) =
        Geodesic::wgs84().inverse(latitude?, longitude?, truth.latitude, truth.longitude);
    // The truth in the axes of the ellipse: turned back by theta.
    let from_east = (90.0 - azimuth - theta?).to_radians();
    Some((error_m, error_m * from_east.cos() / sigma_x?, error_m * from_east.sin() / sigma_y?))
}

impl Miss {
    /// `None` where the outcome has no position and uncertainty.
    pub fn of(outcome: &Outcome, truth: GeoPoint) -> Option<Self> {
        let (error_m, x, y) = offset_in_sigmas(outcome, truth)?;
        // The two-dimensional Gaussian has 1 − exp(−r²/2) within r sigmas.
        Some(Self { error_m, within: 1.0 - (-(x * x + y * y) / 2.0).exp() })
    }
}

/// Summary of many errors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of predictions.
    pub predictions: usize,
    /// Median of the errors, metres.
    pub median_error_m: f64,
    /// 90th percentile of the errors, metres.
    pub p90_error_m: f64,
    /// For each of [`PROBABILITIES`], the share of truths that its ellipse covered.
    pub coverage: [f64; 4],
}

impl Accuracy {
    /// `None` without a single prediction.
    pub fn of(misses: &[Miss]) -> Option<Self> {
        let errors: Vec<f64> = misses.iter().map(|miss| miss.error_m).collect();
        let held = |probability: f64| {
            misses.iter().filter(|miss| miss.within <= probability).count() as f64 / misses.len() as f64
        };
        Some(Self {
            predictions: misses.len(),
            median_error_m: quantile(&errors, 0.5)?,
            p90_error_m: quantile(&errors, 0.9)?,
            coverage: PROBABILITIES.map(held),
        })
    }
}

/// The smallest value that at least this share of the values do not exceed.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::outcome::tests::{LOCALIZATION, outcome};
    use sferic_scene::Offset;

    /// At 45.01, 7.62 with sigmas of 100 m east and 60 m north, the truth this far away.
    fn miss(theta: f64, east_m: f64, north_m: f64) -> Miss {
        let outcome = outcome(&LOCALIZATION.replace("\"theta\":0.0", &format!("\"theta\":{theta:.1}")));
        Miss::of(&outcome, GeoPoint { latitude: 45.01, longitude: 7.62 }.at(Offset { east_m, north_m }))
            .unwrap()
    }

    #[test]
    fn the_truth_is_seen_along_the_axes() {
        let one_sigma = 1.0 - (-0.5f64).exp();
        for (theta, east_m, north_m) in
            [(0.0, 100.0, 0.0), (0.0, 0.0, -60.0), (90.0, 0.0, 100.0), (45.0, 70.710_678, 70.710_678)]
        {
            let miss = miss(theta, east_m, north_m);
            assert!((miss.within - one_sigma).abs() < 1e-3, "{theta}, {east_m}, {north_m}: {miss:?}");
            assert!((miss.error_m - east_m.hypot(north_m)).abs() < 0.01, "{miss:?}");
        }
        assert_eq!(
            Miss::of(&outcome(r#"{"code":"internal"}"#), GeoPoint { latitude: 0.0, longitude: 0.0 }),
            None
        );
    }

    #[test]
    fn shares_and_quantiles_count() {
        let misses: Vec<_> =
            (1..=10).map(|n| Miss { error_m: f64::from(n), within: f64::from(n) / 10.0 }).collect();
        let accuracy = Accuracy::of(&misses).unwrap();
        assert_eq!((accuracy.median_error_m, accuracy.p90_error_m), (5.0, 9.0));
        assert_eq!(accuracy.coverage, [0.5, 0.6, 0.9, 0.9]);
        assert_eq!(Accuracy::of(&[]), None);
    }
}
