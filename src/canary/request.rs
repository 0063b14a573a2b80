//! Requests of splits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use sferic_actors::routing::SplitKey;

use crate::models::requests::VersionText;
use crate::nats::ControlError;

/// How long a step of a growing split lasts where nothing is said.
const STEP: Duration = Duration::from_secs(10 * 60);

/// Frames that the canary must have answered in a step where nothing is said.
const MIN_FRAMES: u64 = 100;

/// Request of `sferic.models.split`: without `weights` it only shows, with empty ones it ends the split.
#[derive(Debug, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object of `model`, `weights`, `key`, `steps`, `for`, `min_frames`"
)]
pub struct SplitRequest {
    /// The model's name; absent: the default model.
    pub model: Option<String>,
    /// Relative shares by version.
    pub weights: Option<BTreeMap<String, f64>>,
    /// What stays with one version.
    #[serde(default)]
    pub key: SplitKey,
    /// Percentages that the one new version gets one after the other; at 100 it becomes active.
    pub steps: Option<Vec<f64>>,
    /// How long each step, or the whole split, lasts.
    #[serde(default, rename = "for", with = "humantime_serde::option")]
    pub lasts: Option<Duration>,
    /// Frames that the new version must have answered before the next step.
    pub min_frames: Option<u64>,
}

/// Request of `sferic.models.shadow`: without `version` it only shows, with null it ends the shadow.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object of `model`, `version`, `share`")]
pub struct ShadowRequest {
    /// The model's name; absent: the default model.
    pub model: Option<String>,
    /// The version that gets copies.
    #[serde(default, deserialize_with = "given")]
    pub version: Option<Option<VersionText>>,
    /// Share of the frames that are copied, 0 to 1.
    pub share: Option<f64>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>>(of: D) -> Result<Option<Option<VersionText>>, D::Error> {
    Option::deserialize(of).map(Some)
}

impl ShadowRequest {
    /// Checks it against the `active` version and those that are `loaded`. `None`: it ends the shadow.
    ///
    /// # Errors
    /// What is wrong, with what is allowed.
    pub fn wanted(&self, active: &str, loaded: &[String]) -> Result<Option<(String, f64)>, ControlError> {
        let share = self.share.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1.0) {
            return Err(ControlError::new(400, format!("`share` is {share}, must be above 0 and at most 1")));
        }
        let Some(version) = self.version.clone().flatten().map(VersionText::into_text) else {
            return Ok(None);
        };
        if version == active {
            let message = format!("version {version} is active: a shadow is another version");
            return Err(ControlError::new(409, message));
        }
        if !loaded.contains(&version) {
            return Err(not_loaded(&version, loaded));
        }
        Ok(Some((version, share)))
    }
}

/// The model that is meant: `asked`, or the default.
///
/// # Errors
/// It names a version.
pub fn name(asked: Option<&str>, default: &str) -> Result<String, ControlError> {
    let name = asked.unwrap_or(default);
    match name.contains('@') {
        false => Ok(name.to_owned()),
        true => Err(ControlError::new(400, format!("`model` is {name:?}, must be a name without a version"))),
    }
}

fn not_loaded(version: &str, loaded: &[String]) -> ControlError {
    let there = loaded.join(", ");
    ControlError::new(409, format!("version {version} is not loaded: load it first; there are {there}"))
}

/// A split that was asked for and can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// What stays with one version.
    pub key: SplitKey,
    /// The version that the others are compared with.
    pub baseline: String,
    /// The others, with their weights as asked for.
    pub canaries: Vec<(String, f64)>,
    /// The weight of the baseline.
    pub rest: f64,
    /// Percentages of the one canary; none: the weights stay.
    pub steps: Vec<f64>,
    /// How long each step lasts, or the split; `None`: until it is ended.
    #[serde(default, rename = "for", with = "humantime_serde::option")]
    pub lasts: Option<Duration>,
    /// Frames of the canary in a step.
    pub min_frames: u64,
}

impl SplitRequest {
    /// Checks it against the model's `active` version and those that are `loaded`. `None`: it ends the split.
    ///
    /// # Errors
    /// What is wrong, with what is allowed.
    pub fn wanted(&self, active: Option<&str>, loaded: &[String]) -> Result<Option<Wanted>, ControlError> {
        let wrong = |message: String| Err(ControlError::new(400, message));
        let weights = self.weights.clone().unwrap_or_default();
        if weights.is_empty() {
            return Ok(None);
        }
        for (version, weight) in &weights {
            if !(weight.is_finite() && *weight > 0.0) {
                return wrong(format!("`weights` has {weight} for version {version}, must be above 0"));
            }
            if !loaded.contains(version) {
                return Err(not_loaded(version, loaded));
            }
        }
        let steps = self.steps.clone().unwrap_or_default();
        // Also where it gets nothing: it is what a canary is rolled back to.
        let baseline = active.unwrap_or_default().to_owned();
        let rest = weights.get(&baseline).copied().unwrap_or_default();
        let canaries: Vec<_> = weights.into_iter().filter(|(version, _)| *version != baseline).collect();
        if self.lasts.is_some_and(|lasts| lasts.is_zero()) {
            return wrong("`for` is 0s, must be longer".to_owned());
        }
        let is_growing = !steps.is_empty();
        let wanted = Wanted {
            key: self.key,
            baseline,
            canaries,
            rest,
            steps,
            lasts: self.lasts.or(is_growing.then_some(STEP)),
            min_frames: self.min_frames.unwrap_or(if is_growing { MIN_FRAMES } else { 0 }),
        };
        wanted.check().map_err(|wrong| ControlError::new(400, wrong))?;
        Ok(Some(wanted))
    }
}

impl Wanted {
    /// Checks its numbers.
    ///
    /// # Errors
    /// What is wrong, with what is allowed.
    pub fn check(&self) -> Result<(), String> {
        for (version, weight) in &self.canaries {
            if !(weight.is_finite() && *weight > 0.0) {
                return Err(format!("`weights` has {weight} for version {version}, must be above 0"));
            }
            if *version == self.baseline {
                return Err(format!("version {version} is compared with itself"));
            }
        }
        if !(self.rest.is_finite() && self.rest >= 0.0) {
            return Err(format!(
                "`weights` has {} for version {}, must be above 0",
                self.rest, self.baseline
            ));
        }
        let steps = &self.steps;
        if steps.is_empty() {
            return Ok(());
        }
        let [_] = self.canaries.as_slice() else {
            let (baseline, count) = (&self.baseline, self.canaries.len());
            return Err(format!(
                "`steps` are of one version beside the active one, {baseline}; `weights` has {count}"
            ));
        };
        let is_rising = steps.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_rising || steps.iter().any(|step| !(*step > 0.0 && *step <= 100.0)) {
            return Err(format!("`steps` are {steps:?}, must be rising percentages up to 100"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted(request: Value) -> Result<Option<Wanted>, ControlError> {
        let request: SplitRequest = serde_json::from_value(request).unwrap();
        request.wanted(Some("1"), &["1".to_owned(), "2".to_owned(), "3".to_owned()])
    }

    #[test]
    fn weights_are_of_loaded_versions_and_the_active_one_is_compared_with() {
        let split = wanted(json!({"weights": {"1": 90, "2": 10}, "key": "source"})).unwrap().unwrap();
        assert_eq!((split.baseline.as_str(), split.rest, split.key), ("1", 90.0, SplitKey::Source));
        assert_eq!((split.canaries, split.lasts), (vec![("2".to_owned(), 10.0)], None));
        let split = wanted(json!({"weights": {"2": 0.2, "3": 0.8}})).unwrap().unwrap();
        assert_eq!((split.baseline.as_str(), split.rest, split.canaries.len()), ("1", 0.0, 2));
        assert_eq!(wanted(json!({"weights": {}})).unwrap(), None);
    }

    #[test]
    fn steps_are_of_one_new_version() {
        let split =
            wanted(json!({"weights": {"2": 1}, "steps": [1, 5, 25, 100], "for": "1m"})).unwrap().unwrap();
        assert_eq!((split.baseline.as_str(), split.min_frames), ("1", MIN_FRAMES));
        assert_eq!(split.lasts, Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_shadow_is_a_loaded_version_beside_the_active_one() {
        let wanted = |request: Value| {
            let request: ShadowRequest = serde_json::from_value(request).unwrap();
            request.wanted("1", &["1".to_owned(), "2".to_owned()])
        };
        assert_eq!(wanted(json!({"version": 2})).unwrap(), Some(("2".into(), 1.0)));
        assert_eq!(wanted(json!({"version": "2", "share": 0.25})).unwrap(), Some(("2".into(), 0.25)));
        assert_eq!(wanted(json!({"version": null})).unwrap(), None);
        for (request, says) in [
            (json!({"version": "1"}), "version 1 is active"),
            (json!({"version": "3"}), "version 3 is not loaded: load it first; there are 1, 2"),
            (json!({"version": "2", "share": 0}), "`share` is 0, must be above 0 and at most 1"),
            (json!({"version": "2", "share": 1.5}), "`share` is 1.5"),
        ] {
            let message = wanted(request).unwrap_err().message().to_owned();
            assert!(message.contains(says), "{message}");
        }
        let request: ShadowRequest = serde_json::from_value(json!({})).unwrap();
        assert!(request.version.is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_wrong() {
        for (request, says) in [
            (json!({"weights": {"7": 1}}), "version 7 is not loaded"),
            (json!({"weights": {"1": 1, "2": -1}}), "-1 for version 2"),
            (json!({"weights": {"2": 1, "3": 1}, "steps": [1]}), "one version beside the active one, 1"),
            (json!({"weights": {"2": 1}, "steps": [5, 1]}), "[5.0, 1.0]"),
            (json!({"weights": {"2": 1}, "steps": [150]}), "[150.0]"),
            (json!({"weights": {"2": 1}, "for": "0s"}), "0s"),
        ] {
            let error = wanted(request.clone()).unwrap_err();
            assert!(error.message().contains(says), "{request}: {}", error.message());
        }
    }
}
