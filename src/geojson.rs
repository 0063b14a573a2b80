//! A position with its ellipse as a geometry of GeoJSON (RFC 7946).

use geographiclib_rs::{DirectGeodesic, Geodesic};
use serde_json::{Value, json};

/// Points on the ellipse's outline.
const VERTICES: u32 = 64;

/// Maximum semi-axis drawn, metres: a quarter of a meridian, from which on an outline may contain both poles.
const MAX_SEMI_AXIS: f64 = 1e7;

/// Decimals of a coordinate: a centimetre.
const DECIMALS: f64 = 1e7;

/// A point on the map, `[longitude, latitude]` in degrees.
type LonLat = [f64; 2];

/// A GeometryCollection of the position as a Point and, where it is one, its ellipse as a Polygon (a
/// MultiPolygon where it crosses the antimeridian). The ellipse is its semi-axes, metres, and the rotation of
/// the major one, degrees counter-clockwise from east. `None` where the position is not on the map.
pub fn geometry(longitude: f64, latitude: f64, ellipse: Option<[f64; 3]>) -> Option<Value> {
    // A number that is none is not within anything.
    if !(longitude.abs() <= 180.0 && latitude.abs() <= 90.0) {
        return None;
    }
    let mut geometries = vec![json!({"type": "Point", "coordinates": [longitude, latitude]})];
    let is_axis = |metres: f64| metres > 0.0 && metres < MAX_SEMI_AXIS;
    let ellipse =
        ellipse.filter(|[major, minor, rotation]| is_axis(*major) && is_axis(*minor) && rotation.is_finite());
    geometries.extend(ellipse.map(|ellipse| area(&outline([longitude, latitude], ellipse))));
    Some(json!({"type": "GeometryCollection", "geometries": geometries}))
}

/// The ellipse's outline, counter-clockwise. Each longitude is the one nearest to the last, so they run on
/// past ±180.
fn outline([longitude, latitude]: LonLat, [semi_major, semi_minor, rotation]: [f64; 3]) -> Vec<LonLat> {
    let earth = Geodesic::wgs84();
    let turn = rotation.to_radians();
    let mut last = longitude;
    let vertex = |n: u32| {
        let angle = std::f64::consts::TAU * f64::from(n) / f64::from(VERTICES);
        let (along, across) = (semi_major * angle.cos(), semi_minor * angle.sin());
        let east = along * turn.cos() - across * turn.sin();
        let north = along * turn.sin() + across * turn.cos();
        let (lat, lon): (f64, f64) =
            earth.direct(latitude, longitude, east.atan2(north).to_degrees(), east.hypot(north));
        last = nearest(lon, last);
        [rounded(last), rounded(lat)]
    };
    (0..VERTICES).map(vertex).collect()
}

fn rounded(degrees: f64) -> f64 {
    (degrees * DECIMALS).round() / DECIMALS
}

/// The longitude that is `longitude` and, whole turns aside, nearest to another.
fn nearest(longitude: f64, to: f64) -> f64 {
    to + (longitude - to + 540.0).rem_euclid(360.0) - 180.0
}

/// Which way an outline goes round a pole: 1 eastwards, so round the north pole, -1 westwards, round the
/// south pole; 0: it does not.
fn turns(outline: &[LonLat]) -> f64 {
    let [Some(first), Some(last)] =
        [outline.first(), outline.last()].map(|place| place.map(|place| place[0]))
    else {
        return 0.0;
    };
    ((nearest(first, last) - first) / 360.0).round()
}

/// The outline's inside as a geometry, cut at the antimeridian as RFC 7946 asks.
fn area(outline: &[LonLat]) -> Value {
    let moved =
        |turns: f64| outline.iter().map(move |[longitude, latitude]| [longitude + 360.0 * turns, *latitude]);
    let turns = turns(outline);
    let mut parts = if turns == 0.0 {
        [-1.0, 0.0, 1.0].map(|turns| clip(&moved(turns).collect::<Vec<_>>())).to_vec()
    } else {
        // Round a pole: the outline over and over, longer than the map is wide, and back along the pole.
        let mut band: Vec<LonLat> =
            [-2.0, -1.0, 0.0, 1.0, 2.0].into_iter().flat_map(|n| moved(turns * n)).collect();
        let ends = [band.last(), band.first()].map(|place| place.map(|place| [place[0], 90.0 * turns]));
        band.extend(ends.into_iter().flatten());
        vec![clip(&band)]
    };
    parts.retain(|part| !part.is_empty());
    let mut polygons: Vec<_> = parts.into_iter().map(|part| [closed(part)]).collect();
    match polygons.len() {
        1 => json!({"type": "Polygon", "coordinates": polygons.remove(0)}),
        _ => json!({"type": "MultiPolygon", "coordinates": polygons}),
    }
}

/// Clips a ring to the map, -180 to 180.
fn clip(ring: &[LonLat]) -> Vec<LonLat> {
    beside(&beside(ring, -180.0, 1.0), 180.0, -1.0)
}

/// Clips a ring to one side of a meridian: west (−1) or east (1); empty where that has no area.
fn beside(ring: &[LonLat], edge: f64, side: f64) -> Vec<LonLat> {
    let inside = |point: &LonLat| (point[0] - edge) * side >= 0.0;
    if !ring.iter().any(|point| (point[0] - edge) * side > 0.0) {
        return Vec::new();
    }
    let next = ring.iter().cycle().skip(1);
    let mut part = Vec::new();
    for (a, b) in ring.iter().zip(next) {
        if inside(a) {
            part.push(*a);
        }
        if inside(a) != inside(b) {
            let share = (edge - a[0]) / (b[0] - a[0]);
            part.push([edge, a[1] + share * (b[1] - a[1])]);
        }
    }
    part.dedup();
    part
}

/// Closes a ring: its last point is its first.
fn closed(mut ring: Vec<LonLat>) -> Vec<LonLat> {
    if ring.first() != ring.last() {
        ring.extend(ring.first().copied());
    }
    ring
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Signed area by the shoelace formula: positive is counter-clockwise.
    pub(crate) fn signed_area(ring: &Value) -> f64 {
        let points: Vec<[f64; 2]> = serde_json::from_value(ring.clone()).unwrap();
        assert_eq!(points.first(), points.last());
        points.windows(2).map(|two| two[0][0] * two[1][1] - two[1][0] * two[0][1]).sum::<f64>() / 2.0
    }

    #[test]
    fn the_ellipse_turns_counter_clockwise_from_east() {
        let north = outline([7.0, 45.0], [1000.0, 10.0, 90.0])[0];
        assert!((north[0] - 7.0).abs() < 1e-6 && (north[1] - 45.008998).abs() < 1e-4, "{north:?}");
    }

    /// The rings of a prediction's ellipse, each checked: closed, counter-clockwise, on the map.
    fn rings(
        latitude: f64,
        longitude: f64,
        [semi_major, semi_minor, rotation]: [f64; 3],
    ) -> Vec<Vec<LonLat>> {
        let geometry = geometry(longitude, latitude, Some([semi_major, semi_minor, rotation])).unwrap();
        let shape = &geometry["geometries"][1];
        let polygons = if shape["type"] == "Polygon" {
            json!([shape["coordinates"]])
        } else {
            shape["coordinates"].clone()
        };
        let polygons: Vec<[Vec<LonLat>; 1]> = serde_json::from_value(polygons).unwrap();
        let rings: Vec<_> = polygons.into_iter().map(|[ring]| ring).collect();
        for ring in &rings {
            assert!(ring.len() >= 4 && signed_area(&json!(ring)) > 0.0, "{latitude} {longitude}: {ring:?}");
            assert!(
                ring.iter().all(|[longitude, latitude]| longitude.abs() <= 180.0 && latitude.abs() <= 90.0),
                "{ring:?}"
            );
            assert!(ring.windows(2).all(|two| two[0] != two[1]), "{ring:?}");
        }
        rings
    }

    fn holds(rings: &[Vec<LonLat>], [x, y]: LonLat) -> bool {
        let crosses = |two: &[LonLat]| {
            let [[ax, ay], [bx, by]] = [two[0], two[1]];
            (ay > y) != (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax
        };
        rings.iter().map(|ring| ring.windows(2).filter(|two| crosses(two)).count()).sum::<usize>() % 2 == 1
    }

    #[test]
    fn it_is_cut_at_the_antimeridian() {
        for longitude in [179.99, -179.99, 180.0, -180.0] {
            let whole = outline([longitude, 10.0], [5000.0, 3000.0, 20.0]);
            let rings = rings(10.0, longitude, [5000.0, 3000.0, 20.0]);
            assert_eq!(rings.len(), 2);
            let areas: f64 = rings.iter().map(|ring| signed_area(&json!(ring))).sum();
            assert!((areas / signed_area(&json!(closed(whole))) - 1.0).abs() < 1e-9);
            assert!(rings.iter().all(
                |ring| ring.iter().all(|place| place[0] > 0.0) || ring.iter().all(|place| place[0] < 0.0)
            ));
            assert!(
                holds(&rings, [179.9999, 10.0])
                    && holds(&rings, [-179.9999, 10.0])
                    && !holds(&rings, [0.0, 10.0])
            );
        }
        // Up to the antimeridian and not beyond it.
        let whole = [[179.0, 0.0], [180.0, 1.0], [179.0, 2.0], [178.0, 1.0]];
        assert_eq!(area(&whole), json!({"type": "Polygon", "coordinates": [closed(whole.to_vec())]}));
    }

    #[test]
    fn over_a_pole_it_is_a_polygon_that_holds_the_pole() {
        for (latitude, axes) in
            [(89.99, [3000.0, 1500.0, 30.0]), (90.0, [800.0, 700.0, 0.0]), (70.0, [4e6, 2.9e6, -80.0])]
        {
            for longitude in [-180.0, -101.0, 0.0, 12.5, 179.9] {
                for side in [1.0, -1.0] {
                    let rings = rings(side * latitude, longitude, axes);
                    assert_eq!(rings.len(), 1, "{latitude} {longitude}");
                    assert!(
                        (-17..17).all(|n| holds(&rings, [10.5 * f64::from(n), side * 89.9999])),
                        "{latitude} {longitude} {side}"
                    );
                    assert!(!holds(&rings, [3.0, side * 20.0]) && !holds(&rings, [3.0, side * -89.9999]));
                }
            }
        }
        // Beside the pole it is cut like any other.
        let beside = rings(89.9, 180.0, [3000.0, 1500.0, 0.0]);
        assert!(
            beside.len() == 2 && holds(&beside, [179.9, 89.9]) && !holds(&beside, [179.9, 89.9999]),
            "{beside:?}"
        );
    }
}
