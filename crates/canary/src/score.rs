//! How good an answer was, where somebody knows the truth.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use sferic_actors::outcome::{Answer, Localization, Position};

/// What was true of a frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// Where the emitter was.
    pub position: Option<Position>,
    /// What it was.
    pub label: Option<String>,
}

/// Probability that a class has which the model has not named, or has excluded.
const LEAST: f64 = 1e-6;

/// The logarithmic score of an answer, negated, so that less is better: `-ln p(truth)`, of a position for
/// the Gaussian density per square metre that its sigmas state. It is proper (Gneiting and Raftery 2007,
/// "Strictly proper scoring rules, prediction, and estimation", section 4.1): neither a huge nor a tiny
/// ellipse wins. `None` where the truth says nothing of the answer's kind.
pub fn log_score(answer: &Answer, truth: &Truth) -> Option<f64> {
    match answer {
        Answer::Localization(localization) => {
            let square = mahalanobis_squared(localization, truth.position?);
            let sigma = &localization.uncertainty;
            let area = std::f64::consts::TAU * sigma.sigma_x * sigma.sigma_y;
            Some(square / 2.0 + area.ln()).filter(|score| !score.is_nan())
        }
        Answer::Classification(labels) => {
            let truth = truth.label.as_deref()?;
            let of = labels.iter().find(|label| &*label.label == truth);
            // A model that gives a label alone is sure of it.
            let probability = of.map_or(0.0, |label| label.score.unwrap_or(1.0));
            Some(-probability.clamp(LEAST, 1.0).ln())
        }
        Answer::Tensors(_) => None,
    }
}

/// The distance to the truth, metres; for a classification 0 where its best label is right and 1 where not.
pub fn error(answer: &Answer, truth: &Truth) -> Option<f64> {
    match answer {
        Answer::Localization(localization) => Some(offset(localization, truth.position?).0),
        Answer::Classification(labels) => {
            let truth = truth.label.as_deref()?;
            Some(f64::from(labels.first().is_none_or(|best| &*best.label != truth)))
        }
        Answer::Tensors(_) => None,
    }
}

/// Whether the ellipse, which should cover with the probability that comes with it, covers the truth.
pub fn coverage(answer: &Answer, truth: &Truth) -> Option<(f64, bool)> {
    let Answer::Localization(localization) = answer else { return None };
    let (distance, azimuth) = offset(localization, truth.position?);
    let ellipse = &localization.ellipse;
    // From the north clockwise to from the east counter-clockwise, and then from the major axis.
    let angle = (90.0 - azimuth - ellipse.rotation).to_radians();
    let (along, across) = (distance * angle.cos(), distance * angle.sin());
    let is_within = (along / ellipse.semi_major).powi(2) + (across / ellipse.semi_minor).powi(2) <= 1.0;
    Some((localization.uncertainty.confidence_interval, is_within))
}

/// Distance in metres and azimuth in degrees from the answer to the truth, on WGS 84.
fn offset(localization: &Localization, truth: Position) -> (f64, f64) {
    let from = localization.position;
    let (distance, azimuth, _, _) =
        Geodesic::wgs84().inverse(from.latitude, from.longitude, truth.latitude, truth.longitude);
    (distance, azimuth)
}

fn mahalanobis_squared(localization: &Localization, truth: Position) -> f64 {
    let (distance, azimuth) = offset(localization, truth);
    let sigma = &localization.uncertainty;
    let angle = (90.0 - azimuth - sigma.theta).to_radians();
    (distance * angle.cos() / sigma.sigma_x).powi(2) + (distance * angle.sin() / sigma.sigma_y).powi(2)
}

#[cfg(test)]
mod tests {
    use sferic_actors::outcome::{Ellipse, Label, Uncertainty};

    use super::*;

    const AT: Position = Position { latitude: 52.0, longitude: 13.0 };

    /// An answer at [`AT`] with these sigmas, along axes turned by `theta`.
    fn answer(sigma_x: f64, sigma_y: f64, theta: f64) -> Answer {
        let scale = (-2.0 * 0.32f64.ln()).sqrt();
        Answer::Localization(Localization {
            position: AT,
            uncertainty: Uncertainty { sigma_x, sigma_y, theta, confidence_interval: 0.68 },
            ellipse: Ellipse {
                semi_major: scale * sigma_x,
                semi_minor: scale * sigma_y,
                rotation: theta,
                area: 0.0,
            },
            confidence: None,
            calibrated: false,
        })
    }

    fn truth(latitude: f64, longitude: f64) -> Truth {
        Truth { position: Some(Position { latitude, longitude }), label: None }
    }

    #[test]
    fn a_position_is_scored_by_its_density() {
        let at = log_score(&answer(100.0, 50.0, 0.0), &truth(52.0, 13.0)).unwrap();
        assert!((at - (std::f64::consts::TAU * 5000.0).ln()).abs() < 1e-9);
        // 111.2 m to the north, of which the axis along y has 50 m, or 100 m where it is turned.
        let (north, off) = (truth(52.001, 13.0), 111.266);
        for (theta, sigma) in [(0.0, 50.0f64), (90.0, 100.0)] {
            let score = log_score(&answer(100.0, 50.0, theta), &north).unwrap();
            assert!((score - at - (off / sigma).powi(2) / 2.0).abs() < 1e-3, "{theta}: {score}");
        }
        assert!((error(&answer(1.0, 1.0, 0.0), &north).unwrap() - off).abs() < 0.01);
        let least = |sigma| log_score(&answer(sigma, sigma, 0.0), &north).unwrap();
        assert!(least(80.0) < least(10.0) && least(80.0) < least(10_000.0), "honest sigmas win");
    }

    #[test]
    fn an_ellipse_covers_along_its_axes() {
        let covers = |theta, truth: &Truth| coverage(&answer(100.0, 50.0, theta), truth).unwrap();
        assert_eq!(covers(0.0, &truth(52.001, 13.0)), (0.68, false));
        assert_eq!(covers(90.0, &truth(52.001, 13.0)), (0.68, true));
        assert_eq!(covers(0.0, &truth(52.0, 13.001)), (0.68, true));
        assert_eq!(covers(45.0, &truth(52.0008, 13.0012)), (0.68, true));
        assert_eq!(covers(-45.0, &truth(52.0008, 13.0012)), (0.68, false));
    }

    #[test]
    fn a_label_is_scored_by_its_probability() {
        let labels = [("bpsk", 0.8), ("qpsk", 0.2)];
        let labels = labels.map(|(label, score)| Label { label: label.into(), score: Some(score) });
        let answer = Answer::Classification(labels.to_vec());
        let label = |label: &str| Truth { position: None, label: Some(label.to_owned()) };
        let score = |truth| log_score(&answer, &label(truth)).unwrap();
        assert!((score("qpsk") + 0.2f64.ln()).abs() < 1e-12 && score("fm") == -LEAST.ln());
        assert_eq!((error(&answer, &label("bpsk")), error(&answer, &label("fm"))), (Some(0.0), Some(1.0)));
        assert_eq!(log_score(&answer, &truth(0.0, 0.0)), None);
    }
}
