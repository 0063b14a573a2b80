//! Where a frame's receiver is.

use serde::Deserialize;
use sferic_samples::Number;

use super::keys::by_text_keys;
use super::values::Name;

/// A GeoJSON Point: `[longitude, latitude, altitude?]`, degrees and metres, finite and within range.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Geolocation {
    #[serde(deserialize_with = "by_text_keys")]
    point: Point,
}

impl Geolocation {
    /// The place.
    pub fn into_place(self) -> sferic_samples::Geolocation {
        sferic_samples::Geolocation::Point { coordinates: self.point.coordinates.0 }
    }
}

/// From the deepest trench to the geostationary orbit and beyond, metres.
const ALTITUDES: std::ops::RangeInclusive<f64> = -12_000.0..=50_000_000.0;

#[derive(Debug, Deserialize)]
struct Point {
    #[serde(rename = "type")]
    _kind: Name<PointType>,
    #[serde(rename = "coordinates")]
    coordinates: Coordinates,
}

#[derive(Debug, Deserialize)]
enum PointType {
    Point,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<f64>")]
struct Coordinates(Vec<f64>);

impl TryFrom<Vec<f64>> for Coordinates {
    type Error = String;

    fn try_from(coordinates: Vec<f64>) -> Result<Self, String> {
        let (longitude, latitude, altitude) = match coordinates[..] {
            [longitude, latitude] => (longitude, latitude, 0.0),
            [longitude, latitude, altitude] => (longitude, latitude, altitude),
            _ => return Err(format!("{coordinates:?} is not [longitude, latitude, altitude?]")),
        };
        for (name, degrees, limit) in [("longitude", longitude, 180.0), ("latitude", latitude, 90.0)] {
            if !(-limit..=limit).contains(&degrees) {
                return Err(format!(
                    "the {name} is {}, must be from -{limit} to {limit} degrees",
                    Number(degrees)
                ));
            }
        }
        if !ALTITUDES.contains(&altitude) {
            let (least, most) = (ALTITUDES.start(), ALTITUDES.end());
            let altitude = Number(altitude);
            return Err(format!("the altitude is {altitude}, must be from {least} to {most} metres"));
        }
        Ok(Self(coordinates))
    }
}
