//! What a side answers, and whether two sides answer alike.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// The fields that every side answers with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Answer {
    /// Where the emitter is.
    pub position: Position,
    /// How well that is known.
    pub uncertainty: Uncertainty,
    /// 0 to 1.
    pub confidence: f64,
}

/// Degrees.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Position {
    pub latitude: f64,
    pub longitude: f64,
}

/// Metres, and degrees.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Uncertainty {
    pub sigma_x: f64,
    pub sigma_y: f64,
    pub theta: f64,
}

/// Whether an answer is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A prediction in MessagePack.
    MessagePack,
    /// A prediction in JSON.
    Json,
    /// So many bytes, of what they are.
    Bytes(usize),
}

impl Reading {
    /// Reads a prediction; `None` where bytes are all that is asked for.
    ///
    /// # Errors
    /// It is none; says what it is.
    pub fn read(self, bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
        let answer: Answer = match self {
            Self::MessagePack => rmp_serde::from_slice(bytes).map_err(anyhow::Error::from),
            Self::Json => serde_json::from_slice(bytes).map_err(anyhow::Error::from),
            Self::Bytes(expected) => {
                ensure!(bytes.len() == expected, "{} bytes instead of {expected}", bytes.len());
                return Ok(None);
            }
        }
        .with_context(|| format!("no prediction: {}", shown(self, bytes)))?;
        let Answer { position, uncertainty, confidence } = &answer;
        let numbers =
            [position.latitude, position.longitude, uncertainty.sigma_x, uncertainty.sigma_y, *confidence];
        ensure!(numbers.iter().all(|number| number.is_finite()), "no numbers: {answer:?}");
        Ok(Some(answer))
    }
}

fn shown(reading: Reading, bytes: &[u8]) -> String {
    let value = match reading {
        Reading::MessagePack => rmp_serde::from_slice::<serde_json::Value>(bytes).ok(),
        _ => serde_json::from_slice(bytes).ok(),
    };
    let text = value.map_or_else(|| String::from_utf8_lossy(bytes).into_owned(), |value| value.to_string());
    text.chars().take(400).collect()
}

/// How far numbers may differ, relative to the larger: the features are computed in another order.
const TOLERANCE: f64 = 1e-3;

/// Checks that two sides have done the same work. `origin` is latitude and longitude of what the model's
/// positions are counted from: metres beside it are compared, not degrees.
///
/// # Errors
/// The first difference.
pub fn agree(ours: &Answer, theirs: &Answer, origin: [f64; 2]) -> anyhow::Result<()> {
    let beside = |Position { latitude, longitude }: &Position| [latitude - origin[0], longitude - origin[1]];
    let [[north, east], [north_there, east_there]] = [&ours.position, &theirs.position].map(beside);
    let off = (north - north_there).hypot(east - east_there);
    let limit = TOLERANCE * north.hypot(east).max(north_there.hypot(east_there));
    let (a, b) = (&ours.uncertainty, &theirs.uncertainty);
    let pairs = [
        ("sigma_x", a.sigma_x, b.sigma_x),
        ("sigma_y", a.sigma_y, b.sigma_y),
        ("theta", a.theta, b.theta),
        ("confidence", ours.confidence, theirs.confidence),
    ];
    if off > limit {
        bail!("{:?} and {:?} are not the same position", ours.position, theirs.position);
    }
    for (name, a, b) in pairs {
        // Angles about zero differ by more of themselves.
        let scale = a.abs().max(b.abs()).max(if name == "theta" { 1.0 } else { 0.0 });
        ensure!((a - b).abs() <= TOLERANCE * scale, "{name} is {a} and {b}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(latitude: f64, confidence: f64) -> Answer {
        Answer {
            position: Position { latitude, longitude: 7.6 },
            uncertainty: Uncertainty { sigma_x: 1.0, sigma_y: 2.0, theta: 3.0 },
            confidence,
        }
    }

    #[test]
    fn metres_beside_the_origin_are_compared() {
        let origin = [45.0, 7.6];
        let ours = answer(45.000_001, 0.5);
        assert!(agree(&ours, &answer(45.000_001_000_5, 0.5), origin).is_ok());
        assert!(agree(&ours, &answer(45.000_001_01, 0.5), origin).is_err(), "a hundredth of its metres");
        assert!(agree(&ours, &answer(45.000_001, 0.51), origin).is_err());
        assert!(agree(&ours, &answer(45.000_001_01, 0.5), [0.0, 0.0]).is_ok(), "degrees of the answer");
    }

    #[test]
    fn what_is_no_prediction_is_named() {
        let failure = json!({"code": "overloaded", "message": "the pipeline is full"});
        let error = Reading::Json.read(failure.to_string().as_bytes()).unwrap_err();
        assert!(format!("{error:#}").contains("overloaded"), "{error:#}");
        let error = Reading::MessagePack.read(&rmp_serde::to_vec_named(&failure).unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("overloaded"), "{error:#}");
        let whole = json!({
            "position": {"latitude": 1, "longitude": 2}, "confidence": 0.5, "more": [1],
            "uncertainty": {"sigma_x": 1.0, "sigma_y": 1.0, "theta": 0.0},
        });
        assert_eq!(
            Reading::Json.read(whole.to_string().as_bytes()).unwrap(),
            Reading::MessagePack.read(&rmp_serde::to_vec_named(&whole).unwrap()).unwrap()
        );
        assert!(Reading::Bytes(3).read(b"abc").unwrap().is_none() && Reading::Bytes(3).read(b"ab").is_err());
    }
}
