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

    /// Reads `latitude,longitude` or `latitude,longitude,altitude`, in degrees and metres, as people and maps
    /// write a place. `None` for what is no place on the Earth.
    ///
    /// ```
    /// use sferic_samples::Geolocation;
    /// let place = Geolocation::parse("45.06, 7.66, 240").unwrap();
    /// assert_eq!(place, Geolocation::Point { coordinates: vec![7.66, 45.06, 240.0] });
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        let mut coordinates = numbers.ok().filter(|numbers| numbers.len() >= 2)?;
        coordinates.swap(0, 1);
        Some(Self::Point { coordinates }).filter(Self::is_valid)
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
        for text in ["", "45", "7.66,x", "91,7", "45,181", "45,7,nan", "45,7,1,2", "45;7"] {
            assert_eq!(Geolocation::parse(text), None, "{text}");
        }
    }
}
