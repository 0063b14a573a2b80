//! The section about the model repository.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sferic_samples::units;

use super::check::{Check, is_bucket, quoted};
use super::secrets::hide_userinfo;
use super::values::given;

/// The model repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct ModelRepository {
    /// Folder of `<name>/<version>/model.onnx`, each with its `model.toml`.
    pub repository: PathBuf,
    /// The model of a frame that names none: `name` or `name@version`.
    pub default: String,
    /// How many versions of a model stay loaded after a switch.
    pub keep_warm: usize,
    /// How many versions of a model are loaded at most.
    pub max_versions: usize,
    /// The most bytes that the files of a bundle may have together.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// Load versions that are added to the repository.
    pub watch: bool,
    /// Public keys, one of which must have signed a bundle; none: bundles need no signature.
    pub trusted_keys: Vec<String>,
    /// Where active versions and splits are kept over a restart: a file, or `kv:BUCKET`; empty: nowhere.
    pub state: String,
    /// Where models come from beside the repository.
    pub sources: Vec<ModelSource>,
    /// How much worse a canary may be.
    pub canary: Canary,
}

/// How much worse than the version beside it a canary may be before it is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Canary {
    /// How many times as many failures it may have.
    pub failures: f64,
    /// How many times as often as the other's its latency may be so many times the other's 99th percentile.
    pub latency: f64,
    /// How many times less probable it may find the truth.
    pub score: f64,
    /// The probability that one is rolled back that is not worse, however long it is watched.
    pub false_alarms: f64,
}

impl Default for Canary {
    fn default() -> Self {
        Self { failures: 2.0, latency: 2.0, score: 1.05, false_alarms: 0.05 }
    }
}

impl Canary {
    fn validate(&self, check: &mut Check) {
        let factors = [("failures", self.failures), ("latency", self.latency), ("score", self.score)];
        for (key, factor) in factors {
            check.rule(
                factor.is_finite() && factor >= 1.0,
                key,
                format_args!("is {factor}, must be at least 1"),
            );
        }
        check.rule(
            self.false_alarms > 0.0 && self.false_alarms < 1.0,
            "false_alarms",
            format_args!("is {}, must be between 0 and 1", self.false_alarms),
        );
    }
}

impl Default for ModelRepository {
    fn default() -> Self {
        Self {
            repository: "config/models".into(),
            default: "localization".to_owned(),
            keep_warm: 2,
            max_versions: 5,
            max_bytes: 4 << 30,
            watch: true,
            trusted_keys: Vec::new(),
            state: String::new(),
            sources: Vec::new(),
            canary: Canary::default(),
        }
    }
}

impl ModelRepository {
    pub(super) fn validate(&self, check: &mut Check) {
        check.section("models");
        check.rule(!self.repository.as_os_str().is_empty(), "repository", "is empty, must be a folder");
        check.rule(
            is_model(&self.default),
            "default",
            format_args!("is {}, must be a model's name, or name@version", quoted(&self.default)),
        );
        check.at_least("max_versions", self.max_versions, 1);
        check.at_least("max_bytes", self.max_bytes, 1);
        check.rule(
            self.trusted_keys.iter().all(|key| !key.trim().is_empty()),
            "trusted_keys",
            "holds an empty text, must be public keys",
        );
        let fault = format!(
            "is {}, must be a file, or kv: and a bucket of letters, digits, _ and -",
            quoted(&self.state)
        );
        check.rule(self.state.strip_prefix("kv:").is_none_or(is_bucket), "state", fault);
        self.canary.validate(check.section("models.canary"));
        for (n, source) in self.sources.iter().enumerate() {
            source.validate(check.section(format!("models.sources.{n}")));
            let is_first =
                |other: &ModelSource| given(&source.model).is_none() || other.model != source.model;
            check.rule(
                self.sources.iter().take(n).all(is_first),
                "model",
                format_args!(
                    "is {}, as of another source: one says which version serves",
                    quoted(&source.model)
                ),
            );
        }
    }
}

fn is_model(text: &str) -> bool {
    let is_name = |text: &str| !text.is_empty() && !text.contains(['@', '/', '\\', ' ']);
    let (name, version) = text.split_once('@').unwrap_or((text, "1"));
    is_name(name) && is_name(version)
}

/// A place that models are fetched from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section of keys")]
pub struct ModelSource {
    /// What it is; each kind has keys of its own.
    pub kind: SourceKind,
    /// `nats`: the object store's bucket.
    #[serde(default)]
    pub bucket: String,
    /// `mlflow`: address of the tracking server, `http://` or `https://`. May hold `user:password@`.
    #[serde(default)]
    pub url: String,
    /// `mlflow`: the registered model.
    #[serde(default)]
    pub model: String,
    /// `mlflow`: the alias of the version that is taken.
    #[serde(default)]
    pub alias: String,
    /// `mlflow`: the version that is taken, instead of an alias.
    #[serde(default)]
    pub version: String,
}

/// What models are fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// An object store of NATS JetStream.
    Nats,
    /// An MLflow model registry.
    Mlflow,
}

impl ModelSource {
    fn validate(&self, check: &mut Check) {
        let of_mlflow =
            [("url", &self.url), ("model", &self.model), ("alias", &self.alias), ("version", &self.version)];
        let (kind, others) = match self.kind {
            SourceKind::Nats => {
                check.bucket("bucket", &self.bucket);
                ("nats", &of_mlflow[..])
            }
            SourceKind::Mlflow => {
                let shown = quoted(&hide_userinfo(&self.url));
                check.web("url", &self.url, format_args!("is {shown}, must begin with http:// or https://"));
                check.rule(
                    !self.model.is_empty(),
                    "model",
                    "is empty, must be the name of a registered model",
                );
                check.rule(
                    given(&self.alias).is_some() != given(&self.version).is_some(),
                    "alias",
                    format_args!(
                        "is {} beside `version` = {}, must be one of the two",
                        quoted(&self.alias),
                        quoted(&self.version)
                    ),
                );
                ("mlflow", &[("bucket", &self.bucket)][..])
            }
        };
        for (key, value) in others {
            check.rule(
                value.is_empty(),
                key,
                format_args!("is given, but a source of kind \"{kind}\" has no such key"),
            );
        }
    }
}
