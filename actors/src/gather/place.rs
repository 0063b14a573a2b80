//! Distances between receivers.

use sferic_samples::Geolocation;

/// Equatorial radius of WGS 84, metres.
const A: f64 = 6_378_137.0;
/// Squared eccentricity of WGS 84.
const E2: f64 = 6.694_379_990_14e-3;
/// Mean radius of the Earth, metres.
pub(super) const MEAN_RADIUS: f64 = 6_371_008.8;

/// Metres between two places along the surface: the chord through WGS 84, bent to the mean radius. Good to
/// half a percent within a hemisphere.
pub fn distance(one: &Geolocation, other: &Geolocation) -> f64 {
    let ([ax, ay, az], [bx, by, bz]) = (earth_centred(one), earth_centred(other));
    let chord = (ax - bx).hypot(ay - by).hypot(az - bz);
    let half = chord / (2.0 * MEAN_RADIUS);
    if half < 1.0 { 2.0 * MEAN_RADIUS * half.asin() } else { chord }
}

/// Whether it says nothing: receivers without a fix report 0, 0.
pub(super) fn is_null(place: &Geolocation) -> bool {
    let Geolocation::Point { coordinates } = place;
    coordinates.iter().take(2).all(|degrees| *degrees == 0.0)
}

/// Earth-centred, earth-fixed coordinates, metres.
fn earth_centred(place: &Geolocation) -> [f64; 3] {
    let Geolocation::Point { coordinates } = place;
    let degrees = |at: usize| coordinates.get(at).copied().unwrap_or_default().to_radians();
    let height = coordinates.get(2).copied().unwrap_or_default();
    let ((sin, cos), (sin_east, cos_east)) = (degrees(1).sin_cos(), degrees(0).sin_cos());
    let vertical = A / (1.0 - E2 * sin * sin).sqrt();
    let from_axis = (vertical + height) * cos;
    [from_axis * cos_east, from_axis * sin_east, (vertical * (1.0 - E2) + height) * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_tables() {
        let metres = |from: [f64; 2], to: [f64; 2]| {
            distance(&Geolocation::point(from[1], from[0]), &Geolocation::point(to[1], to[0]))
        };
        // Geodesics of WGS 84 by GeographicLib.
        for (from, to, expected) in [
            ([45.0, 7.6], [45.0, 7.6], 0.0),
            ([45.0, 7.6], [45.0, 7.61], 788.5),
            ([0.0, 179.999], [0.0, -179.999], 222.6),
            ([50.0152, 9.0112], [46.499351, 8.798828], 391_282.0),
            ([0.0, 0.0], [90.0, 0.0], 10_001_966.0),
        ] {
            let got = metres(from, to);
            assert!((got - expected).abs() <= 0.005 * expected, "{from:?} to {to:?}: {got}");
        }
        let up = Geolocation::Point { coordinates: vec![7.6, 45.0, 120.0] };
        assert!((distance(&Geolocation::point(7.6, 45.0), &up) - 120.0).abs() < 1e-3);
    }
}
