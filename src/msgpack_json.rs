//! MessagePack as JSON: `bin` as standard base64, keys in their order.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use rmpv::Value;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A MessagePack value as JSON.
pub struct Json<'a>(pub &'a Value);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Nil => serializer.serialize_unit(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => match (value.as_u64(), value.as_i64()) {
                (Some(value), _) => serializer.serialize_u64(value),
                (None, value) => serializer.serialize_i64(value.unwrap_or(i64::MIN)),
            },
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::String(text) => serializer.serialize_str(&String::from_utf8_lossy(text.as_bytes())),
            Value::Binary(bytes) | Value::Ext(_, bytes) => {
                serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
            }
            Value::Array(values) => serializer.collect_seq(values.iter().map(Json)),
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    match key.as_str() {
                        Some(key) => map.serialize_entry(key, &Json(value))?,
                        None => map.serialize_entry(&Json(key).to_string(), &Json(value))?,
                    }
                }
                map.end()
            }
        }
    }
}
