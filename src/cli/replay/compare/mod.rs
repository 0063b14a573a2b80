//! Whether an answer is the recorded one.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use geographiclib_rs::{Geodesic, InverseGeodesic};
use half::f16;
use serde::Serialize;
use serde_json::Value;

/// Scores and tensors agree to this, absolutely or as a share of the recorded number.
const CLOSE: f64 = 1e-5;

/// Positions agree to this share of the smaller recorded sigma.
const CLOSE_SIGMAS: f64 = 1e-4;

/// Differences that are shown one by one.
const MAX_SHOWN: usize = 20;

/// Keys that hold an answer.
const ANSWER: [&str; 8] =
    ["kind", "code", "position", "uncertainty", "ellipse", "confidence", "labels", "tensors"];

/// What was compared so far.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// Frames that were sent.
    pub frames: u64,
    /// Answers that agree.
    pub equal: u64,
    /// Of those, in every bit.
    pub bit_equal: u64,
    /// Answers that do not agree.
    pub different: u64,
    /// Frames that got no answer, though they had one.
    pub unanswered: u64,
    /// Frames whose recorded outcome says nothing of the model: none, or a failure that depends on the load.
    pub not_compared: u64,
    /// How far positions have moved, metres.
    #[serde(serialize_with = "quantiles")]
    pub moved_m: Vec<f64>,
    /// How far the score of the recorded best label has moved.
    #[serde(serialize_with = "quantiles")]
    pub score_change: Vec<f64>,
    /// Frames whose best label is another.
    pub relabelled: u64,
    /// Largest difference of tensors.
    #[serde(serialize_with = "quantiles")]
    pub tensor_change: Vec<f64>,
    /// The first differences: frame id and what differs.
    pub differences: BTreeMap<String, String>,
}

/// Median, 95 %, and the largest.
#[derive(Serialize)]
struct Quantiles {
    median: f64,
    p95: f64,
    max: f64,
}

impl Quantiles {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((sorted.len() - 1) as f64 * share).round() as usize).copied();
        if sorted.is_empty() { None } else { Some(Self { median: at(0.5)?, p95: at(0.95)?, max: at(1.0)? }) }
    }
}

fn quantiles<S: serde::Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    Quantiles::of(values).serialize(serializer)
}

impl Comparison {
    /// A frame was sent; says whether its answer is to be compared with the recorded outcome.
    pub fn sent(&mut self, recorded: &Value) -> bool {
        self.frames += 1;
        let is_answer = recorded["kind"].is_string() || recorded["retryable"] == false;
        self.not_compared += u64::from(!is_answer);
        is_answer
    }

    /// Compares an answer with the recorded one.
    pub fn answered(&mut self, frame_id: &str, recorded: &Value, answer: &Value) {
        let difference = self.difference(recorded, answer);
        match difference {
            None => {
                self.equal += 1;
                let same = |key: &str| recorded[key] == answer[key];
                self.bit_equal += u64::from(ANSWER.iter().all(|key| same(key)));
            }
            Some(difference) => {
                self.different += 1;
                if self.differences.len() < MAX_SHOWN {
                    self.differences.insert(frame_id.to_owned(), difference);
                }
            }
        }
    }

    /// Frames are not answered any more.
    pub fn unanswered(&mut self, frames: u64) {
        self.unanswered += frames;
    }

    /// Whether answers were compared, and all agree.
    pub fn is_equal(&self) -> bool {
        self.different == 0 && self.unanswered == 0 && self.equal > 0
    }

    /// What differs, with its values.
    fn difference(&mut self, recorded: &Value, answer: &Value) -> Option<String> {
        for key in ["code", "kind"] {
            let [was, is] = [recorded, answer].map(|outcome| outcome[key].as_str());
            if was != is {
                let shown = |value: Option<&str>, outcome: &Value| {
                    let other = if key == "code" { "kind" } else { "code" };
                    value.or(outcome[other].as_str()).unwrap_or("nothing").to_owned()
                };
                return Some(format!("{} → {}", shown(was, recorded), shown(is, answer)));
            }
        }
        match recorded["kind"].as_str() {
            Some("localization") => self.place(recorded, answer),
            Some("classification") => self.labels(&recorded["labels"], &answer["labels"]),
            Some("tensors") => self.tensors(&recorded["tensors"], &answer["tensors"]),
            _ => None,
        }
    }

    fn place(&mut self, recorded: &Value, answer: &Value) -> Option<String> {
        let position = |outcome: &Value| {
            Some((outcome["position"]["latitude"].as_f64()?, outcome["position"]["longitude"].as_f64()?))
        };
        let (Some(was), Some(is)) = (position(recorded), position(answer)) else {
            return Some("a position is missing".to_owned());
        };
        let metres: f64 = Geodesic::wgs84().inverse(was.0, was.1, is.0, is.1);
        self.moved_m.push(metres);
        let sigma = |outcome: &Value, key: &str| outcome["uncertainty"][key].as_f64().unwrap_or(0.0);
        let smaller = sigma(recorded, "sigma_x").min(sigma(recorded, "sigma_y"));
        if metres > CLOSE_SIGMAS * smaller {
            return Some(format!("moved by {metres:.3} m, sigma was {smaller:.3} m"));
        }
        let shape = [
            ("uncertainty", "sigma_x"),
            ("uncertainty", "sigma_y"),
            ("uncertainty", "theta"),
            ("ellipse", "semi_major"),
            ("ellipse", "semi_minor"),
            ("ellipse", "rotation"),
        ];
        let changed = shape.into_iter().find_map(|(of, key)| {
            let [was, is] = [recorded, answer].map(|outcome| outcome[of][key].as_f64());
            let agree = was.zip(is).map_or(was == is, |(was, is)| is_close(was, is, CLOSE_SIGMAS));
            let shown =
                |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            (!agree).then(|| format!("{key} {} → {}", shown(was), shown(is)))
        });
        changed.or_else(|| {
            let [was, is] = [recorded, answer].map(|outcome| outcome["confidence"].as_f64());
            let agree = was.zip(is).map_or(was == is, |(was, is)| is_close(was, is, CLOSE));
            (!agree).then(|| format!("confidence {was:?} → {is:?}"))
        })
    }

    fn labels(&mut self, recorded: &Value, answer: &Value) -> Option<String> {
        let labels = |labels: &Value| -> Vec<(String, Option<f64>)> {
            let labels = labels.as_array().map_or(&[][..], Vec::as_slice).iter();
            labels
                .map(|each| (each["label"].as_str().unwrap_or("?").to_owned(), each["score"].as_f64()))
                .collect()
        };
        let (was, is) = (labels(recorded), labels(answer));
        let (Some(top), Some(new_top)) = (was.first(), is.first()) else {
            return (was.len() != is.len()).then(|| "labels are missing".to_owned());
        };
        let score_now = |label: &str| is.iter().find(|(each, _)| each == label).map(|(_, score)| *score);
        let change = top.1.zip(score_now(&top.0).flatten()).map(|(was, is)| is - was);
        self.score_change.extend(change.map(f64::abs));
        let shown = |(label, score): &(String, Option<f64>)| match score {
            Some(score) => format!("{label} {score:.5}"),
            None => label.clone(),
        };
        // Equal scores have no order.
        let ties = top.1.zip(new_top.1).is_some_and(|(was, is)| is_close(was, is, CLOSE))
            && change.is_some_and(|change| change.abs() <= CLOSE);
        if top.0 != new_top.0 && !ties {
            self.relabelled += 1;
            return Some(format!("{} → {}", shown(top), shown(new_top)));
        }
        let agree = |(label, was): &&(String, Option<f64>)| match (was, score_now(label)) {
            (Some(was), Some(Some(is))) => is_close(*was, is, CLOSE),
            (None, Some(None)) => true,
            // The last label of a top k, where another one scores as well.
            (Some(was), None) => {
                is.last().and_then(|(_, last)| *last).is_some_and(|last| is_close(*was, last, CLOSE))
            }
            _ => false,
        };
        if was.len() != is.len() {
            return Some(format!("{} labels → {}", was.len(), is.len()));
        }
        let odd = was.iter().find(|label| !agree(label))?;
        let now =
            score_now(&odd.0).map_or_else(|| "left out".to_owned(), |score| shown(&(odd.0.clone(), score)));
        Some(format!("{} → {now}", shown(odd)))
    }

    fn tensors(&mut self, recorded: &Value, answer: &Value) -> Option<String> {
        let (Some(was), Some(is)) = (recorded.as_object(), answer.as_object()) else {
            return Some("tensors are missing".to_owned());
        };
        let mut largest = 0.0f64;
        let mut difference =
            is.keys().find(|name| !was.contains_key(*name)).map(|name| format!("{name} is new"));
        for (name, was) in was {
            let is = is.get(name).unwrap_or(&Value::Null);
            if ["shape", "dtype"].iter().any(|key| was[*key] != is[*key]) {
                let shape = |tensor: &Value| {
                    format!("{}{}", tensor["dtype"].as_str().unwrap_or("?"), tensor["shape"])
                };
                difference = Some(format!("{name}: {} → {}", shape(was), shape(is)));
                continue;
            }
            let (Some(numbers), Some(new)) = (numbers(was), numbers(is)) else {
                if was["data"] != is["data"] {
                    difference = Some(format!("{name}: other bytes"));
                }
                continue;
            };
            for (index, (was, is)) in numbers.iter().zip(&new).enumerate() {
                if was.to_bits() != is.to_bits() {
                    largest = largest.max((was - is).abs());
                }
                let agree = is_close(*was, *is, CLOSE) || was.is_nan() && is.is_nan();
                if !agree {
                    difference.get_or_insert_with(|| format!("{name}[{index}]: {was} → {is}"));
                }
            }
        }
        self.tensor_change.push(largest);
        difference
    }
}

/// Whether two numbers agree to `most`, absolutely or as a share of the first.
fn is_close(was: f64, is: f64, most: f64) -> bool {
    let is_finite = was.is_finite() && is.is_finite();
    was.to_bits() == is.to_bits() || is_finite && (was - is).abs() <= most * was.abs().max(1.0)
}

/// The numbers of a tensor; `None` of other types.
fn numbers(tensor: &Value) -> Option<Vec<f64>> {
    let data = BASE64_STANDARD.decode(tensor["data"].as_str()?).ok()?;
    fn read<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    Some(match tensor["dtype"].as_str()? {
        "float32" => read(&data, |bytes| f32::from_le_bytes(bytes).into()),
        "float64" => read(&data, f64::from_le_bytes),
        "float16" => read(&data, |bytes| f16::from_le_bytes(bytes).into()),
        _ => return None,
    })
}

/// A few lines.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, equal, bit_equal, different, unanswered, not_compared, .. } = self;
        write!(
            f,
            "{frames} frames: {equal} answers equal ({bit_equal} in every bit), {different} different, \
             {unanswered} without an answer"
        )?;
        if *not_compared > 0 {
            write!(
                f,
                ", {not_compared} not compared: their recorded outcome is none, or a failure of the load"
            )?;
        }
        for (values, what, unit) in [
            (&self.moved_m, "positions moved", " m"),
            (&self.score_change, "best scores moved", ""),
            (&self.tensor_change, "tensors moved", ""),
        ] {
            if let Some(Quantiles { median, p95, max }) = Quantiles::of(values) {
                write!(f, "\n{what} by {median:.3e}{unit} in the median, ")?;
                write!(f, "95 % by at most {p95:.3e}{unit}, the farthest by {max:.3e}{unit}")?;
            }
        }
        if !self.score_change.is_empty() {
            write!(f, "\n{} of {} best labels are others", self.relabelled, self.score_change.len())?;
        }
        for (id, difference) in &self.differences {
            write!(f, "\n  {id}: {difference}")?;
        }
        if *different > self.differences.len() as u64 {
            write!(f, "\n  and {} more", different - self.differences.len() as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
