//! A Redis server, or another with its protocol.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, RedisResult, cmd};
use sferic_actors::ports::SharedCacheError;

use super::backend::{Backend, failed};

/// Timeout of a connection attempt, and maximum pause between two.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The server. It connects with the first lookup, and again after a loss.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    prefix: String,
    ttl_ms: u64,
}

impl Redis {
    /// Keys begin with `prefix` and expire after `ttl`.
    ///
    /// # Errors
    /// An address that can't be read.
    pub fn new(url: &str, prefix: &str, ttl: Duration) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(CONNECT_TIMEOUT)
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?;
        Ok(Self {
            connection,
            prefix: format!("{prefix}:"),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1),
        })
    }
}

impl Backend for Redis {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Bytes>, SharedCacheError>> {
        async move {
            let mut connection = self.connection.clone();
            let found: RedisResult<Option<Vec<u8>>> =
                cmd("GET").arg(self.prefix.clone() + &key).query_async(&mut connection).await;
            found.map(|value| value.map(Bytes::from)).map_err(failed)
        }
        .boxed()
    }

    fn put(&self, key: String, value: Bytes) -> BoxFuture<'_, Result<(), SharedCacheError>> {
        async move {
            let mut connection = self.connection.clone();
            let mut set = cmd("SET");
            set.arg(self.prefix.clone() + &key).arg(&value[..]).arg("PX").arg(self.ttl_ms);
            set.query_async::<()>(&mut connection).await.map_err(failed)
        }
        .boxed()
    }
}
