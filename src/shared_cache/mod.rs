//! The second level of the cache: the encoding of answers, and the backends that store them.

mod backend;
mod codec;
mod nats_kv;
mod redis;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use backend::Backend;
use futures::FutureExt;
use futures::future::BoxFuture;
pub use nats_kv::NatsKv;
use sferic_actors::frame::CacheKey;
use sferic_actors::outcome::Answer;
use sferic_actors::ports::{Remembered, SharedCache, SharedCacheError};
use sferic_settings::{Settings, SharedKind};

pub use self::redis::Redis;

/// Answers in one backend.
struct Answers<P> {
    place: P,
    ttl: Duration,
}

/// Opens the configured second level, if any. It connects in the background; while it is unreachable, the
/// daemon works without it.
///
/// # Errors
/// An address that can't be read.
pub fn open(settings: &Settings) -> anyhow::Result<Option<Arc<dyn SharedCache>>> {
    let (shared, ttl) = (&settings.cache.shared, settings.cache.ttl);
    if !settings.cache.enabled {
        return Ok(None);
    }
    Ok(match shared.kind {
        SharedKind::None => None,
        SharedKind::NatsKv => {
            Some(Arc::new(Answers { place: NatsKv::start(&settings.nats, shared, ttl), ttl }))
        }
        SharedKind::Redis => {
            let place = Redis::new(&shared.url, &shared.bucket, ttl).context("cache.shared.url")?;
            Some(Arc::new(Answers { place, ttl }))
        }
    })
}

impl<P: Backend> SharedCache for Answers<P> {
    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<Remembered>, SharedCacheError>> {
        async move {
            let Some(value) = self.place.get(hexadecimal(&key)).await? else { return Ok(None) };
            let Remembered { answer, age } = codec::decode(&value, SystemTime::now())
                .ok_or_else(|| SharedCacheError("what it holds is no answer".into()))?;
            Ok((age < self.ttl).then_some(Remembered { answer, age }))
        }
        .boxed()
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) -> BoxFuture<'_, Result<(), SharedCacheError>> {
        async move {
            let value = codec::encode(&answer, SystemTime::now())
                .map_err(|error| SharedCacheError(error.to_string()))?;
            self.place.put(hexadecimal(&key), value.into()).await
        }
        .boxed()
    }
}

fn hexadecimal(key: &CacheKey) -> String {
    key.iter().fold(String::with_capacity(2 * key.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
        text
    })
}
