//! The values inside a message, by where they are: nothing is decoded or copied.

use std::borrow::Cow;

use rmp::Marker;
use rmp::decode::{read_array_len, read_map_len, read_str_from_slice};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sferic_actors::frame::Encoding;

use super::values::Text;

/// A value as it stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) encoding: Encoding,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Map,
    Array,
    Other,
}

impl<'a> Value<'a> {
    /// The first value of a message, and what follows it. `None` where it is cut off or broken.
    pub(super) fn first(message: &'a [u8], encoding: Encoding) -> Option<(Self, &'a [u8])> {
        let (bytes, rest) = match encoding {
            Encoding::MessagePack => messagepack(message)?,
            Encoding::Json => json::<IgnoredAny>(message).map(|(_, bytes, rest)| (bytes, rest))?,
        };
        Some((Self { bytes, encoding }, rest))
    }

    pub(super) fn shape(self) -> Shape {
        match (self.encoding, self.bytes.first()) {
            (Encoding::Json, Some(b'{')) | (Encoding::MessagePack, Some(0x80..=0x8f | 0xde | 0xdf)) => {
                Shape::Map
            }
            (Encoding::Json, Some(b'[')) | (Encoding::MessagePack, Some(0x90..=0x9f | 0xdc | 0xdd)) => {
                Shape::Array
            }
            _ => Shape::Other,
        }
    }

    /// Visits the entries of a map; a key that is no text is `None`. Gives them as they stand in the message;
    /// `None` where this is no map.
    pub(super) fn entries(self, mut each: impl FnMut(Option<Cow<'a, str>>, Self)) -> Option<Content<'a>> {
        let encoding = self.encoding;
        let mut rest = self.bytes;
        let mut count = 0;
        match encoding {
            Encoding::MessagePack => {
                let length = read_map_len(&mut rest).ok()?;
                let bytes = rest;
                for _ in 0..length {
                    let (key, after) = messagepack(rest)?;
                    let (value, after) = Self::first(after, encoding)?;
                    each(read_str_from_slice(key).ok().map(|(key, _)| key.into()), value);
                    rest = after;
                }
                Some(Content { bytes, count: length })
            }
            Encoding::Json => {
                let bytes = rest.trim_ascii_start().strip_prefix(b"{")?;
                rest = bytes.trim_ascii_start();
                while !rest.starts_with(b"}") {
                    let (Text(key), _, after) =
                        json(if count == 0 { rest } else { rest.strip_prefix(b",")? })?;
                    let after = after.trim_ascii_start().strip_prefix(b":")?;
                    let (value, after) = Self::first(after, encoding)?;
                    each(Some(key), value);
                    (rest, count) = (after.trim_ascii_start(), count + 1);
                }
                Some(Content { bytes, count })
            }
        }
    }

    /// Visits the elements of an array; `None` where it is none.
    pub(super) fn elements(self, mut each: impl FnMut(Self)) -> Option<()> {
        let encoding = self.encoding;
        let mut rest = self.bytes;
        match encoding {
            Encoding::MessagePack => {
                for _ in 0..read_array_len(&mut rest).ok()? {
                    let (element, after) = Self::first(rest, encoding)?;
                    each(element);
                    rest = after;
                }
            }
            Encoding::Json => {
                rest = rest.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
                let mut is_first = true;
                while !rest.starts_with(b"]") {
                    let (element, after) =
                        Self::first(if is_first { rest } else { rest.strip_prefix(b",")? }, encoding)?;
                    each(element);
                    (rest, is_first) = (after.trim_ascii_start(), false);
                }
            }
        }
        Some(())
    }

    /// The text, where it is one.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self.encoding {
            Encoding::MessagePack => read_str_from_slice(self.bytes).ok().map(|(text, _)| text.into()),
            Encoding::Json => json(self.bytes).map(|(Text(text), ..)| text),
        }
    }

    /// Whether it is true, where it is true or false.
    pub(super) fn boolean(self) -> Option<bool> {
        match (self.encoding, self.bytes) {
            (Encoding::MessagePack, [0xc3]) | (Encoding::Json, b"true") => Some(true),
            (Encoding::MessagePack, [0xc2]) | (Encoding::Json, b"false") => Some(false),
            _ => None,
        }
    }

    pub(super) fn is_nil(self) -> bool {
        match self.encoding {
            Encoding::MessagePack => self.bytes == [0xc0],
            Encoding::Json => self.bytes == b"null",
        }
    }
}

/// The entries of a map as they stand in the message, to its end, and how many they are.
pub(super) struct Content<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) count: u32,
}

/// The first JSON value: what it says, its bytes, and the bytes after it.
fn json<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Option<(T, &'a [u8], &'a [u8])> {
    let message = message.trim_ascii_start();
    let mut values = serde_json::Deserializer::from_slice(message).into_iter::<T>();
    let value = values.next()?.ok()?;
    let (bytes, rest) = message.split_at(values.byte_offset());
    Some((value, bytes, rest))
}

/// The bytes of the first MessagePack value, and those after it. However deep it is, it takes no stack.
fn messagepack(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    // A length is a claim; what is not there ends the message.
    let mut pending = 1u64;
    while pending > 0 {
        pending -= 1;
        let marker = Marker::from_u8(*message.get(at)?);
        at += 1;
        let mut number = |width: usize| {
            let digits = message.get(at..at + width)?;
            at += width;
            Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
        };
        let (skipped, inside) = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(length) => (length.into(), 0),
            Marker::Str8 | Marker::Bin8 => (number(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (number(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (number(4)?, 0),
            // With the type of the extension.
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (number(1)? + 1, 0),
            Marker::Ext16 => (number(2)? + 1, 0),
            Marker::Ext32 => (number(4)? + 1, 0),
            Marker::FixArray(length) => (0, length.into()),
            Marker::Array16 => (0, number(2)?),
            Marker::Array32 => (0, number(4)?),
            Marker::FixMap(length) => (0, 2 * u64::from(length)),
            Marker::Map16 => (0, 2 * number(2)?),
            Marker::Map32 => (0, 2 * number(4)?),
            Marker::Reserved => return None,
        };
        at = at.checked_add(usize::try_from(skipped).ok()?).filter(|at| *at <= message.len())?;
        pending += inside;
    }
    Some(message.split_at(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            Just(rmpv::Value::Nil),
            any::<bool>().prop_map(rmpv::Value::from),
            any::<i64>().prop_map(rmpv::Value::from),
            any::<u64>().prop_map(rmpv::Value::from),
            any::<f32>().prop_map(rmpv::Value::from),
            any::<f64>().prop_map(rmpv::Value::from),
            ".{0,40}".prop_map(rmpv::Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::Binary),
            (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, bytes)| rmpv::Value::Ext(kind, bytes)),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(rmpv::Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..10).prop_map(rmpv::Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_messagepack_value_ends_where_its_reader_ends(value in value(), more in any::<[u8; 3]>()) {
            let mut message = Vec::new();
            rmpv::encode::write_value(&mut message, &value).unwrap();
            let length = message.len();
            message.extend(more);
            let (first, rest) = messagepack(&message).unwrap();
            prop_assert_eq!((first.len(), rest), (length, &more[..]));
            for cut in 0..length {
                prop_assert_eq!(messagepack(&message[..cut]), None);
            }
        }

        #[test]
        fn any_bytes_are_split_as_the_reader_reads_them(
            message in proptest::collection::vec(any::<u8>(), 0..64)
                // A byte that is never used; the other reader takes it for nil.
                .prop_filter("0xc1", |message| !message.contains(&0xc1)),
        ) {
            let mut rest = message.as_slice();
            let read = rmpv::decode::read_value_ref(&mut rest);
            if read.is_ok() {
                prop_assert_eq!(messagepack(&message).map(|(_, rest)| rest), Some(rest));
            }
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = [vec![0x91; 1 << 20], vec![0xc0]].concat();
        assert_eq!(messagepack(&deep).unwrap().0.len(), deep.len());
        assert_eq!(messagepack(&deep[..1 << 20]), None);
        assert_eq!(messagepack(&[0xdf, 0xff, 0xff, 0xff, 0xff]), None, "a claim of four billion entries");
    }
}
