//! Predictions with a position as GeoJSON (RFC 7946).

use serde_json::{Map, Value, json};

use super::outcome::Outcome;
use crate::geojson;
use crate::msgpack_json::Json;

/// A Feature of the position and, where the prediction has one, its ellipse. The properties are the
/// prediction's other keys. `None` where the outcome has no position on the map; an ellipse that is none is
/// left out.
pub fn feature(outcome: &Outcome) -> Option<Value> {
    let number = |path: &[&str]| outcome.number(path);
    let ellipse = ["semi_major", "semi_minor", "rotation"].map(|key| number(&["ellipse", key]));
    let ellipse = match ellipse {
        [Some(major), Some(minor), Some(rotation)] => Some([major, minor, rotation]),
        _ => None,
    };
    let place = [number(&["position", "longitude"])?, number(&["position", "latitude"])?];
    let geometry = geojson::geometry(place[0], place[1], ellipse)?;
    let properties: Map<String, Value> = outcome
        .entries()
        .filter(|(key, _)| *key != "position")
        .filter_map(|(key, value)| Some((key.to_owned(), serde_json::to_value(Json(value)).ok()?)))
        .collect();
    let mut feature = json!({"type": "Feature", "geometry": geometry});
    if let Some(id) = properties.get("frame_id").filter(|id| id.is_string()) {
        feature["id"] = id.clone();
    }
    feature["properties"] = properties.into();
    Some(feature)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{LOCALIZATION, made, outcome};
    use super::*;
    use crate::geojson::tests::signed_area;

    #[test]
    fn a_position_becomes_a_feature() {
        let feature = feature(&outcome(LOCALIZATION)).unwrap();
        assert_eq!(feature["type"], "Feature");
        assert_eq!(feature["id"], "a1");
        assert_eq!(feature["properties"]["source"], "north.rx2");
        assert_eq!(feature["properties"]["ellipse"]["semi_major"], 151.0);
        let [point, polygon] = feature["geometry"]["geometries"].as_array().unwrap().as_slice() else {
            panic!("{feature}")
        };
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
    fn invalid_positions_and_ellipses_are_left_out() {
        let with = |place: &str, ellipse: &str| {
            feature(&outcome(&format!(
                r#"{{"kind":"localization","position":{{{place}}},"ellipse":{{{ellipse}}}}}"#
            )))
        };
        let ellipse = r#""semi_major":20.0,"semi_minor":10.0,"rotation":5.0"#;
        for place in [
            r#""latitude":90.5,"longitude":7.0"#,
            r#""latitude":45.0,"longitude":-180.01"#,
            r#""latitude":null,"longitude":7.0"#,
            r#""latitude":"45","longitude":7.0"#,
            r#""latitude":45.0"#,
        ] {
            assert_eq!(with(place, ellipse), None, "{place}");
        }
        for ellipse in [
            r#""semi_major":20.0,"semi_minor":null,"rotation":5.0"#,
            r#""semi_major":0.0,"semi_minor":0.0,"rotation":5.0"#,
            r#""semi_major":-20.0,"semi_minor":10.0,"rotation":5.0"#,
            r#""semi_major":2e7,"semi_minor":10.0,"rotation":5.0"#,
            r#""semi_major":20.0,"semi_minor":10.0"#,
        ] {
            let feature = with(r#""latitude":45,"longitude":7.5"#, ellipse).unwrap();
            let point = json!([{"type": "Point", "coordinates": [7.5, 45.0]}]);
            assert_eq!(feature["geometry"]["geometries"], point, "{ellipse}");
            assert!(feature.get("id").is_none(), "an id is a text or absent");
        }
    }

    #[test]
    fn values_that_are_no_number_are_left_out() {
        let map = |entries: &[(&str, f64)]| {
            rmpv::Value::Map(entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
        };
        let with = |latitude: f64, semi_minor: f64| {
            let ellipse = map(&[("semi_major", 20.0), ("semi_minor", semi_minor), ("rotation", 0.0)]);
            let position = map(&[("latitude", latitude), ("longitude", 7.0)]);
            feature(&made(rmpv::Value::Map(vec![("position".into(), position), ("ellipse".into(), ellipse)])))
        };
        assert_eq!(with(f64::NAN, 10.0), None);
        for semi_minor in [f64::NAN, f64::INFINITY] {
            assert_eq!(
                with(45.0, semi_minor).unwrap()["geometry"]["geometries"].as_array().unwrap().len(),
                1
            );
        }
        assert_eq!(with(45.0, 10.0).unwrap()["geometry"]["geometries"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn without_a_position_there_is_none() {
        assert_eq!(feature(&outcome(r#"{"labels":[]}"#)), None);
    }
}
