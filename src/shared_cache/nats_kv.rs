//! A key-value bucket of NATS JetStream.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::jetstream::kv::{Config, Store};
use async_nats::jetstream::{self, context::KeyValueErrorKind};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_actors::ports::SharedCacheError;
use sferic_actors::task::Task;
use sferic_settings::{Nats, SharedCacheSettings, given};
use sferic_telemetry::with_causes;

use super::backend::{Backend, failed};
use crate::nats;

/// Time after a failure until the bucket is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// The bucket, once it is open. It has a connection of its own, so that answers do not queue behind frames.
#[derive(Debug)]
pub struct NatsKv {
    store: Arc<OnceLock<Store>>,
    _opening: Task,
}

impl NatsKv {
    /// Opens the bucket in the background, creates it where it is missing, and retries until it is open.
    pub fn start(nats: &Nats, shared: &SharedCacheSettings, ttl: Duration) -> Self {
        let nats = Nats { url: given(&shared.url).unwrap_or(&nats.url).to_owned(), ..nats.clone() };
        let config = Config {
            bucket: shared.bucket.clone(),
            description: "answers that sferic daemons share".to_owned(),
            max_age: ttl,
            max_bytes: i64::try_from(shared.max_bytes).unwrap_or(i64::MAX),
            history: 1,
            ..Config::default()
        };
        let store = Arc::<OnceLock<Store>>::default();
        let found = Arc::clone(&store);
        let opening = async move {
            let mut is_logged = false;
            loop {
                match open(&nats, &config).await {
                    Ok(bucket) => {
                        tracing::info!(bucket = config.bucket, "shared cache found");
                        let _ = found.set(bucket);
                        return;
                    }
                    Err(error) if !is_logged => {
                        is_logged = true;
                        tracing::warn!(
                            bucket = config.bucket,
                            error = with_causes(&error),
                            "no shared cache yet; retrying"
                        );
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        Self { store, _opening: Task::spawn(opening) }
    }

    fn store(&self) -> Result<&Store, SharedCacheError> {
        self.store.get().ok_or_else(|| failed("the bucket is not found yet"))
    }
}

async fn open(nats: &Nats, config: &Config) -> anyhow::Result<Store> {
    let connection = nats::connect(nats, "sferic-cache").await?;
    let jetstream = jetstream::new(connection.client());
    match jetstream.get_key_value(&config.bucket).await {
        Ok(store) => Ok(store),
        Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
            Ok(jetstream.create_key_value(config.clone()).await?)
        }
        Err(error) => Err(error.into()),
    }
}

impl Backend for NatsKv {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Bytes>, SharedCacheError>> {
        async move { self.store()?.get(key).await.map_err(failed) }.boxed()
    }

    fn put(&self, key: String, value: Bytes) -> BoxFuture<'_, Result<(), SharedCacheError>> {
        async move { self.store()?.put(key, value).await.map(drop).map_err(failed) }.boxed()
    }
}
