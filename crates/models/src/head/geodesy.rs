//! The WGS 84 ellipsoid.

use geographiclib_rs::{DirectGeodesic, Geodesic, InverseGeodesic};
use sferic_actors::outcome::Position;

use super::super::output_section::LocalOrigin;
use super::ellipse::normalise_degrees;

/// Equatorial radius, metres.
const A: f64 = 6_378_137.0;
/// Flattening.
const F: f64 = 1.0 / 298.257_223_563;
/// From pole to pole along a meridian, metres: nothing on the Earth is further away than this.
pub(super) const HALF_MERIDIAN: f64 = 20_003_931.458_6;

/// Where one comes to from `origin` on the geodesic that starts towards `east`, `north` (metres) and is as
/// long as they are.
pub(super) fn displaced(origin: LocalOrigin, east: f64, north: f64) -> Position {
    let azimuth = east.atan2(north).to_degrees();
    let (latitude, longitude): (f64, f64) =
        Geodesic::wgs84().direct(origin.latitude, origin.longitude, azimuth, east.hypot(north));
    Position { latitude, longitude: normalise_degrees(longitude) }
}

/// Metres east and north of `origin` at which `latitude`, `longitude` lies: the inverse of how positions in
/// metres are read, by length and azimuth of the geodesic from the origin.
pub fn from_origin(origin: LocalOrigin, latitude: f64, longitude: f64) -> [f64; 2] {
    let (length, azimuth, _, _): (f64, f64, f64, f64) =
        Geodesic::wgs84().inverse(origin.latitude, origin.longitude, latitude, longitude);
    let (sin, cos) = azimuth.to_radians().sin_cos();
    [length * sin, length * cos]
}

/// Metres in one degree of longitude and of latitude at `latitude` degrees: with the prime vertical's radius
/// of curvature times the cosine of the latitude, and with the meridian's.
pub(super) fn metres_per_degree(latitude: f64) -> [f64; 2] {
    let squared_eccentricity = F * (2.0 - F);
    let (sin, cos) = latitude.to_radians().sin_cos();
    let w = 1.0 - squared_eccentricity * sin * sin;
    let prime_vertical = A / w.sqrt();
    let meridian = prime_vertical * (1.0 - squared_eccentricity) / w;
    [(prime_vertical * cos).to_radians(), meridian.to_radians()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(latitude: f64, longitude: f64, east: f64, north: f64) -> Position {
        displaced(LocalOrigin { latitude, longitude }, east, north)
    }

    #[test]
    fn a_degree_has_its_known_length() {
        // The usual tables for WGS 84, in kilometres to the metre.
        for (latitude, longitude_km, latitude_km) in [
            (0.0, 111.320, 110.574),
            (30.0, 96.486, 110.852),
            (45.0, 78.847, 111.132),
            (60.0, 55.800, 111.412),
            (90.0, 0.0, 111.694),
        ] {
            let [x, y] = metres_per_degree(latitude);
            assert!((x / 1e3 - longitude_km).abs() < 6e-4, "{latitude}: {x}");
            assert!((y / 1e3 - latitude_km).abs() < 6e-4, "{latitude}: {y}");
        }
    }

    #[test]
    fn standing_still_is_the_origin() {
        let position = from(45.0, 7.6, 0.0, 0.0);
        assert!((position.latitude - 45.0).abs() < 1e-12 && (position.longitude - 7.6).abs() < 1e-12);
    }

    #[test]
    fn over_the_date_line_the_longitude_changes_its_sign() {
        let east = from(10.0, 179.99, 5000.0, 0.0);
        assert!(east.longitude < -179.9, "{east:?}");
        let west = from(10.0, -179.99, -5000.0, 0.0);
        assert!(west.longitude > 179.9, "{west:?}");
    }

    #[test]
    fn a_path_over_the_pole_continues_on_the_other_side() {
        let beyond = from(89.99, 20.0, 0.0, 5000.0);
        assert!((beyond.longitude - -160.0).abs() < 1e-6, "{beyond:?}");
        assert!(beyond.latitude < 90.0 && beyond.latitude > 89.9, "{beyond:?}");
        // From the pole itself every way is south; the azimuth counts from the origin's meridian.
        let from_pole = from(90.0, 0.0, 1000.0, 0.0);
        assert!((from_pole.longitude - 90.0).abs() < 1e-9 && from_pole.latitude < 90.0, "{from_pole:?}");
        assert!((from(-90.0, 0.0, 0.0, HALF_MERIDIAN).latitude - 90.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn the_way_back_has_the_same_length_and_direction(
            latitude in -89.99..89.99f64,
            longitude in -180.0..180.0f64,
            east in -50_000.0..50_000.0f64,
            north in -50_000.0..50_000.0f64,
        ) {
            let position = from(latitude, longitude, east, north);
            prop_assert!((-180.0..=180.0).contains(&position.longitude));
            prop_assert!((-90.0..=90.0).contains(&position.latitude));
            let (metres, azimuth, _, _): (f64, f64, f64, f64) =
                Geodesic::wgs84().inverse(latitude, longitude, position.latitude, position.longitude);
            prop_assert!((metres - east.hypot(north)).abs() < 1e-6);
            let (sin, cos) = azimuth.to_radians().sin_cos();
            prop_assert!((metres * sin - east).abs() < 1e-5 && (metres * cos - north).abs() < 1e-5);
        }

        #[test]
        fn a_degree_agrees_with_the_geodesic(latitude in -89.0..89.0f64) {
            let [x, y] = metres_per_degree(latitude);
            let step = 1e-4;
            let (north, _, _, _): (f64, f64, f64, f64) =
                Geodesic::wgs84().inverse(latitude - step / 2.0, 0.0, latitude + step / 2.0, 0.0);
            let (east, _, _, _): (f64, f64, f64, f64) =
                Geodesic::wgs84().inverse(latitude, 0.0, latitude, step);
            prop_assert!((north / step / y - 1.0).abs() < 1e-7, "{} {y}", north / step);
            prop_assert!((east / step / x - 1.0).abs() < 1e-7, "{} {x}", east / step);
        }
    }
}
