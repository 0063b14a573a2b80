//! Where the state is kept: a file, or a key of a bucket.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Config, Operation, UpdateErrorKind};
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use sferic_settings::Jetstream;

use super::document::Document;
use crate::nats::Connection;

/// The key.
const KEY: &str = "models";

/// Time for an answer of the bucket.
const ANSWER: Duration = Duration::from_secs(5);

/// The store.
pub enum Store {
    /// A file, which is this daemon's alone.
    File(PathBuf),
    /// A bucket, which several daemons share; made where it is missing with so many replicas.
    Bucket { connection: Connection, name: String, create: Option<usize> },
}

/// What it says, and which revision of it that is.
#[derive(Debug, Default)]
pub struct Stored {
    pub document: Document,
    pub revision: u64,
}

impl Store {
    /// The store that `models.state` names.
    pub fn new(state: &str, jetstream: &Jetstream, connection: &Connection) -> Self {
        match state.strip_prefix("kv:") {
            Some(name) => Self::Bucket {
                connection: connection.clone(),
                name: name.to_owned(),
                create: jetstream.create.then_some(jetstream.replicas),
            },
            None => Self::File(state.into()),
        }
    }

    /// Whether others write to it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Bucket { .. })
    }

    /// Whether it was there, and is not any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::File(path) if !path.exists())
    }

    /// Reads it; nothing where nothing was written yet.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub async fn read(&self) -> anyhow::Result<Stored> {
        match self {
            Self::File(path) => {
                let text = match std::fs::read(path) {
                    Ok(text) => text,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Ok(Stored::default());
                    }
                    Err(error) => bail!("{}: {error}", path.display()),
                };
                let document = parse(&text).with_context(|| path.display().to_string())?;
                Ok(Stored { document, revision: 0 })
            }
            Self::Bucket { connection, name, create } => {
                let reading = async {
                    let entry = bucket(connection, name, *create).await?.entry(KEY).await?;
                    let Some(entry) = entry else { return anyhow::Ok(Stored::default()) };
                    let revision = entry.revision;
                    if entry.operation != Operation::Put {
                        return Ok(Stored { revision, ..Stored::default() });
                    }
                    Ok(Stored { document: parse(&entry.value)?, revision })
                };
                in_time(reading).await.with_context(|| format!("bucket {name}"))
            }
        }
    }

    /// Writes it over this revision; `None` where another has come before.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, document: &Document, revision: u64) -> anyhow::Result<Option<u64>> {
        let text = serde_json::to_vec_pretty(document)?;
        match self {
            Self::File(path) => {
                replace(path, &text).with_context(|| path.display().to_string())?;
                Ok(Some(0))
            }
            Self::Bucket { connection, name, create } => {
                let writing = async {
                    let bucket = bucket(connection, name, *create).await?;
                    match bucket.update(KEY, Bytes::from(text), revision).await {
                        Ok(revision) => Ok(Some(revision)),
                        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
                        Err(error) => Err(error.into()),
                    }
                };
                in_time(writing).await.with_context(|| format!("bucket {name}"))
            }
        }
    }
}

fn parse(text: &[u8]) -> anyhow::Result<Document> {
    serde_json::from_slice(text).context("it holds no state of models")
}

async fn in_time<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(ANSWER, work).await {
        Ok(done) => done,
        Err(_) => bail!("no answer within {ANSWER:?}"),
    }
}

/// The bucket, which is made where it is missing.
async fn bucket(connection: &Connection, name: &str, create: Option<usize>) -> anyhow::Result<kv::Store> {
    let jetstream = jetstream::new(connection.client());
    match jetstream.get_key_value(name).await {
        Ok(bucket) => Ok(bucket),
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
            let num_replicas = create.context("it is not there, and jetstream.create is false")?;
            let description = "which versions of models sferic daemons serve".to_owned();
            let config = Config {
                bucket: name.to_owned(),
                description,
                history: 5,
                num_replicas,
                ..Config::default()
            };
            Ok(jetstream.create_key_value(config).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces a file in one step.
fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
