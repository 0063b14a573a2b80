//! Tensors as the protocol has them: datatypes, and numbers in JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sferic_models::Dtype;

/// The protocol's name of a type.
pub(super) fn datatype(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "BOOL",
        Dtype::Uint8 => "UINT8",
        Dtype::Uint16 => "UINT16",
        Dtype::Uint32 => "UINT32",
        Dtype::Uint64 => "UINT64",
        Dtype::Int8 => "INT8",
        Dtype::Int16 => "INT16",
        Dtype::Int32 => "INT32",
        Dtype::Int64 => "INT64",
        Dtype::Float16 => "FP16",
        Dtype::Bfloat16 => "BF16",
        Dtype::Float32 => "FP32",
        Dtype::Float64 => "FP64",
    }
}

/// The type with this name.
pub(super) fn dtype(name: &str) -> Option<Dtype> {
    Dtype::ALL.into_iter().find(|dtype| datatype(*dtype) == name)
}

/// An element as JSON has it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scalar {
    Bool(bool),
    Int(i64),
    /// Over the largest `i64`.
    Large(u64),
    Float(f64),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Large(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
        }
    }
}

/// The elements of a tensor in JSON, nested or flat, in C order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Elements(Vec<Scalar>);

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut elements = Vec::new();
        deserializer.deserialize_seq(Adding(&mut elements))?;
        Ok(Self(elements))
    }
}

/// Adds what it reads to the elements.
struct Adding<'a>(&'a mut Vec<Scalar>);

impl<'de> DeserializeSeed<'de> for Adding<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Adding<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, truth values, or arrays of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Adding(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.push(Scalar::Bool(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.push(Scalar::Int(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.push(i64::try_from(value).map_or(Scalar::Large(value), Scalar::Int));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push(Scalar::Float(value));
        Ok(())
    }
}

impl Elements {
    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Little-endian bytes of this type.
    ///
    /// # Errors
    /// An element is no value of the type, or JSON has none of the type; in words.
    pub(super) fn to_bytes(&self, dtype: Dtype) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(self.0.len() * dtype.size());
        for (index, scalar) in self.0.iter().enumerate() {
            append(*scalar, dtype, &mut bytes).ok_or_else(|| {
                let name = datatype(dtype);
                match dtype {
                    Dtype::Float16 | Dtype::Bfloat16 => format!("{name} goes as binary data, not in JSON"),
                    _ => format!("element {index} is {scalar}, which is no {name}"),
                }
            })?;
        }
        Ok(bytes)
    }
}

fn append(scalar: Scalar, dtype: Dtype, bytes: &mut Vec<u8>) -> Option<()> {
    let float = match scalar {
        Scalar::Float(value) => Some(value),
        Scalar::Int(value) => Some(value as f64),
        Scalar::Large(value) => Some(value as f64),
        Scalar::Bool(_) => None,
    };
    let integer = match scalar {
        Scalar::Int(value) => Some(i128::from(value)),
        Scalar::Large(value) => Some(i128::from(value)),
        Scalar::Bool(_) | Scalar::Float(_) => None,
    };
    macro_rules! put {
        (integer $type:ty) => {
            put!(<$type>::try_from(integer?).ok()?)
        };
        ($value:expr) => {
            bytes.extend_from_slice(&$value.to_le_bytes())
        };
    }
    match dtype {
        Dtype::Float32 => {
            let value = float? as f32;
            put!(value.is_finite().then_some(value)?);
        }
        Dtype::Float64 => put!(float?),
        Dtype::Int8 => put!(integer i8),
        Dtype::Int16 => put!(integer i16),
        Dtype::Int32 => put!(integer i32),
        Dtype::Int64 => put!(integer i64),
        Dtype::Uint8 => put!(integer u8),
        Dtype::Uint16 => put!(integer u16),
        Dtype::Uint32 => put!(integer u32),
        Dtype::Uint64 => put!(integer u64),
        Dtype::Bool => bytes.push(match scalar {
            Scalar::Bool(value) => value.into(),
            Scalar::Int(value @ 0..=1) => value as u8,
            Scalar::Int(_) | Scalar::Large(_) | Scalar::Float(_) => return None,
        }),
        Dtype::Float16 | Dtype::Bfloat16 => return None,
    }
    Some(())
}

/// The elements of little-endian bytes as JSON; `None` of a type that JSON has none of. NaN is null.
pub(super) fn to_json(dtype: Dtype, bytes: &[u8]) -> Option<Value> {
    fn each<const N: usize, T: Serialize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Value {
        let elements: Vec<T> = bytes.as_chunks().0.iter().copied().map(read).collect();
        // Numbers cannot fail.
        serde_json::to_value(elements).unwrap_or_default()
    }
    Some(match dtype {
        Dtype::Bool => each(bytes, |[byte]| byte != 0),
        Dtype::Uint8 => each(bytes, u8::from_le_bytes),
        Dtype::Uint16 => each(bytes, u16::from_le_bytes),
        Dtype::Uint32 => each(bytes, u32::from_le_bytes),
        Dtype::Uint64 => each(bytes, u64::from_le_bytes),
        Dtype::Int8 => each(bytes, i8::from_le_bytes),
        Dtype::Int16 => each(bytes, i16::from_le_bytes),
        Dtype::Int32 => each(bytes, i32::from_le_bytes),
        Dtype::Int64 => each(bytes, i64::from_le_bytes),
        Dtype::Float32 => each(bytes, f32::from_le_bytes),
        Dtype::Float64 => each(bytes, f64::from_le_bytes),
        Dtype::Float16 | Dtype::Bfloat16 => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, dtype: Dtype) -> Result<Vec<u8>, String> {
        serde_json::from_str::<Elements>(text).map_err(|error| error.to_string())?.to_bytes(dtype)
    }

    #[test]
    fn numbers_are_read_nested_and_flat_and_written_again() {
        for (text, dtype, json) in [
            ("[1, 2.5, -3e2]", Dtype::Float32, "[1.0,2.5,-300.0]"),
            ("[[[1], [2]], [[3], [4]]]", Dtype::Float64, "[1.0,2.0,3.0,4.0]"),
            ("[[-9223372036854775808], [9223372036854775807]]", Dtype::Int64, ""),
            ("[18446744073709551615]", Dtype::Uint64, ""),
            ("[true, 0, 1, false]", Dtype::Bool, "[true,false,true,false]"),
            ("[-128, 127]", Dtype::Int8, "[-128,127]"),
            ("[]", Dtype::Int16, "[]"),
        ] {
            let bytes = read(text, dtype).unwrap();
            let written = to_json(dtype, &bytes).unwrap().to_string();
            let flat = text.replace([' ', '[', ']'], "");
            let expected = if json.is_empty() { format!("[{flat}]") } else { json.to_owned() };
            assert_eq!(written, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_type_is_named() {
        for (text, dtype, words) in [
            ("[1, 300]", Dtype::Uint8, "element 1 is 300, which is no UINT8"),
            ("[1.5]", Dtype::Int32, "element 0 is 1.5, which is no INT32"),
            ("[true]", Dtype::Float32, "element 0 is true, which is no FP32"),
            ("[1e39]", Dtype::Float32, "which is no FP32"),
            ("[2]", Dtype::Bool, "element 0 is 2, which is no BOOL"),
            ("[1]", Dtype::Float16, "FP16 goes as binary data"),
            ("[\"a\"]", Dtype::Float32, "expected numbers"),
            ("[null]", Dtype::Float32, "expected numbers"),
            ("3", Dtype::Float32, "expected numbers"),
        ] {
            let error = read(text, dtype).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn each_type_has_one_name() {
        for dtype_of in Dtype::ALL {
            assert_eq!(dtype(datatype(dtype_of)), Some(dtype_of));
        }
        assert_eq!(dtype("BYTES"), None);
    }
}
