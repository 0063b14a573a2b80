//! Tensors in a frame: a map from name to `{shape, dtype, data}`.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::binary::Binary;
use super::keys::by_text_keys;
use super::values::{Text, Whole};

/// Axes of a tensor.
const MAX_AXES: usize = 32;

/// Bytes of a tensor's name.
const MAX_NAME: usize = 256;

/// The tensors of a frame, sorted by name; no name twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tensors<'a>(pub Vec<(Text<'a>, TensorBody<'a>)>);

/// One tensor, as the message has it: nothing is checked but the types of the keys.
#[derive(Debug, PartialEq, Eq)]
pub struct TensorBody<'a> {
    /// Without the batch axis.
    pub shape: Vec<u64>,
    /// NumPy's name of the element type.
    pub dtype: Text<'a>,
    /// Little-endian, in C order.
    pub data: Binary<'a>,
}

/// The keys of a tensor.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Keys<'a> {
    shape: Vec<Whole>,
    #[serde(borrow)]
    dtype: Text<'a>,
    #[serde(borrow)]
    data: Binary<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Tensors<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByName)
    }
}

struct ByName;

impl<'de> Visitor<'de> for ByName {
    type Value = Tensors<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from name to {shape, dtype, data}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors<'de>, A::Error> {
        let mut tensors: Vec<(Text<'de>, TensorBody<'de>)> = Vec::new();
        while let Some((name, tensor)) = map.next_entry::<Text<'de>, _>()? {
            let bytes = name.as_str().len();
            if bytes > MAX_NAME {
                return Err(de::Error::custom(format_args!("a name has {bytes} bytes, may have {MAX_NAME}")));
            }
            tensors.push((name, tensor));
        }
        tensors.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        match tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(de::Error::custom(format_args!("{:?} is given twice", pair[0].0.as_str()))),
            None => Ok(Tensors(tensors)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TensorBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Keys { shape, dtype, data } = by_text_keys(deserializer)?;
        if shape.len() > MAX_AXES {
            let axes = shape.len();
            return Err(de::Error::custom(format_args!("the shape has {axes} axes, may have {MAX_AXES}")));
        }
        Ok(Self { shape: shape.into_iter().map(|Whole(axis)| axis).collect(), dtype, data })
    }
}

#[cfg(test)]
mod tests {
    use rmpv::Value;
    use sferic_actors::frame::Encoding;

    use super::super::decode::read;

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    fn frame(tensors: Value) -> Vec<u8> {
        let mut message = Vec::new();
        rmpv::encode::write_value(&mut message, &map(&[("tensors", tensors)])).unwrap();
        message
    }

    fn tensor(shape: Value) -> Value {
        map(&[("shape", shape), ("dtype", "int8".into()), ("data", Value::Binary(vec![1, 2]))])
    }

    fn list(values: &[Value]) -> Value {
        Value::Array(values.to_vec())
    }

    fn refused(tensors: Value) -> String {
        read(&frame(tensors), Encoding::MessagePack).unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_the_same_in_both_encodings_and_sorted() {
        let two = map(&[
            ("b", tensor(list(&[Value::from(2)]))),
            ("a", tensor(list(&[Value::from(1), Value::from(2.0)]))),
        ]);
        let message = frame(two);
        let body = read(&message, Encoding::MessagePack).unwrap();
        let json = r#"{"tensors": {"b": {"shape": [2], "dtype": "int8", "data": "AQI="},
                       "a": {"dtype": "int8", "more": 1, "shape": [1, 2], "data": "AQI="}}}"#;
        assert_eq!(read(json.as_bytes(), Encoding::Json).unwrap().tensors, body.tensors);
        let tensors = body.tensors.unwrap().0;
        let shapes: Vec<_> = tensors.iter().map(|(name, body)| (name.as_str(), &body.shape[..])).collect();
        assert_eq!(shapes, [("a", &[1, 2][..]), ("b", &[2])]);
        let data = &tensors[0].1.data.0;
        assert!(message.as_ptr_range().contains(&data.as_ptr()), "borrowed from the message");
        assert_eq!(read(&frame(Value::Nil), Encoding::MessagePack).unwrap().tensors, None);
    }

    #[test]
    fn what_is_no_tensor_is_reported_with_its_place() {
        let shape = |shape: Value| map(&[("levels", tensor(shape))]);
        for (refused, parts) in [
            (refused(list(&[Value::from(1)])), &["tensors", "a map"][..]),
            (refused(map(&[("levels", Value::from(3))])), &["tensors.levels", "3"]),
            (refused(map(&[("levels", list(&[Value::from(1)]))])), &["tensors.levels", "a map"]),
            (refused(map(&[("levels", map(&[("shape", list(&[]))]))])), &["missing field `dtype`"]),
            (refused(shape(list(&[Value::from(-1)]))), &["tensors.levels", "-1", "whole number from 0"]),
            (refused(shape(list(&[Value::from(1.5)]))), &["1.5", "whole number from 0"]),
            (refused(shape("2".into())), &["tensors.levels"]),
            (refused(Value::Map(vec![(Value::from(1), tensor(list(&[Value::from(2)])))])), &["tensors"]),
        ] {
            parts.iter().for_each(|part| assert!(refused.contains(part), "{part:?} is not in {refused:?}"));
        }
        let twice = tensor(list(&[Value::from(2)]));
        let twice = Value::Map(vec![("x".into(), twice.clone()), ("x".into(), twice)]);
        assert!(refused(twice).contains("\"x\" is given twice"));
        let text = r#"{"tensors": {"x": {"shape": [1], "dtype": "int8", "data": "!"}}}"#;
        let error = read(text.as_bytes(), Encoding::Json).unwrap_err().to_string();
        assert!(error.contains("tensors.x") && error.contains("base64"), "{error}");
    }
}
