//! What a second level has to do.

use bytes::Bytes;
use futures::future::BoxFuture;
use sferic_actors::ports::SharedCacheError;

/// A store of bytes by key.
pub trait Backend: Send + Sync + 'static {
    /// The value of `key`, a hexadecimal string.
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<Bytes>, SharedCacheError>>;

    /// Stores a value with the time to live of answers.
    fn put(&self, key: String, value: Bytes) -> BoxFuture<'_, Result<(), SharedCacheError>>;
}

/// An error of a backend in words.
pub fn failed(error: impl std::fmt::Display) -> SharedCacheError {
    SharedCacheError(error.to_string())
}
