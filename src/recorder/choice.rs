//! Which frames are recorded.

use serde_json::Value;
use sferic_recording::ring::Rule;

use crate::source_pattern::matches;

/// Frames that are played again are not recorded again.
const REPLAYED: &str = "replay.";

/// Whether a source is that of frames which are played again.
pub fn is_replayed(source: &str) -> bool {
    source.starts_with(REPLAYED)
}

/// Which frames are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// By outcome.
    pub rule: Rule,
    /// Of these sources alone, with the wildcards of NATS.
    pub source: Option<String>,
    /// Of this model alone.
    pub model: Option<String>,
}

impl Choice {
    /// Whether frames of this source may be recorded.
    pub fn takes_source(&self, source: &str) -> bool {
        !is_replayed(source) && self.source.as_deref().is_none_or(|pattern| matches(pattern, source))
    }

    /// Whether a frame of this outcome is recorded, as far as the outcome alone decides it.
    pub fn takes(&self, outcome: &Value) -> bool {
        let is_of_model = self.model.as_deref().is_none_or(|model| outcome["model"] == model);
        is_of_model && self.rule.takes(outcome)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_are_chosen_as_nats_does() {
        for (pattern, source, taken) in [
            (None, "north.rx2", true),
            (None, "replay.north.rx2", false),
            (Some("north.>"), "north.rx2", true),
            (Some("north.>"), "north", false),
            (Some("*.rx2"), "north.rx2", true),
            (Some("*.rx2"), "north.rx2.a", false),
            (Some("north"), "south", false),
            (Some(">"), "south", true),
        ] {
            let choice = Choice { source: pattern.map(str::to_owned), ..Choice::default() };
            assert_eq!(choice.takes_source(source), taken, "{pattern:?} {source}");
        }
    }

    #[test]
    fn outcomes_are_chosen_by_model_and_rule() {
        let choice = Choice { rule: Rule::Failures, model: Some("m".to_owned()), ..Choice::default() };
        assert!(choice.takes(&json!({"model": "m", "code": "internal"})));
        assert!(!choice.takes(&json!({"code": "internal"})));
        assert!(!choice.takes(&json!({"model": "m", "kind": "tensors"})));
    }
}
