//! Predictions with a position as GeoJSON (RFC 7946).

use geographiclib_rs::{DirectGeodesic, Geodesic};
use serde_json::{Map, Value, json};

use super::outcome::{Json, Outcome};

/// Points on the ellipse's outline.
const VERTICES: u32 = 64;

/// A Feature whose geometry is a GeometryCollection: the position as a Point and, where the prediction has one, its
/// ellipse as a Polygon (a MultiPolygon where it crosses the antimeridian). The properties are the prediction's other keys.
/// `None` where the outcome has no position.
pub fn feature(outcome: &Outcome) -> Option<Value> {
    let latitude = outcome.number(&["position", "latitude"])?;
    let longitude = outcome.number(&["position", "longitude"])?;
    let mut geometries = vec![json!({"type": "Point", "coordinates": [longitude, latitude]})];
    if let [Some(major), Some(minor), Some(rotation)] =
        ["semi_major", "semi_minor", "rotation"].map(|key| outcome.number(&["ellipse", key]))
    {
        geometries.push(area(&outline(latitude, longitude, major, minor, rotation)));
    }
    let properties: Map<String, Value> = outcome
        .entries()
        .filter(|(key, _)| *key != "position")
        .filter_map(|(key, value)| Some((key.to_owned(), serde_json::to_value(Json(value)).ok()?)))
        .collect();
    Some(json!({
        "type": "Feature",
        "id": properties.get("frame_id"),
        "geometry": {"type": "GeometryCollection", "geometries": geometries},
        "properties": properties,
    }))
}

/// The ellipse's outline, counter-clockwise, `[longitude, latitude]`; longitudes run on past ±180.
fn outline(latitude: f64, longitude: f64, semi_major: f64, semi_minor: f64, rotation: f64) -> Vec<[f64; 2]> {
    let earth = Geodesic::wgs84();
    let turn = rotation.to_radians();
    let vertex = |n: u32| {
        let angle = std::f64::consts::TAU * f64::from(n) / f64::from(VERTICES);
        let (along, across) = (semi_major * angle.cos(), semi_minor * angle.sin());
        let east = along * turn.cos() - across * turn.sin();
        let north = along * turn.sin() + across * turn.cos();
        let (lat, lon): (f64, f64) = earth.direct(latitude, longitude, east.atan2(north).to_degrees(), east.hypot(north));
        // Nearest to the centre, so that the outline does not jump at the antimeridian.
        [longitude + (lon - longitude + 540.0).rem_euclid(360.0) - 180.0, lat]
    };
    (0..VERTICES).map(vertex).collect()
}

/// The outline's inside as a geometry, cut at the antimeridian as RFC 7946 asks.
fn area(outline: &[[f64; 2]]) -> Value {
    let edge: f64 = match outline {
        outline if outline.iter().any(|[longitude, _]| *longitude > 180.0) => 180.0,
        outline if outline.iter().any(|[longitude, _]| *longitude < -180.0) => -180.0,
        outline => return json!({"type": "Polygon", "coordinates": [ring(outline, 0.0)]}),
    };
    let shift = |side: f64| if side == edge.signum() { -360.0 * side } else { 0.0 };
    let parts = [-1.0, 1.0].map(|side| [ring(&clip(outline, edge, side), shift(side))]);
    json!({"type": "MultiPolygon", "coordinates": parts})
}

/// What of a convex outline lies on one side of a meridian: west (−1) or east (1).
fn clip(outline: &[[f64; 2]], edge: f64, side: f64) -> Vec<[f64; 2]> {
    let inside = |point: &[f64; 2]| (point[0] - edge) * side >= 0.0;
    let next = outline.iter().cycle().skip(1);
    let mut part = Vec::new();
    for (a, b) in outline.iter().zip(next) {
        if inside(a) {
            part.push(*a);
        }
        if inside(a) != inside(b) {
            let share = (edge - a[0]) / (b[0] - a[0]);
            part.push([edge, a[1] + share * (b[1] - a[1])]);
        }
    }
    part
}

/// A closed linear ring, moved by whole turns.
fn ring(outline: &[[f64; 2]], shift: f64) -> Vec<[f64; 2]> {
    let closed = outline.iter().chain(outline.first());
    closed.map(|[longitude, latitude]| [longitude + shift, *latitude]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{LOCALIZATION, outcome};
    use super::*;

    /// Signed area by the shoelace formula: positive is counter-clockwise.
    fn signed_area(ring: &Value) -> f64 {
        let points: Vec<[f64; 2]> = serde_json::from_value(ring.clone()).unwrap();
        assert_eq!(points.first(), points.last());
        points.windows(2).map(|two| two[0][0] * two[1][1] - two[1][0] * two[0][1]).sum::<f64>() / 2.0
    }

    #[test]
    fn a_position_becomes_a_feature() {
        let feature = feature(&outcome(LOCALIZATION)).unwrap();
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["id"], "a1");
        assert_eq!(feature["properties"]["source"], "north.rx2");
        assert_eq!(feature["properties"]["ellipse"]["semi_major"], 151.0);
        let [point, polygon] = feature["geometry"]["geometries"].as_array().unwrap().as_slice() else { panic!("{feature}") };
        assert_eq!(point, &json!({"type": "Point", "coordinates": [7.62, 45.01]}));
        assert_eq!(polygon["type"], "Polygon");
        let ring = &polygon["coordinates"][0];
        assert_eq!(ring.as_array().unwrap().len(), 65);
        // A degree is 111,140 m north and 78,840 m east there; π·151·90.6 m² less what 64 corners cut off.
        let square_metres = signed_area(ring) * 111_140.0 * 78_840.0;
        assert!((square_metres / 42_979.0 - 1.0).abs() < 0.005, "{square_metres}");
        // The first vertex lies on the major axis, due east.
        let east = (ring[0][0].as_f64().unwrap() - 7.62) * 78_840.0;
        assert!((east - 151.0).abs() < 0.5, "{east}");
    }

    #[test]
    fn the_ellipse_turns_counter_clockwise_from_east() {
        let north = outline(45.0, 7.0, 1000.0, 10.0, 90.0)[0];
        assert!((north[0] - 7.0).abs() < 1e-6 && (north[1] - 45.008998).abs() < 1e-4, "{north:?}");
    }

    #[test]
    fn it_is_cut_at_the_antimeridian() {
        for longitude in [179.99, -179.99] {
            let whole = outline(10.0, longitude, 5000.0, 3000.0, 20.0);
            let geometry = area(&whole);
            assert_eq!(geometry["type"], "MultiPolygon");
            let rings: Vec<&Value> = (0..2).map(|n| &geometry["coordinates"][n][0]).collect();
            let areas: f64 = rings.iter().map(|ring| signed_area(ring)).sum();
            assert!((areas / signed_area(&json!(ring(&whole, 0.0))) - 1.0).abs() < 1e-9);
            for ring in rings {
                let points: Vec<[f64; 2]> = serde_json::from_value(ring.clone()).unwrap();
                assert!(points.iter().all(|[longitude, _]| longitude.abs() <= 180.0));
                assert!(points.iter().all(|[longitude, _]| *longitude > 0.0) || points.iter().all(|[longitude, _]| *longitude < 0.0));
            }
        }
    }

    #[test]
    fn without_a_position_there_is_none() {
        assert_eq!(feature(&outcome(r#"{"labels":[]}"#)), None);
    }
}
