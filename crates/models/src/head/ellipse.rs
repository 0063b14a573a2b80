//! The uncertainty of a position and the ellipse that covers it.

use sferic_actors::outcome::{Ellipse, Uncertainty};

/// The probability that the published ellipse covers, where nothing else is configured.
pub const CONFIDENCE_INTERVAL: f64 = 0.68;

/// Two axes at right angles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axes {
    /// Length of the longer.
    pub major: f64,
    /// Length of the shorter.
    pub minor: f64,
    /// Of the longer, degrees counter-clockwise from x, in [-180, 180].
    pub rotation: f64,
}

/// Principal axes of the covariance `S R D² Rᵀ S`, with `D = diag(sigma)`, `R` the turn by `theta` degrees
/// and `S = diag(scale)`.
///
/// The roots of its eigenvalues are the singular values of `S R D` and its eigenvectors the left singular
/// vectors; taken this way, nothing is squared and a long thin ellipse keeps its width. Closed form: J.
/// Blinn, "Consider the lowly 2×2 matrix", IEEE Computer Graphics and Applications, 1996.
pub(super) fn principal_axes(sigma: [f64; 2], theta: f64, scale: [f64; 2]) -> Axes {
    let (sin, cos) = theta.to_radians().sin_cos();
    let [[a, b], [c, d]] = [
        [scale[0] * cos * sigma[0], -scale[0] * sin * sigma[1]],
        [scale[1] * sin * sigma[0], scale[1] * cos * sigma[1]],
    ];
    let (e, f, g, h) = ((a + d) / 2.0, (a - d) / 2.0, (c + b) / 2.0, (c - b) / 2.0);
    let (turned, mirrored) = (e.hypot(h), f.hypot(g));
    let major = turned + mirrored;
    // Their product is the determinant; the difference of the two would lose the digits of a thin one.
    let minor = (scale[0] * sigma[0] / major) * (scale[1] * sigma[1]);
    // Every axis of a circle is its longest: keep the one given.
    let rotation =
        if mirrored <= 1e-12 * turned { theta } else { (g.atan2(f) + h.atan2(e)).to_degrees() / 2.0 };
    Axes { major, minor, rotation }
}

/// The angle in [-180, 180] degrees; one that is there already is kept as it is.
pub(super) fn normalise_degrees(angle: f64) -> f64 {
    if angle.abs() <= 180.0 { angle } else { (angle + 180.0).rem_euclid(360.0) - 180.0 }
}

/// By how much the 1-sigma ellipse of a two-dimensional normal distribution is scaled to cover `probability`:
/// √(−2 ln(1−p)), because its squared radius is chi-squared with two degrees of freedom.
pub fn ellipse_scale(probability: f64) -> f64 {
    (-2.0 * (1.0 - probability).ln()).sqrt()
}

/// The ellipse of 1 sigma, scaled to cover as much as it says.
pub(super) fn ellipse(uncertainty: &Uncertainty, scale: f64) -> Ellipse {
    let axes = principal_axes([uncertainty.sigma_x, uncertainty.sigma_y], uncertainty.theta, [1.0, 1.0]);
    let (semi_major, semi_minor) = (scale * axes.major, scale * axes.minor);
    Ellipse {
        semi_major,
        semi_minor,
        rotation: normalise_degrees(axes.rotation),
        area: std::f64::consts::PI * semi_major * semi_minor,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `S R D² Rᵀ S`, term by term.
    fn covariance(sigma: [f64; 2], theta: f64, scale: [f64; 2]) -> [f64; 3] {
        let (sin, cos) = theta.to_radians().sin_cos();
        let [x, y] = [sigma[0] * sigma[0], sigma[1] * sigma[1]];
        let xx = cos * cos * x + sin * sin * y;
        let yy = sin * sin * x + cos * cos * y;
        let xy = sin * cos * (x - y);
        [scale[0] * scale[0] * xx, scale[0] * scale[1] * xy, scale[1] * scale[1] * yy]
    }

    #[test]
    fn the_scale_is_exact_in_two_dimensions() {
        assert!((ellipse_scale(0.68) - 1.509_592_185_451_663_6).abs() < 1e-15);
        // Rayleigh distribution: 39.35 % lie within one sigma.
        assert!((ellipse_scale(1.0 - (-0.5f64).exp()) - 1.0).abs() < 1e-15);
        assert!((ellipse_scale(0.95) - 2.447_746_830_680_816).abs() < 1e-14);
    }

    #[test]
    fn the_major_axis_lies_along_the_larger_sigma() {
        let of = |sigma_x, sigma_y, theta| {
            let uncertainty = Uncertainty { sigma_x, sigma_y, theta, confidence_interval: 0.68 };
            ellipse(&uncertainty, ellipse_scale(0.68))
        };
        let east = of(3.0, 2.0, 0.0);
        assert!((east.semi_major - 3.0 * ellipse_scale(0.68)).abs() < 1e-12);
        assert!((east.semi_minor - 2.0 * ellipse_scale(0.68)).abs() < 1e-12);
        assert_eq!(east.rotation, 0.0);
        assert!((east.area - std::f64::consts::PI * east.semi_major * east.semi_minor).abs() < 1e-9);
        assert!((of(2.0, 3.0, 0.0).rotation.abs() - 90.0).abs() < 1e-12);
        assert!((of(3.0, 2.0, 30.0).rotation - 30.0).abs() < 1e-12);
        assert_eq!(of(2.0, 2.0, 77.0).rotation, 77.0);
        // A needle keeps its width: squared, the small sigma would vanish beside the large one.
        let needle = of(1e-6, 1e6, 33.0);
        assert!((needle.semi_minor / ellipse_scale(0.68) / 1e-6 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_angle_within_the_turn_is_kept() {
        for (angle, normal) in
            [(180.0, 180.0), (-180.0, -180.0), (190.0, -170.0), (-541.0, 179.0), (720.0, 0.0), (12.3, 12.3)]
        {
            assert_eq!(normalise_degrees(angle), normal);
        }
    }

    proptest! {
        #[test]
        fn the_axes_are_eigenvectors_of_the_covariance(
            log_sigma in prop::array::uniform2(-3.0..3.0f64),
            theta in -360.0..360.0f64,
            log_scale in prop::array::uniform2(-1.0..1.0f64),
        ) {
            let (sigma, scale) = (log_sigma.map(f64::exp), log_scale.map(f64::exp));
            let axes = principal_axes(sigma, theta, scale);
            let [xx, xy, yy] = covariance(sigma, theta, scale);
            let (sin, cos) = axes.rotation.to_radians().sin_cos();
            let eigenvalue = axes.major * axes.major;
            prop_assert!((xx * cos + xy * sin - eigenvalue * cos).abs() <= 1e-9 * eigenvalue);
            prop_assert!((xy * cos + yy * sin - eigenvalue * sin).abs() <= 1e-9 * eigenvalue);
            prop_assert!((xx + yy - eigenvalue - axes.minor * axes.minor).abs() <= 1e-9 * eigenvalue);
            prop_assert!(axes.major >= axes.minor * (1.0 - 1e-12) && axes.minor > 0.0);
        }
    }
}
