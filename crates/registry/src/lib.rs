//! Bundles that come from elsewhere than the model repository's folder.
//!
//! Invariant: what is fetched is checked where it lies, in a folder of its own, before it gets its place in
//! the repository; what fails changes nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test may panic

mod archive;
mod files;
mod install;
mod keys;
mod mlflow;
mod object_store;
mod signature;

pub use files::{SIGNATURE, SOURCE};
pub use install::{Installed, Installer};
pub use keys::{PrivateKey, PublicKey};
pub use mlflow::{Mlflow, Which};
pub use object_store::{CurrentClient, ObjectStore, PushOptions, Pushed};
pub use signature::{TrustedKeys, sign};

use std::path::Path;

use futures::future::BoxFuture;

/// A version that a registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Name of the model, as in the repository.
    pub name: String,
    /// Its version, a number without leading zeros.
    pub version: String,
    /// Changes with its content.
    pub stamp: String,
    /// The registry says that this one should serve: its alias points there.
    pub is_meant: bool,
    /// The registry's other names of this version.
    pub aliases: Vec<String>,
}

/// A place that has bundles.
pub trait Registry: Send + Sync {
    /// What it is, for logs: `nats:BUCKET` or `mlflow:MODEL`; no secrets.
    fn label(&self) -> &str;

    /// What it has now.
    ///
    /// # Errors
    /// It cannot be asked, or its answer is wrong.
    fn offers(&self) -> BoxFuture<'_, Result<Vec<Offer>, RegistryError>>;

    /// Writes the files of a version into an empty folder, `max_bytes` together at most.
    ///
    /// # Errors
    /// It cannot be had, is too large, has a wrong digest or a path that leaves the folder.
    fn fetch<'a>(
        &'a self,
        offer: &'a Offer,
        folder: &'a Path,
        max_bytes: u64,
    ) -> BoxFuture<'a, Result<(), RegistryError>>;
}

/// Why a registry gives no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It does not answer; another try may help.
    #[error("{0}")]
    Unreachable(String),
    /// What it has cannot be used.
    #[error("{0}")]
    Refused(String),
}
