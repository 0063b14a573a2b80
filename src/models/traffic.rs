//! What else than the active version gets frames: plain and synchronous.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sferic_actors::routing::{Shadow, Split};
use sferic_onnx::Versions;

/// The alias of the active version, and of the version that a split tries.
const CHAMPION: &str = "champion";
const CHALLENGER: &str = "challenger";

/// The versions of a model that a restart keeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Roles {
    /// The one that a bare name means.
    pub active: Option<String>,
    /// The one that was active before.
    pub previous: Option<String>,
}

/// A version that a registry said should serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// The version.
    pub version: String,
    /// What it was there.
    pub stamp: String,
}

/// What else than the active version gets frames, by model.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) splits: BTreeMap<String, Split>,
    pub(super) shadows: BTreeMap<String, Shadow>,
    /// How often somebody has asked for a change of a model.
    pub(super) decisions: BTreeMap<String, u64>,
    /// What registries last said should serve.
    pub(super) followed: BTreeMap<String, Followed>,
    /// The aliases of registries, with the versions that they mean.
    pub(super) aliases: BTreeMap<String, BTreeMap<String, String>>,
}

impl Traffic {
    /// The aliases of a model: what registries say, and the two that are its roles here.
    pub(super) fn aliases(&self, model: &str, versions: &Versions) -> BTreeMap<String, String> {
        let mut aliases = self.aliases.get(model).cloned().unwrap_or_default();
        let is_new = |(version, _): &(&str, f64)| versions.active.as_deref() != Some(version);
        let tried = self.splits.get(model).and_then(|split| split.shares().find(is_new));
        let tried = tried.map(|(version, _)| version.to_owned());
        for (alias, version) in [(CHAMPION, versions.active.clone()), (CHALLENGER, tried)] {
            if let Some(version) = version {
                aliases.insert(alias.to_owned(), version);
            }
        }
        aliases
    }

    /// The split and the shadow of a model, for people and programs.
    pub(super) fn view(&self, model: &str) -> (Value, Value) {
        let split = self.splits.get(model).map(|split| {
            let weights: BTreeMap<_, _> = split.shares().collect();
            json!({"key": split.key, "weights": weights})
        });
        let shadow = self.shadows.get(model);
        let shadow = shadow.map(|of| json!({"version": of.version, "share": of.share()}));
        (split.into(), shadow.into())
    }

    /// What registries call a version of a model.
    pub(super) fn names(&self, model: &str, version: &str) -> BTreeSet<&String> {
        let all = self.aliases.get(model).into_iter().flatten();
        all.filter(|(_, means)| *means == version).map(|(alias, _)| alias).collect()
    }

    /// Gives a version of a model these aliases and no others.
    pub(super) fn name(&mut self, model: &str, version: &str, aliases: &[String]) {
        let all = self.aliases.entry(model.to_owned()).or_default();
        all.retain(|_, means| means != version);
        all.extend(aliases.iter().map(|alias| (alias.clone(), version.to_owned())));
    }

    /// Whether a version of a model gets frames beside the active one.
    pub(super) fn has_role(&self, model: &str, version: &str) -> bool {
        let split = self.splits.get(model);
        split.is_some_and(|split| split.share(version) > 0.0)
            || self.shadows.get(model).is_some_and(|shadow| shadow.version == version)
    }
}
