//! Maps by their text keys.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Reads a map by its text keys. Keys of other types are unknown ones: serde would take an integer for the
/// key at that place of the struct, and an array for all of them.
pub(super) fn by_text_keys<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(Map(PhantomData))
}

struct Map<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with string keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Known(map)))
    }
}

/// The entries of a map. A key that is no text is read as [`NO_KEY`].
pub(super) struct Known<A>(pub A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Known<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(Key(seed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A text that is nobody's key.
const NO_KEY: &str = "";

/// Hands a key from the deserializer below to the one who asked for it: the same wrapper around what is
/// asked, whom, and who asks.
struct Key<T>(T);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Key(deserializer))
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Key<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Key(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Key<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_str(text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.0.visit_str(text)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<V::Value, E> {
        self.0.visit_str(NO_KEY)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        self.0.visit_str(NO_KEY)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        IgnoredAny.visit_seq(seq)?;
        self.0.visit_str(NO_KEY)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        IgnoredAny.visit_map(map)?;
        self.0.visit_str(NO_KEY)
    }
}
