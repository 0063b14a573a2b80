//! The section about the operator's page.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The operator's page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Page {
    /// A PMTiles file with streets or pictures for the close view; empty: the outlines of countries alone.
    pub basemap: PathBuf,
}
