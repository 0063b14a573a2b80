//! The section about recordings of frames with their outcomes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sferic_recording::ring::Rule;
use sferic_samples::units;

use super::check::Check;

/// The least that a folder takes.
const LEAST: u64 = 1 << 20;

/// Recordings of frames with their outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Record {
    /// The folder; empty: nothing is recorded.
    pub folder: PathBuf,
    /// Which frames are recorded.
    pub rule: Rule,
    /// Only frames of these sources, with the wildcards of NATS; empty: of all.
    pub source: String,
    /// Only frames that this model has answered; empty: any.
    pub model: String,
    /// How large the folder's recordings may get.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            rule: Rule::All,
            source: String::new(),
            model: String::new(),
            max_bytes: 1 << 30,
        }
    }
}

impl Record {
    pub(super) fn validate(&self, check: &mut Check) {
        let shown = units::size::text(self.max_bytes);
        check.rule(self.max_bytes >= LEAST, "max_bytes", format_args!("is {shown}, must be at least 1MiB"));
        let is_token = |token: &str| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
        let is_pattern = self.source.is_empty() || self.source.split('.').all(is_token);
        let must = "must be tokens with single dots between them, `*` for one, `>` for the rest";
        check.rule(is_pattern, "source", format_args!("is {:?}, {must}", self.source));
    }
}
