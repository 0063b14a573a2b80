//! Where a receiver is.

use serde::{Deserialize, Serialize};

/// A GeoJSON Point: `[longitude, latitude, altitude?]`, degrees WGS 84 and metres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Geolocation {
    /// The only geometry SigMF allows here.
    Point {
        /// Longitude, latitude and, where given, altitude.
        coordinates: Vec<f64>,
    },
}

impl Geolocation {
    /// A place in degrees.
    pub fn point(longitude: f64, latitude: f64) -> Self {
        Self::Point { coordinates: vec![longitude, latitude] }
    }

    /// Whether it is a place on the Earth.
    pub fn is_valid(&self) -> bool {
        let Self::Point { coordinates } = self;
        match coordinates.as_slice() {
            [longitude, latitude, altitude @ ..] => {
                longitude.abs() <= 180.0
                    && latitude.abs() <= 90.0
                    && altitude.len() <= 1
                    && altitude.iter().all(|x| x.is_finite())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_on_the_earth() {
        assert!(Geolocation::point(99.0, 46.0).is_valid());
        assert!(!Geolocation::point(46.0, 99.0).is_valid());
        assert!(!Geolocation::Point { coordinates: vec![1.0] }.is_valid());
    }
}
