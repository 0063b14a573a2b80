//! Which frames are recorded.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which frames are recorded, by their outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rule {
    /// Every one.
    #[default]
    All,
    /// A share from 0 to 1, chosen by the frame's id.
    Share(f64),
    /// Those that failed.
    Failures,
    /// Predictions whose confidence, or best score, is below this.
    ConfidenceBelow(f64),
    /// Predictions whose ellipse has a semi-major axis over this, metres.
    EllipseAbove(f64),
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rule: all, share=0.1, failures, confidence<0.5 or ellipse>100 (metres)")]
pub struct NoRule(String);

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite())
        };
        let rule = match text.trim() {
            "all" => Some(Self::All),
            "failures" => Some(Self::Failures),
            text => {
                let share = text.strip_prefix("share=").and_then(number).filter(|share| *share <= 1.0);
                let confidence = text.strip_prefix("confidence<").and_then(number);
                let ellipse = text.strip_prefix("ellipse>").and_then(number);
                share
                    .map(Self::Share)
                    .or(confidence.map(Self::ConfidenceBelow))
                    .or(ellipse.map(Self::EllipseAbove))
            }
        };
        rule.ok_or_else(|| NoRule(text.to_owned()))
    }
}

impl TryFrom<String> for Rule {
    type Error = NoRule;

    fn try_from(text: String) -> Result<Self, NoRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Share(share) => write!(f, "share={share}"),
            Self::Failures => f.write_str("failures"),
            Self::ConfidenceBelow(limit) => write!(f, "confidence<{limit}"),
            Self::EllipseAbove(limit) => write!(f, "ellipse>{limit}"),
        }
    }
}

impl Rule {
    /// Whether a frame of this id may be recorded at all, before its outcome is known.
    pub fn takes_id(self, frame_id: &str) -> bool {
        let Self::Share(share) = self else { return true };
        let mut hasher = DefaultHasher::new();
        frame_id.hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64 <= share && share > 0.0
    }

    /// Whether a frame of this outcome is recorded.
    pub fn takes(self, outcome: &Value) -> bool {
        match self {
            Self::All | Self::Share(_) => true,
            Self::Failures => outcome["code"].is_string(),
            Self::ConfidenceBelow(limit) => {
                let score = outcome["confidence"].as_f64().or_else(|| outcome["labels"][0]["score"].as_f64());
                score.is_some_and(|score| score < limit)
            }
            Self::EllipseAbove(limit) => {
                outcome["ellipse"]["semi_major"].as_f64().is_some_and(|metres| metres > limit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for text in ["all", "share=0.25", "failures", "confidence<0.5", "ellipse>100"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for wrong in ["", "some", "share=1.5", "share=-1", "confidence>0.5", "ellipse>far", "confidence<nan"]
        {
            let error = wrong.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("confidence<0.5"), "{error}");
        }
    }

    #[test]
    fn outcomes_are_chosen() {
        let failure = json!({"code": "overloaded"});
        let unsure =
            json!({"kind": "classification", "labels": [{"label": "am", "score": 0.4}], "confidence": null});
        let wide = json!({"kind": "localization", "confidence": 0.9, "ellipse": {"semi_major": 150.0}});
        for (rule, taken) in [
            ("all", [true, true, true]),
            ("failures", [true, false, false]),
            ("confidence<0.5", [false, true, false]),
            ("ellipse>100", [false, false, true]),
        ] {
            let rule: Rule = rule.parse().unwrap();
            assert_eq!([&failure, &unsure, &wide].map(|outcome| rule.takes(outcome)), taken, "{rule}");
        }
        let taken = |share| (0..10_000).filter(|n| Rule::Share(share).takes_id(&format!("f{n}"))).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
        assert!((2300..2700).contains(&taken(0.25)), "{}", taken(0.25));
    }
}
