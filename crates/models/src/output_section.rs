//! The `[output]` table of a bundle: the meaning of the outputs.

use serde::Deserialize;

use super::calibration::Calibration;

/// Meaning of the outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputConfig {
    /// Position of the emitter.
    Localization {
        /// Output `[B, 2]`: latitude, longitude in degrees, or metres east, north of the origin.
        position: String,
        /// With metres: their origin; `None` with degrees.
        origin: Option<LocalOrigin>,
        /// Output `[B, 2]`: sigma_x, sigma_y, or `[B, 3]` with theta, degrees.
        uncertainty: String,
        /// Units of the sigmas.
        uncertainty_units: Units,
        /// Whether the output is the sigma or its logarithm.
        uncertainty_scale: Scale,
        /// Output `[B, 1]`, 0 to 1.
        confidence: Option<String>,
        /// Output `[B, 1]`, how badly what the receivers measured agrees, and its bound.
        residual: Option<Residual>,
        /// Measured radii of its ellipses; `None`: those of a normal distribution.
        calibration: Option<Calibration>,
    },
    /// Class of the signal.
    Classification {
        /// Output `[B, K]`; or a label a frame, `[B]` or `[B, 1]`; or a sequence of maps from class to score.
        logits: String,
        /// Activation. `None`: softmax, but the scores of a map as they are, and a label has none.
        activation: Option<Activation>,
        /// Names of the `K` classes, in the order of the output.
        labels: Vec<String>,
        /// Number of labels in an answer.
        top_k: usize,
    },
    /// The raw outputs.
    Tensors,
}

/// An output that says how badly what the receivers measured agrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    /// Its name; NaN where there is no redundancy.
    pub name: String,
    /// Above it there is no answer.
    pub max: f64,
}

/// Origin of positions in metres, degrees WGS 84.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalOrigin {
    /// Degrees north, in [-90, 90].
    pub latitude: f64,
    /// Degrees east, in [-180, 180].
    pub longitude: f64,
}

/// Units of a position or of a sigma.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// Of latitude and longitude.
    Degrees,
    /// East and north.
    Metres,
}

/// How a sigma is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// The sigma itself.
    Linear,
    /// ln sigma.
    Log,
}

/// Activation that turns logits into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Exclusive classes: the scores sum to 1.
    Softmax,
    /// Independent classes.
    Sigmoid,
    /// The output holds scores already.
    None,
}

/// The table as written, with the keys of every kind. Flat, because a table tagged by `kind` would lose the
/// positions of errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputSection {
    kind: OutputKind,
    position: Option<String>,
    position_units: Option<Units>,
    origin: Option<LocalOrigin>,
    uncertainty: Option<String>,
    uncertainty_units: Option<Units>,
    uncertainty_scale: Option<Scale>,
    confidence: Option<String>,
    residual: Option<String>,
    residual_max: Option<f64>,
    calibration: Option<Calibration>,
    logits: Option<String>,
    activation: Option<Activation>,
    labels: Option<Vec<String>>,
    top_k: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutputKind {
    Localization,
    Classification,
    Tensors,
}

impl OutputSection {
    /// Checks the keys against the kind and each other.
    pub(crate) fn read(self) -> Result<OutputConfig, String> {
        self.refuse_keys_of_other_kinds()?;
        match self.kind {
            OutputKind::Localization => self.localization(),
            OutputKind::Classification => self.classification(),
            OutputKind::Tensors => Ok(OutputConfig::Tensors),
        }
    }

    fn refuse_keys_of_other_kinds(&self) -> Result<(), String> {
        let localization = [
            ("position", self.position.is_some()),
            ("position_units", self.position_units.is_some()),
            ("origin", self.origin.is_some()),
            ("uncertainty", self.uncertainty.is_some()),
            ("uncertainty_units", self.uncertainty_units.is_some()),
            ("uncertainty_scale", self.uncertainty_scale.is_some()),
            ("confidence", self.confidence.is_some()),
            ("residual", self.residual.is_some()),
            ("residual_max", self.residual_max.is_some()),
            ("calibration", self.calibration.is_some()),
        ];
        let classification = [
            ("logits", self.logits.is_some()),
            ("activation", self.activation.is_some()),
            ("labels", self.labels.is_some()),
            ("top_k", self.top_k.is_some()),
        ];
        let of = |keys: &[(&'static str, bool)], kind: OutputKind, name: &str| match keys
            .iter()
            .find(|(_, present)| *present)
        {
            Some((key, _)) if self.kind != kind => {
                Err(format!("[output] {key} is a key of kind = \"{name}\" only"))
            }
            _ => Ok(()),
        };
        of(&localization, OutputKind::Localization, "localization")?;
        of(&classification, OutputKind::Classification, "classification")
    }

    fn localization(self) -> Result<OutputConfig, String> {
        let origin = match (self.position_units.unwrap_or(Units::Degrees), self.origin) {
            (Units::Degrees, None) => None,
            (Units::Metres, Some(origin)) => Some(origin),
            (Units::Degrees, Some(_)) => {
                return Err("[output] origin stands only with position_units = \"metres\"".into());
            }
            (Units::Metres, None) => {
                return Err(
                    "[output] position_units = \"metres\" needs origin = { latitude, longitude }".into()
                );
            }
        };
        if let Some(LocalOrigin { latitude, longitude }) = origin {
            if !(-90.0..=90.0).contains(&latitude) {
                return Err(format!("[output] origin.latitude is {latitude}, must be -90 to 90 degrees"));
            }
            if !(-180.0..=180.0).contains(&longitude) {
                return Err(format!("[output] origin.longitude is {longitude}, must be -180 to 180 degrees"));
            }
        }
        self.calibration.as_ref().map_or(Ok(()), Calibration::validate)?;
        let residual = match (self.residual, self.residual_max) {
            (None, None) => None,
            (Some(name), Some(max)) if max > 0.0 && max.is_finite() => Some(Residual { name, max }),
            (Some(_), Some(max)) => return Err(format!("[output] residual_max is {max}, must be above 0")),
            (Some(_), None) => return Err("[output] residual needs residual_max".into()),
            (None, Some(_)) => return Err("[output] residual_max needs residual".into()),
        };
        Ok(OutputConfig::Localization {
            position: needed(self.position, "position", "localization")?,
            origin,
            uncertainty: needed(self.uncertainty, "uncertainty", "localization")?,
            uncertainty_units: self.uncertainty_units.unwrap_or(Units::Metres),
            uncertainty_scale: self.uncertainty_scale.unwrap_or(Scale::Linear),
            confidence: self.confidence,
            residual,
            calibration: self.calibration,
        })
    }

    fn classification(self) -> Result<OutputConfig, String> {
        let labels = needed(self.labels, "labels", "classification")?;
        if labels.is_empty() {
            return Err("[output] labels is empty".into());
        }
        if let Some(index) = (1..labels.len()).find(|&index| labels[..index].contains(&labels[index])) {
            return Err(format!("[output] labels holds \"{}\" twice", labels[index]));
        }
        let top_k = self.top_k.unwrap_or(5);
        if top_k == 0 {
            return Err("[output] top_k is 0, must be 1 or more".into());
        }
        Ok(OutputConfig::Classification {
            logits: needed(self.logits, "logits", "classification")?,
            activation: self.activation,
            labels,
            top_k,
        })
    }
}

fn needed<T>(value: Option<T>, key: &str, kind: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("[output] kind = \"{kind}\" needs {key}"))
}
