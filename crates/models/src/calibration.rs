//! Measured radii of ellipses: `[output.calibration]`.

use serde::Deserialize;

/// How large the ellipses of a model have to be to cover the truth as often as they say, as it was measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Probabilities, rising.
    pub levels: Vec<f64>,
    /// For each of them the squared radius, in sigmas, within which that share of the truths was.
    pub radius_squared: Vec<f64>,
    /// What it was measured on.
    pub source: Option<String>,
    /// Of how many truths.
    pub n: Option<u64>,
}

impl Calibration {
    /// Checks its values.
    ///
    /// # Errors
    /// In words, with the value and the limit.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (levels, radii) = (&self.levels, &self.radius_squared);
        if levels.is_empty() || levels.len() != radii.len() {
            return Err(format!(
                "[output.calibration] has {} levels and {} radius_squared, must be one or more of each",
                levels.len(),
                radii.len()
            ));
        }
        let is_within = |level: &f64| *level > 0.0 && *level < 1.0;
        if let Some(level) = levels.iter().find(|level| !is_within(level)) {
            return Err(format!("[output.calibration] levels holds {level}, must be above 0 and below 1"));
        }
        if let Some(radius) = radii.iter().find(|radius| !(**radius > 0.0 && radius.is_finite())) {
            return Err(format!("[output.calibration] radius_squared holds {radius}, must be above 0"));
        }
        for (key, values) in [("levels", levels), ("radius_squared", radii)] {
            if let Some(two) = values.windows(2).find(|two| two[0] >= two[1]) {
                let [first, second] = [two[0], two[1]];
                return Err(format!("[output.calibration] {key} holds {second} after {first}, must rise"));
            }
        }
        Ok(())
    }

    /// The squared radius of the ellipse that covers `probability`, above 0 and below 1.
    ///
    /// Between levels it is interpolated along the squared radius that a normal distribution would have,
    /// −2 ln(1−p), on which a model that is right lies on a straight line; below the first level from 0 on,
    /// above the last in proportion to it.
    pub fn radius_squared(&self, probability: f64) -> f64 {
        let normal = |probability: f64| -2.0 * (1.0 - probability).ln();
        let at = normal(probability);
        let mut below = (0.0, 0.0);
        for (level, radius) in self.levels.iter().zip(&self.radius_squared) {
            let (x, y) = (normal(*level), *radius);
            if at <= x {
                return below.1 + (y - below.1) * (at - below.0) / (x - below.0);
            }
            below = (x, y);
        }
        below.1 * at / below.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(levels: &[f64], radius_squared: &[f64]) -> Calibration {
        let (levels, radius_squared) = (levels.to_vec(), radius_squared.to_vec());
        Calibration { levels, radius_squared, source: None, n: None }
    }

    #[test]
    fn what_was_measured_is_what_there_is() {
        let levels = [0.5, 0.68, 0.9, 0.95];
        let radii = [1.2, 2.2, 5.1, 7.4];
        let measured = calibration(&levels, &radii);
        for (level, radius) in levels.into_iter().zip(radii) {
            assert!((measured.radius_squared(level) - radius).abs() < 1e-12, "{level}");
        }
        // Between two levels between their radii, and rising everywhere.
        let all: Vec<_> = (1..1000).map(|n| measured.radius_squared(f64::from(n) / 1000.0)).collect();
        assert!(all.windows(2).all(|two| two[0] < two[1]) && all[0] > 0.0);
        assert!((2.2..5.1).contains(&measured.radius_squared(0.8)));
    }

    #[test]
    fn a_model_that_is_right_keeps_its_ellipses() {
        let normal = |p: f64| -2.0 * (1.0 - p).ln();
        let right = calibration(&[0.5, 0.9], &[normal(0.5), normal(0.9)]);
        for p in [0.01, 0.3, 0.5, 0.68, 0.9, 0.99, 0.999] {
            assert!((right.radius_squared(p) - normal(p)).abs() < 1e-12, "{p}");
        }
        // Twice as large a radius from one level on.
        assert!(
            (calibration(&[0.68], &[4.0 * normal(0.68)]).radius_squared(0.95) - 4.0 * normal(0.95)) < 1e-9
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_its_value() {
        for (levels, radii, says) in [
            (&[][..], &[][..], "0 levels"),
            (&[0.5], &[1.0, 2.0], "1 levels and 2"),
            (&[0.5, 1.0], &[1.0, 2.0], "holds 1,"),
            (&[0.5, 0.4], &[1.0, 2.0], "0.4 after 0.5"),
            (&[0.5, 0.6], &[2.0, 2.0], "2 after 2"),
            (&[0.5], &[0.0], "holds 0,"),
            (&[0.5], &[f64::NAN], "NaN"),
        ] {
            let error = calibration(levels, radii).validate().unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
        assert_eq!(calibration(&[0.5, 0.9], &[1.0, 3.0]).validate(), Ok(()));
    }
}
