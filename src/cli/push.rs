//! `sferic models push`: puts a bundle into an object store of NATS.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use sferic_models::Bundle;
use sferic_registry::{ObjectStore, PrivateKey, PushOptions, Pushed, sign};
use sferic_settings::{Settings, SourceKind};

use super::output::Output;
use super::{ConnectArgs, Usage};
use crate::nats;

/// Puts a bundle into an object store of NATS, from where daemons with that source fetch it.
#[derive(Args, Clone, Debug)]
pub struct PushArgs {
    /// The bundle: a folder `<name>/<version>` with model.onnx and model.toml.
    folder: PathBuf,
    /// The object store; by default that of the only source of kind "nats" in models.sources. It is made
    /// where it is missing, unless jetstream.create is false.
    #[arg(long)]
    bucket: Option<String>,
    /// Signs the bundle with this private key (P-256, a PEM file without a password). The signature,
    /// model.sig, is in the object store only.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Replaces the version where the object store has another content for it.
    #[arg(long)]
    force: bool,
    /// Prints what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl PushArgs {
    /// Checks the bundle and puts it into the object store.
    ///
    /// # Errors
    /// It is no bundle, the key cannot be read, there is no server, or the version is there with another
    /// content.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.connect.settings()?;
        let bucket = match &self.bucket {
            Some(bucket) => bucket.clone(),
            None => only_bucket(&settings)?,
        };
        let folder = std::path::absolute(&self.folder)
            .with_context(|| format!("cannot find {}", self.folder.display()))?;
        let (name, version) = place(&folder)?;
        let key = self.sign.as_deref().map(PrivateKey::read).transpose().map_err(Usage)?;
        let max_bytes = settings.models.max_bytes;
        let checked = folder.clone();
        let checking = tokio::task::spawn_blocking(move || {
            Bundle::read_within(&checked, max_bytes).map_err(|error| error.to_string())?;
            key.map(|key| sign(&checked, &key, max_bytes)).transpose()
        });
        let shown = self.folder.display();
        let signature = checking.await?.map_err(|error| anyhow::anyhow!("{shown} is no bundle: {error}"))?;

        let connection = nats::connect(&settings.nats, "sferic").await?;
        let client = connection.clone();
        let store = ObjectStore::new(Arc::new(move || client.client()), &bucket);
        let create = settings.jetstream.create.then_some(settings.jetstream.replicas);
        let is_signed = signature.is_some() || folder.join(sferic_registry::SIGNATURE).is_file();
        let options = PushOptions { signature, force: self.force, create };
        let pushed = store.push((&name, &version), &folder, max_bytes, options).await?;
        let Pushed { object, digest, bytes, changed } = &pushed;
        let output = Output::plain();
        if self.json {
            output.line(json!({
                "bucket": bucket, "object": object, "digest": digest, "bytes": bytes, "signed": is_signed,
                "changed": changed,
            }))?;
        } else {
            let signed = if is_signed { "signed" } else { "not signed" };
            let done = if *changed { "is in" } else { "was already in" };
            output.line(format!("{object} {done} {bucket}: {bytes} bytes, {signed}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The bucket of the only source of kind `nats`.
fn only_bucket(settings: &Settings) -> Result<String, Usage> {
    let sources = settings.models.sources.iter().filter(|source| source.kind == SourceKind::Nats);
    match &sources.map(|source| &source.bucket).collect::<Vec<_>>()[..] {
        [bucket] => Ok((*bucket).clone()),
        [] => Err(Usage("no bucket: give --bucket, or a source of kind \"nats\" in models.sources".into())),
        several => {
            let several: Vec<_> = several.iter().map(|bucket| bucket.as_str()).collect();
            Err(Usage(format!("models.sources has the buckets {}: give --bucket", several.join(", "))))
        }
    }
}

/// The name and the version in a bundle's path.
fn place(folder: &Path) -> Result<(String, String), Usage> {
    let text = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
    let place = text(folder.parent()).zip(text(Some(folder)));
    let place = place.ok_or_else(|| format!("{} is no folder <name>/<version>", folder.display()));
    let (name, version) = place.map_err(Usage)?;
    let checked = sferic_models::check_name(&name).and_then(|()| sferic_models::check_version(&version));
    checked.map_err(|error| Usage(format!("{} must be <name>/<version>: {error}", folder.display())))?;
    Ok((name, version))
}
