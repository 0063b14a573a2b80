//! The localization head.

use std::sync::Arc;

use sferic_actors::outcome::{Failure, Localization, Position, Uncertainty};

use super::super::calibration::Calibration;
use super::super::output_section::{LocalOrigin, Scale, Units};
use super::ellipse::{ellipse, ellipse_scale, normalise_degrees, principal_axes};
use super::failed::failed;
use super::geodesy::{HALF_MERIDIAN, displaced, metres_per_degree};

/// Format of a position and its uncertainty.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Localizer {
    /// Origin of positions in metres; `None`: latitude, longitude in degrees.
    pub origin: Option<LocalOrigin>,
    /// Of the sigmas.
    pub units: Units,
    /// Of the sigmas.
    pub scale: Scale,
    /// The probability that the ellipse covers.
    pub confidence_interval: f64,
    /// Measured radii of the ellipse.
    pub calibration: Option<Arc<Calibration>>,
}

impl Localizer {
    /// Whether a localization from elsewhere is one this head could have given.
    pub(super) fn could_have_said(&self, place: &Localization) -> bool {
        let Localization { position, uncertainty, ellipse, confidence, calibrated } = place;
        let numbers = [
            position.latitude,
            position.longitude,
            uncertainty.sigma_x,
            uncertainty.sigma_y,
            uncertainty.theta,
        ];
        let ellipse = [ellipse.semi_major, ellipse.semi_minor, ellipse.rotation, ellipse.area];
        let is_finite = numbers.iter().chain(&ellipse).chain(confidence).all(|number| number.is_finite());
        is_finite
            && uncertainty.confidence_interval == self.confidence_interval
            && *calibrated == self.calibration.is_some()
    }

    /// `position` has two values, `uncertainty` two or three, `confidence` one; all are finite.
    pub(super) fn answer(
        &self,
        position: &[f32],
        uncertainty: &[f32],
        confidence: Option<&[f32]>,
    ) -> Result<Localization, Failure> {
        let position = self.position(position)?;
        let uncertainty = self.uncertainty(uncertainty, position.latitude)?;
        let scale = match &self.calibration {
            Some(calibration) => calibration.radius_squared(self.confidence_interval).sqrt(),
            None => ellipse_scale(self.confidence_interval),
        };
        let ellipse = ellipse(&uncertainty, scale);
        if !(ellipse.area > 0.0 && ellipse.area.is_finite()) {
            let Uncertainty { sigma_x, sigma_y, .. } = uncertainty;
            return Err(failed(format!(
                "sigmas of {sigma_x} and {sigma_y} m have no ellipse within what a number can hold"
            )));
        }
        Ok(Localization {
            position,
            uncertainty,
            ellipse,
            confidence: confidence.map(probability).transpose()?,
            calibrated: self.calibration.is_some(),
        })
    }

    fn position(&self, values: &[f32]) -> Result<Position, Failure> {
        let &[first, second] = values else {
            return Err(failed(format!("the position has {} values, expected 2", values.len())));
        };
        let (first, second) = (f64::from(first), f64::from(second));
        let Some(origin) = self.origin else {
            if first.abs() > 90.0 {
                return Err(failed(format!("the latitude is {first}, must be -90 to 90 degrees")));
            }
            return Ok(Position { latitude: first, longitude: normalise_degrees(second) });
        };
        if first.hypot(second) > HALF_MERIDIAN {
            return Err(failed(format!(
                "the position is {first} m east and {second} m north of the origin, further than half round \
                 the Earth"
            )));
        }
        Ok(displaced(origin, first, second))
    }

    fn uncertainty(&self, values: &[f32], latitude: f64) -> Result<Uncertainty, Failure> {
        let (x, y, theta) = match *values {
            [x, y] => (x, y, 0.0),
            [x, y, theta] => (x, y, f64::from(theta)),
            _ => return Err(failed(format!("the uncertainty has {} values, expected 2 or 3", values.len()))),
        };
        let sigma = [self.sigma("sigma_x", x)?, self.sigma("sigma_y", y)?];
        let (sigma, theta) = match self.units {
            Units::Metres => (sigma, theta),
            Units::Degrees => degrees_to_metres(sigma, theta, metres_per_degree(latitude)),
        };
        let [sigma_x, sigma_y] = sigma;
        Ok(Uncertainty {
            sigma_x,
            sigma_y,
            theta: normalise_degrees(theta),
            confidence_interval: self.confidence_interval,
        })
    }

    fn sigma(&self, name: &str, value: f32) -> Result<f64, Failure> {
        let sigma = match self.scale {
            Scale::Linear => f64::from(value),
            Scale::Log => f64::from(value).exp(),
        };
        if sigma > 0.0 && sigma.is_finite() {
            return Ok(sigma);
        }
        Err(failed(match self.scale {
            Scale::Linear => format!("{name} is {value}, must be above 0"),
            Scale::Log => format!("{name} is exp({value}), outside what a number can hold"),
        }))
    }
}

/// Turns sigmas along axes in the plane of longitude and latitude into sigmas along axes on the ground, which
/// are other axes where a degree of longitude is shorter than one of latitude. Of the two that are possible
/// as x, it is the nearer to the x there was.
fn degrees_to_metres(sigma: [f64; 2], theta: f64, scale: [f64; 2]) -> ([f64; 2], f64) {
    let axes = principal_axes(sigma, theta, scale);
    let quarter_turns = ((theta - axes.rotation) / 90.0).round();
    let sigma = if quarter_turns.rem_euclid(2.0) == 0.0 {
        [axes.major, axes.minor]
    } else {
        [axes.minor, axes.major]
    };
    (sigma, axes.rotation + 90.0 * quarter_turns)
}

fn probability(values: &[f32]) -> Result<f64, Failure> {
    let &[value] = values else {
        return Err(failed(format!("the confidence has {} values, expected 1", values.len())));
    };
    if (0.0..=1.0).contains(&value) {
        Ok(f64::from(value))
    } else {
        Err(failed(format!("the confidence is {value}, must be 0 to 1")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sferic_actors::outcome::FailureCode;

    use super::*;

    const DEGREES: Localizer = Localizer {
        origin: None,
        units: Units::Metres,
        scale: Scale::Linear,
        confidence_interval: 0.68,
        calibration: None,
    };
    const ORIGIN: LocalOrigin = LocalOrigin { latitude: 45.0, longitude: 7.6 };

    #[track_caller]
    fn refused(
        localizer: Localizer,
        position: [f32; 2],
        uncertainty: &[f32],
        confidence: Option<&[f32]>,
        parts: &[&str],
    ) {
        let failure = localizer.answer(&position, uncertainty, confidence).expect_err("answered");
        assert_eq!(failure.code, FailureCode::InferenceFailed);
        for part in parts {
            assert!(failure.message.contains(part), "{part:?} is not in {:?}", failure.message);
        }
    }

    #[test]
    fn degrees_are_taken_as_they_are_and_longitudes_brought_into_range() {
        let answer = DEGREES.answer(&[-33.5, 190.0], &[10.0, 20.0], None).expect("refused");
        assert_eq!(answer.position, Position { latitude: -33.5, longitude: -170.0 });
        assert_eq!(
            answer.uncertainty,
            Uncertainty { sigma_x: 10.0, sigma_y: 20.0, theta: 0.0, confidence_interval: 0.68 }
        );
        assert_eq!(answer.confidence, None);
        assert!((answer.ellipse.rotation.abs() - 90.0).abs() < 1e-9);
        let theta =
            DEGREES.answer(&[0.0, 0.0], &[10.0, 20.0, -200.0], None).expect("refused").uncertainty.theta;
        assert_eq!(theta, 160.0);
    }

    #[test]
    fn metres_are_counted_from_the_origin() {
        let localizer = Localizer { origin: Some(ORIGIN), ..DEGREES };
        let [x, y] = metres_per_degree(45.0);
        let answer = localizer.answer(&[100.0, -200.0], &[1.0, 1.0], None).expect("refused");
        assert!((answer.position.longitude - (7.6 + 100.0 / x)).abs() < 1e-7, "{:?}", answer.position);
        assert!((answer.position.latitude - (45.0 - 200.0 / y)).abs() < 1e-7, "{:?}", answer.position);
    }

    #[test]
    fn logarithms_are_undone_but_theta_has_none() {
        let localizer = Localizer { scale: Scale::Log, ..DEGREES };
        let uncertainty =
            localizer.answer(&[0.0, 0.0], &[0.0, -2.0, 30.0], None).expect("refused").uncertainty;
        assert_eq!(
            (uncertainty.sigma_x, uncertainty.sigma_y, uncertainty.theta),
            (1.0, (-2.0f64).exp(), 30.0)
        );
    }

    #[test]
    fn sigmas_in_degrees_become_metres_of_the_place() {
        let localizer = Localizer { units: Units::Degrees, ..DEGREES };
        let [x, y] = metres_per_degree(60.0);
        let at = |uncertainty: &[f32]| {
            localizer.answer(&[60.0, 10.0], uncertainty, None).expect("refused").uncertainty
        };
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        let plain = at(&[0.5, 0.25]);
        assert!(
            close(plain.sigma_x, 0.5 * x) && close(plain.sigma_y, 0.25 * y) && plain.theta == 0.0,
            "{plain:?}"
        );
        // Turned by a quarter, x lies along the meridian.
        let turned = at(&[0.5, 0.25, 90.0]);
        assert!(close(turned.sigma_x, 0.5 * y) && close(turned.sigma_y, 0.25 * x), "{turned:?}");
        assert!((turned.theta - 90.0).abs() < 1e-9, "{turned:?}");
        // A needle along the diagonal of the degrees lies, on the ground, along the shrunk diagonal.
        let needle = at(&[0.5, 1e-6, 45.0]);
        assert!((needle.theta - y.atan2(x).to_degrees()).abs() < 1e-3, "{needle:?}");
        assert!(close(needle.sigma_x, 0.5 * x.hypot(y) / 2f64.sqrt()), "{needle:?}");
    }

    #[test]
    fn nothing_is_clamped() {
        refused(DEGREES, [90.5, 0.0], &[1.0, 1.0], None, &["latitude is 90.5", "-90 to 90"]);
        refused(DEGREES, [0.0, 0.0], &[0.0, 1.0], None, &["sigma_x is 0"]);
        refused(DEGREES, [0.0, 0.0], &[1.0, -2.0], None, &["sigma_y is -2"]);
        refused(DEGREES, [0.0, 0.0], &[1.0, 1.0], Some(&[1.25]), &["confidence is 1.25", "0 to 1"]);
        refused(DEGREES, [0.0, 0.0], &[1.0, 1.0], Some(&[-0.1]), &["confidence is -0.1"]);
        refused(DEGREES, [0.0, 0.0], &[1.0, 1.0], Some(&[f32::NAN]), &["confidence is NaN"]);
        let log = Localizer { scale: Scale::Log, ..DEGREES };
        refused(log.clone(), [0.0, 0.0], &[-1000.0, 1.0], None, &["sigma_x is exp(-1000)"]);
        refused(log.clone(), [0.0, 0.0], &[1.0, 1000.0], None, &["sigma_y is exp(1000)"]);
        refused(log, [0.0, 0.0], &[400.0, 400.0], None, &["have no ellipse"]);
        let metres = Localizer { origin: Some(ORIGIN), ..DEGREES };
        refused(metres, [1e9, 0.0], &[1.0, 1.0], None, &["1000000000 m east", "half round the Earth"]);
    }

    #[test]
    fn the_ellipse_covers_the_requested_probability() {
        let localizer = Localizer { confidence_interval: 0.95, ..DEGREES };
        let answer = localizer.answer(&[0.0, 0.0], &[20.0, 10.0], None).expect("refused");
        assert_eq!(answer.uncertainty.confidence_interval, 0.95);
        // The root of the 95 % point of chi-squared with two degrees of freedom, from its table: 5.991.
        assert!((answer.ellipse.semi_major - 20.0 * 5.991f64.sqrt()).abs() < 1e-2, "{:?}", answer.ellipse);
        assert_eq!((answer.uncertainty.sigma_x, answer.uncertainty.sigma_y), (20.0, 10.0));
    }

    #[test]
    fn a_stated_confidence_is_passed_on() {
        for value in [0.0, 0.5, 1.0] {
            let answer = DEGREES.answer(&[0.0, 0.0], &[1.0, 1.0], Some(&[value])).expect("refused");
            assert_eq!(answer.confidence, Some(f64::from(value)));
        }
    }

    #[test]
    fn a_measured_radius_stands_for_that_of_a_normal_distribution() {
        let calibration =
            Calibration { levels: vec![0.5, 0.9], radius_squared: vec![2.0, 8.0], source: None, n: None };
        let measured = Localizer { calibration: Some(Arc::new(calibration)), ..DEGREES };
        for (probability, radius) in [(0.5, 2.0f64.sqrt()), (0.9, 8.0f64.sqrt())] {
            let localizer = Localizer { confidence_interval: probability, ..measured.clone() };
            let place = localizer.answer(&[45.0, 7.0], &[30.0, 10.0, 0.0], None).unwrap();
            assert!(place.calibrated && localizer.could_have_said(&place));
            assert!((place.ellipse.semi_major - 30.0 * radius).abs() < 1e-9, "{:?}", place.ellipse);
            assert!((place.ellipse.semi_minor - 10.0 * radius).abs() < 1e-9);
            // The sigmas are what the model said.
            assert_eq!((place.uncertainty.sigma_x, place.uncertainty.sigma_y), (30.0, 10.0));
            assert!(!DEGREES.could_have_said(&place), "an answer of the version before it was measured");
        }
    }

    proptest! {
        #[test]
        fn every_answer_can_be_published(
            position in prop::array::uniform2(-1e3..1e3f32),
            uncertainty in prop::collection::vec(-2e3..2e3f32, 2..=3),
            metres in any::<bool>(),
            degrees in any::<bool>(),
            log in any::<bool>(),
        ) {
            let localizer = Localizer {
                origin: metres.then_some(ORIGIN),
                units: if degrees { Units::Degrees } else { Units::Metres },
                scale: if log { Scale::Log } else { Scale::Linear },
                ..DEGREES
            };
            let answer = localizer.answer(&position, &uncertainty, None);
            if let Ok(Localization { position, uncertainty, ellipse, .. }) = answer {
                prop_assert!(position.latitude.abs() <= 90.0 && position.longitude.abs() <= 180.0);
                prop_assert!(uncertainty.sigma_x > 0.0 && uncertainty.sigma_y > 0.0);
                prop_assert!(uncertainty.theta.abs() <= 180.0 && ellipse.rotation.abs() <= 180.0);
                prop_assert!(ellipse.semi_major >= ellipse.semi_minor && ellipse.semi_minor > 0.0);
                prop_assert!(ellipse.area > 0.0 && ellipse.area.is_finite());
            }
        }
    }
}
