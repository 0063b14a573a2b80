//! Distances between places.

use std::sync::LazyLock;

use geographiclib_rs::{Geodesic, InverseGeodesic};
use sferic_samples::Geolocation;

static WGS84: LazyLock<Geodesic> = LazyLock::new(Geodesic::wgs84);

/// Metres between two places: the geodesic of WGS 84, and the difference of their heights.
pub fn distance(one: &Geolocation, other: &Geolocation) -> f64 {
    let ([east, north, up], [east_too, north_too, up_too]) = (coordinates(one), coordinates(other));
    let along: f64 = WGS84.inverse(north, east, north_too, east_too);
    along.hypot(up - up_too)
}

/// Metres east and north of the first of these places, by the length and azimuth of the geodesic from there.
pub(super) fn from_first(places: &[&Geolocation]) -> Vec<[f64; 2]> {
    let Some(first) = places.first() else { return Vec::new() };
    let [east, north, _] = coordinates(first);
    let metres = |place: &&Geolocation| {
        let [east_too, north_too, _] = coordinates(place);
        let (length, azimuth, _, _): (f64, f64, f64, f64) = WGS84.inverse(north, east, north_too, east_too);
        let (sin, cos) = azimuth.to_radians().sin_cos();
        [length * sin, length * cos]
    };
    places.iter().map(metres).collect()
}

/// Whether it says nothing: receivers without a fix report 0, 0.
pub(super) fn is_null(place: &Geolocation) -> bool {
    coordinates(place)[..2] == [0.0, 0.0]
}

/// Degrees east and north, metres up.
fn coordinates(place: &Geolocation) -> [f64; 3] {
    let Geolocation::Point { coordinates } = place;
    [0, 1, 2].map(|at| coordinates.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_geodesic_and_of_the_height() {
        let metres = |from: [f64; 2], to: [f64; 2]| {
            distance(&Geolocation::point(from[1], from[0]), &Geolocation::point(to[1], to[0]))
        };
        // By GeographicLib's own program.
        for (from, to, expected) in [
            ([45.0, 7.6], [45.0, 7.6], 0.0),
            ([0.0, 179.999], [0.0, -179.999], 222.639),
            ([0.0, 0.0], [90.0, 0.0], 10_001_965.729),
        ] {
            let got = metres(from, to);
            assert!((got - expected).abs() < 1e-3, "{from:?} to {to:?}: {got}");
        }
        let up = Geolocation::Point { coordinates: vec![7.6, 45.0, 120.0] };
        assert!((distance(&Geolocation::point(7.6, 45.0), &up) - 120.0).abs() < 1e-9);
    }
}
