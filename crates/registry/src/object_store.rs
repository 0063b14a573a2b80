//! Bundles in an object store of NATS JetStream: an object `<name>/<version>` is a tar of a bundle's files.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, context::GetStreamErrorKind, object_store, object_store::ObjectInfo};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use sferic_models::{check_name, check_version};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::archive::{max_archive, pack, unpack};
use super::files::{Hashing, too_large};
use super::{Offer, Registry, RegistryError};

/// An object that does not go on for so long is given up. The library waits for chunks that are missing.
const STALLED: Duration = Duration::from_secs(10);

/// Gives the current client of a connection.
pub type CurrentClient = Arc<dyn Fn() -> Client + Send + Sync>;

/// A bucket of bundles.
pub struct ObjectStore {
    client: CurrentClient,
    bucket: String,
    label: String,
    /// What the last look found.
    seen: Mutex<Option<(State, Vec<Offer>)>>,
}

/// Changes with every object that is put or deleted: when the stream was made, its last sequence and the
/// number of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(i128, u64, u64);

/// What a push does where it is not as the defaults have it.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The text of a `model.sig` for the one in the folder.
    pub signature: Option<Vec<u8>>,
    /// Replaces an object with another content.
    pub force: bool,
    /// Makes the bucket where it is missing, with so many replicas.
    pub create: Option<usize>,
}

/// What a push has found and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name of the object.
    pub object: String,
    /// Its digest, as the object store has it.
    pub digest: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it was put; false: it was there already.
    pub changed: bool,
}

impl ObjectStore {
    /// The bucket on a connection.
    pub fn new(client: CurrentClient, bucket: &str) -> Self {
        let label = format!("nats:{bucket}");
        Self { client, bucket: bucket.to_owned(), label, seen: Mutex::default() }
    }

    fn context(&self) -> jetstream::Context {
        jetstream::new((self.client)())
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> RegistryError {
        RegistryError::Unreachable(format!("the object store {}: {error}", self.bucket))
    }

    /// The state of the bucket's stream; `None` where there is no bucket.
    async fn state(&self) -> Result<Option<State>, RegistryError> {
        match self.context().get_stream(format!("OBJ_{}", self.bucket)).await {
            Ok(stream) => {
                let info = stream.cached_info();
                let made = info.created.unix_timestamp_nanos();
                Ok(Some(State(made, info.state.last_sequence, info.state.messages)))
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(self.unreachable(error)),
            },
        }
    }

    async fn store(&self) -> Result<object_store::ObjectStore, RegistryError> {
        self.context().get_object_store(&self.bucket).await.map_err(|error| self.unreachable(error))
    }

    /// The info of an object; `None` where there is none.
    async fn info(
        &self,
        store: &object_store::ObjectStore,
        object: &str,
    ) -> Result<Option<ObjectInfo>, RegistryError> {
        match store.info(object).await {
            Ok(info) if info.deleted => Ok(None),
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind() == object_store::InfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreachable(error)),
        }
    }

    async fn list(&self) -> Result<Vec<Offer>, RegistryError> {
        let Some(state) = self.state().await? else {
            return Err(RegistryError::Unreachable(format!("there is no object store {}", self.bucket)));
        };
        let seen = |state| {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.as_ref().filter(|(then, _)| *then == state).map(|(_, offers)| offers.clone())
        };
        // A list makes a consumer, which would be much for every look.
        if let Some(offers) = seen(state) {
            return Ok(offers);
        }
        let store = self.store().await?;
        let listing = store.list().await.map_err(|error| self.unreachable(error))?;
        let infos: Vec<_> = listing.try_collect().await.map_err(|error| self.unreachable(error))?;
        let offers: Vec<_> = infos.iter().filter_map(offered).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((state, offers.clone()));
        Ok(offers)
    }

    async fn get(&self, offer: &Offer, folder: &Path, max_bytes: u64) -> Result<(), RegistryError> {
        let (store, object) = (self.store().await?, object_name(offer));
        let info = self.info(&store, &object).await?;
        let gone = || RegistryError::Unreachable(format!("{object} is not in {} any more", self.bucket));
        let info = info.ok_or_else(gone)?;
        if stamp(&info).is_none_or(|stamp| stamp != offer.stamp) {
            return Err(RegistryError::Unreachable(format!("{object} is being replaced")));
        }
        let bound = max_archive(max_bytes);
        if info.size as u64 > bound {
            return Err(RegistryError::Refused(too_large(info.size as u64, max_bytes)));
        }
        let mut reader = store.get(&object).await.map_err(|error| self.unreachable(error))?;
        let unwritable = |error| RegistryError::Unreachable(format!("can't write {object}: {error}"));
        // On the disk of the repository, which has room for it.
        let file = tempfile::tempfile_in(folder.parent().unwrap_or(folder)).map_err(unwritable)?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; 128 << 10]);
        loop {
            let reading = tokio::time::timeout(STALLED, reader.read(&mut buffer));
            let read = reading.await.map_err(|_| self.unreachable(format!("{object} does not come")))?;
            let read = read.map_err(|error| match error.kind() {
                // So the library names a wrong digest.
                std::io::ErrorKind::InvalidData => RegistryError::Refused(format!("{object}: {error}")),
                _ => self.unreachable(error),
            })?;
            bytes += read as u64;
            // The object may have more bytes than its info says.
            if bytes > bound {
                return Err(RegistryError::Refused(too_large(bytes, max_bytes)));
            }
            if read == 0 {
                break;
            }
            digest.update(&buffer[..read]);
            file.write_all(&buffer[..read]).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        let got = digest_text(digest);
        if got != offer.stamp {
            let stated = &offer.stamp;
            return Err(RegistryError::Refused(format!("{object} has the digest {got}, {stated} is stated")));
        }
        let (file, folder) = (file.into_std().await, folder.to_owned());
        let unpacking = tokio::task::spawn_blocking(move || unpack(file, &folder, max_bytes));
        unpacking.await.unwrap_or_else(|error| Err(self.unreachable(error)))
    }

    /// Puts the bundle in `folder` into the bucket as `<name>/<version>`.
    ///
    /// # Errors
    /// The name or the version is none, the folder cannot be read or is too large, there is no bucket, or the
    /// version is there with another content.
    pub async fn push(
        &self,
        (name, version): (&str, &str),
        folder: &Path,
        max_bytes: u64,
        options: PushOptions,
    ) -> Result<Pushed, RegistryError> {
        check_name(name).and_then(|()| check_version(version)).map_err(RegistryError::Refused)?;
        let PushOptions { signature, force, create } = options;
        let folder = folder.to_owned();
        let packing = tokio::task::spawn_blocking(move || packed(&folder, signature.as_deref(), max_bytes));
        let packed = packing.await.unwrap_or_else(|error| Err(format!("packing it panicked: {error}")));
        let (archive, digest) = packed.map_err(RegistryError::Refused)?;
        let bytes = archive.metadata().map(|file| file.len()).unwrap_or_default();
        let object = format!("{name}/{version}");
        let store = match (self.state().await?, create) {
            (Some(_), _) => self.store().await?,
            (None, None) => {
                return Err(RegistryError::Unreachable(format!("there is no object store {}", self.bucket)));
            }
            (None, Some(num_replicas)) => {
                let (bucket, description) = (self.bucket.clone(), Some("models for sferic".to_owned()));
                let config = object_store::Config { bucket, description, num_replicas, ..Default::default() };
                let made = self.context().create_object_store(config).await;
                made.map_err(|error| self.unreachable(error))?
            }
        };
        if let Some(there) = self.info(&store, &object).await? {
            if there.digest.as_ref() == Some(&digest) {
                return Ok(Pushed { object, digest, bytes, changed: false });
            }
            if !force {
                let bucket = &self.bucket;
                return Err(RegistryError::Refused(format!(
                    "{object} is in {bucket} with another content: push it as another version, or force it"
                )));
            }
        }
        let mut archive = tokio::fs::File::from_std(archive);
        let put = store.put(object.as_str(), &mut archive).await.map_err(|error| self.unreachable(error))?;
        if put.digest.as_ref() != Some(&digest) {
            return Err(RegistryError::Refused(format!("{object} was not stored as it was packed")));
        }
        Ok(Pushed { object, digest, bytes, changed: true })
    }
}

impl Registry for ObjectStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn offers(&self) -> BoxFuture<'_, Result<Vec<Offer>, RegistryError>> {
        self.list().boxed()
    }

    fn fetch<'a>(
        &'a self,
        offer: &'a Offer,
        folder: &'a Path,
        max_bytes: u64,
    ) -> BoxFuture<'a, Result<(), RegistryError>> {
        self.get(offer, folder, max_bytes).boxed()
    }
}

/// Packs a bundle into a file without a name; with its digest.
fn packed(folder: &Path, signature: Option<&[u8]>, max_bytes: u64) -> Result<(File, String), String> {
    let failed = |error| format!("can't pack {}: {error}", folder.display());
    let mut file = tempfile::tempfile().map_err(failed)?;
    let mut digest = Sha256::new();
    pack(folder, signature, max_bytes, Both(&file, Hashing(&mut digest)))?;
    file.rewind().map_err(failed)?;
    Ok((file, digest_text(digest)))
}

/// Writes to a file and a digest.
struct Both<'a>(&'a File, Hashing<'a>);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.write_all(&bytes[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A digest as object stores state it.
fn digest_text(digest: Sha256) -> String {
    format!("SHA-256={}", URL_SAFE.encode(digest.finalize()))
}

fn object_name(offer: &Offer) -> String {
    format!("{}/{}", offer.name, offer.version)
}

/// An object as an offer; `None` for what is no version of a model, which others may keep in the bucket.
fn offered(info: &ObjectInfo) -> Option<Offer> {
    let (name, version) = info.name.split_once('/')?;
    check_name(name).and_then(|()| check_version(version)).ok()?;
    let (name, version, stamp) = (name.to_owned(), version.to_owned(), stamp(info)?);
    Some(Offer { name, version, stamp, is_meant: false, aliases: Vec::new() })
}

/// What the digest of an object is stated to be; `None` where it has none, as a link to another object.
fn stamp(info: &ObjectInfo) -> Option<String> {
    let is_link = info.options.as_ref().is_some_and(|options| options.link.is_some());
    info.digest.clone().filter(|_| !info.deleted && !is_link)
}
