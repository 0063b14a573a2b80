//! Encoding of an answer: a tag with the version of the format, the time at which the model gave it, and the
//! answer in MessagePack.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sferic_actors::outcome::{Answer, Label, Localization, NamedTensor};
use sferic_actors::ports::Remembered;
use sferic_models::Dtype;

/// Changes with the format.
const TAG: &[u8; 4] = b"sfA1";

#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    Localization(Localization),
    Classification(#[serde(borrow)] Vec<(Cow<'a, str>, Option<f64>)>),
    Tensors(#[serde(borrow)] Vec<StoredTensor<'a>>),
}

#[derive(Serialize, Deserialize)]
struct StoredTensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Cow<'a, [usize]>,
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    #[serde(borrow, with = "serde_bytes")]
    data: Cow<'a, [u8]>,
}

/// Encodes an answer given at `made_at`.
pub(super) fn encode(answer: &Answer, made_at: SystemTime) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let stored = match answer {
        Answer::Localization(place) => Stored::Localization(*place),
        Answer::Classification(labels) => Stored::Classification(
            labels.iter().map(|label| (Cow::Borrowed(&*label.label), label.score)).collect(),
        ),
        Answer::Tensors(tensors) => Stored::Tensors(tensors.iter().map(StoredTensor::from).collect()),
    };
    let mut bytes = TAG.to_vec();
    let made_at = made_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    bytes.extend(u64::try_from(made_at).unwrap_or(u64::MAX).to_le_bytes());
    rmp_serde::encode::write(&mut bytes, &stored)?;
    Ok(bytes)
}

/// Decodes an answer; `None` for anything else. Its names are not interned yet.
pub(super) fn decode(bytes: &[u8], now: SystemTime) -> Option<Remembered> {
    let (made_at, stored) = bytes.strip_prefix(TAG)?.split_first_chunk()?;
    let made_at = UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_le_bytes(*made_at)))?;
    let answer = match rmp_serde::from_slice(stored).ok()? {
        Stored::Localization(place) => Answer::Localization(place),
        Stored::Classification(labels) => Answer::Classification(
            labels.into_iter().map(|(label, score)| Label { label: label.into(), score }).collect(),
        ),
        Stored::Tensors(tensors) => {
            Answer::Tensors(tensors.into_iter().map(StoredTensor::tensor).collect::<Option<_>>()?)
        }
    };
    // The clock of another machine may be ahead.
    Some(Remembered { answer, age: now.duration_since(made_at).unwrap_or_default() })
}

impl<'a> From<&'a NamedTensor> for StoredTensor<'a> {
    fn from(tensor: &'a NamedTensor) -> Self {
        Self {
            name: Cow::Borrowed(&tensor.name),
            shape: Cow::Borrowed(&tensor.shape),
            dtype: Cow::Borrowed(tensor.dtype),
            data: Cow::Borrowed(&tensor.data),
        }
    }
}

impl StoredTensor<'_> {
    /// `None` where type, shape and size do not match.
    fn tensor(self) -> Option<NamedTensor> {
        let dtype = Dtype::named(&self.dtype)?;
        let size = self.shape.iter().try_fold(dtype.size(), |size, &length| size.checked_mul(length))?;
        let fits = self.shape.first() == Some(&1) && self.data.len() == size;
        fits.then(|| NamedTensor {
            name: self.name.into(),
            shape: self.shape.into_owned(),
            dtype: dtype.name(),
            data: self.data.into_owned(),
        })
    }
}
