//! Keys of the cache.

use sha2::{Digest, Sha256};

use crate::frame::{CacheKey, Content};
use crate::ports::LoadedModel;

/// Hashes everything that determines the answer: the samples and tensors, their format, and the model with
/// its features. Lengths stand before what has any, so no two frames hash the same bytes.
pub fn key_of(content: &Content, model: &dyn LoadedModel) -> CacheKey {
    let mut hash = Sha256::new();
    let length = |hash: &mut Sha256, length: usize| hash.update((length as u64).to_le_bytes());
    hash.update([u8::from(content.is_raw), u8::from(content.samples.is_some())]);
    if let Some(samples) = &content.samples {
        length(&mut hash, samples.bytes.len());
        hash.update(&samples.bytes);
        hash.update(samples.datatype.name());
        hash.update([0]);
        length(&mut hash, samples.channels);
        hash.update(samples.sample_rate.unwrap_or_default().to_le_bytes());
    }
    length(&mut hash, content.tensors.len());
    for tensor in &content.tensors {
        length(&mut hash, tensor.name.len());
        hash.update(&tensor.name);
        hash.update(tensor.dtype.name());
        hash.update([0]);
        length(&mut hash, tensor.shape.len());
        tensor.shape.iter().for_each(|&axis| length(&mut hash, axis));
        length(&mut hash, tensor.data.len());
        hash.update(&tensor.data);
    }
    hash.update(model.id().to_string());
    hash.update([0]);
    model.digests().iter().for_each(|digest| hash.update(digest));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sferic_samples::Datatype;

    use super::*;
    use crate::frame::IqSamples;
    use crate::tensor::{Dtype, InputTensor};
    use crate::testing::fake_model;

    #[test]
    fn every_part_of_a_frame_changes_the_key() {
        let samples = || IqSamples {
            bytes: Bytes::from_static(b"abcd"),
            datatype: Datatype::Ci8,
            channels: 1,
            sample_rate: Some(48e3),
        };
        let tensor = |name: &str, dtype, shape: &[usize], data: &'static [u8]| InputTensor {
            name: name.into(),
            dtype,
            shape: shape.into(),
            data: Bytes::from_static(data),
        };
        let levels = || tensor("levels", Dtype::Int8, &[2, 1], b"ab");
        let content = |samples: Option<IqSamples>, tensors: Vec<InputTensor>, is_raw| Content {
            samples,
            tensors,
            is_raw,
            ..Content::default()
        };
        let frames = [
            content(Some(samples()), Vec::new(), false),
            content(Some(samples()), Vec::new(), true),
            content(Some(IqSamples { channels: 2, ..samples() }), Vec::new(), false),
            content(Some(IqSamples { sample_rate: None, ..samples() }), Vec::new(), false),
            content(Some(samples()), vec![levels()], false),
            content(None, vec![levels()], false),
            content(None, vec![levels()], true),
            content(None, vec![tensor("level", Dtype::Int8, &[2, 1], b"ab")], false),
            content(None, vec![tensor("levels", Dtype::Uint8, &[2, 1], b"ab")], false),
            content(None, vec![tensor("levels", Dtype::Int8, &[1, 2], b"ab")], false),
            content(None, vec![tensor("levels", Dtype::Int8, &[2, 1], b"ac")], false),
            content(None, vec![levels(), levels()], false),
        ];
        let model = fake_model("m", "1");
        let keys: Vec<_> = frames.iter().map(|frame| key_of(frame, &*model)).collect();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(*key, key_of(&frames[at].clone(), &*model));
            assert!(!keys[..at].contains(key), "{:?}", frames[at]);
        }
    }
}
