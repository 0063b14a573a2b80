//! Keys of the cache.

use sha2::{Digest, Sha256};

use crate::frame::{CacheKey, IqSamples};
use crate::ports::LoadedModel;

/// Hashes everything that determines the answer: the samples, their format, and the model with its features.
pub fn key_of(samples: &IqSamples, model: &dyn LoadedModel) -> CacheKey {
    let mut hash = Sha256::new();
    hash.update(&samples.bytes);
    hash.update(samples.datatype.name());
    hash.update([0]);
    hash.update((samples.channels as u64).to_le_bytes());
    hash.update(samples.sample_rate.unwrap_or_default().to_le_bytes());
    hash.update(model.id().to_string());
    hash.update([0]);
    model.digests().iter().for_each(|digest| hash.update(digest));
    hash.finalize().into()
}
