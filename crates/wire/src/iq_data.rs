//! Samples given as numbers: `[[i, q], …]`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// The numbers as `cf32_le` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IqData(pub Vec<u8>);

impl<'de> Deserialize<'de> for IqData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = IqData;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of [i, q]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<IqData, A::Error> {
        // A length in the message is a claim, so it earns only so much memory in advance.
        let mut bytes = Vec::with_capacity(8 * pairs.size_hint().unwrap_or(0).min(65_536));
        while let Some([i, q]) = pairs.next_element::<[f32; 2]>()? {
            bytes.extend(i.to_le_bytes());
            bytes.extend(q.to_le_bytes());
        }
        Ok(IqData(bytes))
    }
}
