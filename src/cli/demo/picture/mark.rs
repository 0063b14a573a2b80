//! One scene with its prediction.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use sferic_scene::{ORIGIN, Offset, Scene};

use crate::cli::demo::accuracy::Miss;
use crate::cli::outcome::Outcome;

/// One scene with its prediction, in metres from the scenes' origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// What the emitter sends.
    pub sends: &'static str,
    /// Where the emitter is.
    pub truth: Offset,
    /// Where the prediction says that it is.
    pub predicted: Offset,
    /// Longer half axis of the stated ellipse.
    pub semi_major_m: f64,
    /// Shorter half axis of the stated ellipse.
    pub semi_minor_m: f64,
    /// Of the longer axis, counter-clockwise from east.
    pub rotation_deg: f64,
    /// The probability that the ellipse is stated to cover.
    pub probability: f64,
    /// From the prediction to the truth.
    pub error_m: f64,
    /// Probability of the smallest ellipse of the stated uncertainty that covers the truth.
    pub within: f64,
}

impl Mark {
    /// `None` where the outcome has no position and ellipse.
    pub fn of(scene: &Scene, outcome: &Outcome, miss: Miss) -> Option<Self> {
        let (latitude, longitude) =
            (outcome.number(&["position", "latitude"])?, outcome.number(&["position", "longitude"])?);
        let (distance_m, azimuth, _, _): (f64, f64, f64, f64) =
            Geodesic::wgs84().inverse(ORIGIN.latitude, ORIGIN.longitude, latitude, longitude);
        let (east, north) = azimuth.to_radians().sin_cos();
        Some(Self {
            sends: scene.truth.family.label(),
            truth: scene.truth.offset,
            predicted: Offset { east_m: distance_m * east, north_m: distance_m * north },
            semi_major_m: outcome.number(&["ellipse", "semi_major"])?,
            semi_minor_m: outcome.number(&["ellipse", "semi_minor"])?,
            rotation_deg: outcome.number(&["ellipse", "rotation"])?,
            probability: outcome.number(&["uncertainty", "confidence_interval"])?,
            error_m: miss.error_m,
            within: miss.within,
        })
    }

    /// Whether the stated ellipse holds the truth.
    pub fn holds(&self) -> bool {
        self.within <= self.probability
    }

    /// The truth in the axes of the ellipse, whose edge is at one.
    pub fn in_its_ellipse(&self) -> (f64, f64) {
        let (east, north) =
            (self.truth.east_m - self.predicted.east_m, self.truth.north_m - self.predicted.north_m);
        let (sin, cos) = self.rotation_deg.to_radians().sin_cos();
        let along = (east * cos + north * sin) / self.semi_major_m;
        let across = (north * cos - east * sin) / self.semi_minor_m;
        // The length is that of the summary's counts, so that no dot lies on the other side of the edge.
        let scale = in_ellipses(self.within, self.probability) / along.hypot(across).max(f64::MIN_POSITIVE);
        (along * scale, across * scale)
    }
}

/// The radius that covers a probability, in radii of the ellipse that covers `unit`.
pub fn in_ellipses(probability: f64, unit: f64) -> f64 {
    ((1.0 - probability).ln() / (1.0 - unit).ln()).sqrt()
}
