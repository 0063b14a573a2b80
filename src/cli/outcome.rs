//! Outcomes as received, for printing: every key in its order.

use std::fmt;

use anyhow::Context;
use rmpv::Value;

use crate::msgpack_json::Json;

/// A prediction or a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(Value);

impl Outcome {
    /// Reads a message, which is MessagePack unless its `Content-Type` says JSON.
    ///
    /// # Errors
    /// It is neither, or no map with the `kind` of a prediction or the `code` of a failure.
    pub fn decode(message: &async_nats::Message) -> anyhow::Result<Self> {
        let content_type = message.headers.as_ref().and_then(|headers| headers.get("Content-Type"));
        let is_json = content_type.is_some_and(|value| value.as_str().starts_with("application/json"));
        let value: Value = if is_json {
            serde_json::from_slice(&message.payload).context("is no JSON")?
        } else {
            rmpv::decode::read_value(&mut &message.payload[..]).context("is no MessagePack")?
        };
        anyhow::ensure!(value.is_map(), "is no map");
        let is_outcome = ["kind", "code"].iter().any(|key| get(&value, key).is_some_and(Value::is_str));
        anyhow::ensure!(is_outcome, "has neither `kind` nor `code`");
        Ok(Self(value))
    }

    /// The value under a key; `None` where it is missing or nil.
    pub fn get(&self, key: &str) -> Option<&Value> {
        get(&self.0, key)
    }

    /// A number under a path of keys.
    pub fn number(&self, path: &[&str]) -> Option<f64> {
        path.iter().try_fold(&self.0, |value, key| get(value, key))?.as_f64()
    }

    /// The value under a path of keys with points between them. `label` and `score` are those of the best
    /// label.
    pub fn at(&self, path: &str) -> Option<&Value> {
        if let "label" | "score" = path {
            return get(self.get("labels")?.as_array()?.first()?, path);
        }
        path.split('.').try_fold(&self.0, |value, key| get(value, key))
    }

    /// The failure's code; `None` for a prediction.
    pub fn code(&self) -> Option<&str> {
        self.get("code")?.as_str()
    }

    /// The keys and values, in the order in which they came.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.as_map().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str()?, value)))
    }

    /// The JSON object: `bin` values in standard base64, keys in their order.
    pub fn json(&self) -> String {
        serde_json::to_string(&Json(&self.0)).unwrap_or_default()
    }

    fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or("?")
    }

    fn fmt_position(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [latitude, longitude] =
            ["latitude", "longitude"].map(|key| self.number(&["position", key]).unwrap_or(f64::NAN));
        write!(f, "{latitude:.6}, {longitude:.6}")?;
        if let [Some(major), Some(minor), Some(rotation)] =
            ["semi_major", "semi_minor", "rotation"].map(|key| self.number(&["ellipse", key]))
        {
            write!(f, " ± {major:.0} × {minor:.0} m at {rotation:.0}°")?;
        }
        if let Some(interval) = self.number(&["uncertainty", "confidence_interval"]) {
            write!(f, " ({:.0} %)", 100.0 * interval)?;
        }
        self.number(&["confidence"]).map_or(Ok(()), |confidence| write!(f, ", confidence {confidence:.2}"))
    }

    fn fmt_answer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.get("position").is_some() {
            return self.fmt_position(f);
        }
        if let Some(labels) = self.get("labels").and_then(Value::as_array) {
            let label = |label: &Value| {
                let name = get(label, "label").and_then(Value::as_str).unwrap_or("?").to_owned();
                get(label, "score")
                    .and_then(Value::as_f64)
                    .map_or_else(|| name.clone(), |score| format!("{name} {score:.3}"))
            };
            return write!(f, "{}", labels.iter().take(3).map(label).collect::<Vec<_>>().join(", "));
        }
        let tensors = self.get("tensors").and_then(Value::as_map).map_or(&[][..], Vec::as_slice);
        let tensor = |(name, tensor): &(Value, Value)| {
            let shape = get(tensor, "shape").map(|shape| Json(shape).to_string()).unwrap_or_default();
            format!("{}{shape}", name.as_str().unwrap_or("?"))
        };
        write!(f, "tensors {}", tensors.iter().map(tensor).collect::<Vec<_>>().join(", "))
    }
}

/// The acknowledgement of a stream, or why it refuses the message: every request to a subject stored in a
/// stream gets one, beside the answer.
pub fn acknowledgement(message: &async_nats::Message) -> Option<Result<(), String>> {
    let answer: serde_json::Value = serde_json::from_slice(&message.payload).ok()?;
    if let Some(error) = answer.get("error") {
        let reason = error["description"].as_str().map_or_else(|| error.to_string(), str::to_owned);
        return Some(Err(reason));
    }
    (answer["stream"].is_string() && answer["seq"].is_u64()).then_some(Ok(()))
}

/// One readable line.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.text("source"))?;
        match self.get("seq").and_then(Value::as_u64) {
            Some(seq) => write!(f, "#{seq}")?,
            None => write!(f, "{}", self.text("frame_id"))?,
        }
        if let Some(code) = self.code() {
            return write!(f, "  failed, {code}: {}", self.text("message"));
        }
        write!(f, "  ")?;
        self.fmt_answer(f)?;
        write!(f, "  {}@{}", self.text("model"), self.text("model_version"))?;
        if let Some(milliseconds) = self.number(&["inference_time_ms"]) {
            write!(f, "  {milliseconds:.1} ms")?;
        }
        let cached = self.get("_cache_hit").and_then(Value::as_bool).unwrap_or(false);
        f.write_str(if cached { " (cached)" } else { "" })
    }
}

fn get<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    let (_, value) = map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key))?;
    (!value.is_nil()).then_some(value)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An outcome from JSON text.
    pub fn outcome(json: &str) -> Outcome {
        Outcome(serde_json::from_str(json).unwrap())
    }

    /// An outcome that cannot be written in JSON.
    pub fn made(value: Value) -> Outcome {
        Outcome(value)
    }

    /// A localization near Turin.
    pub const LOCALIZATION: &str = concat!(
        r#"{"frame_id":"a1","source":"north.rx2","session_id":null,"seq":12,"datetime":null,"#,
        r#""frequency":868300000.0,"#,
        r#""kind":"localization","position":{"latitude":45.01,"longitude":7.62},"#,
        r#""uncertainty":{"sigma_x":100.0,"sigma_y":60.0,"theta":0.0,"confidence_interval":0.68},"#,
        r#""ellipse":{"semi_major":151.0,"semi_minor":90.6,"rotation":0.0,"area":42979.0},"#,
        r#""confidence":null,"model":"localization","model_version":"1","inference_time_ms":3.25,"#,
        r#""_cache_hit":true}"#
    );

    fn message(payload: &[u8], content_type: Option<&str>) -> async_nats::Message {
        async_nats::Message {
            subject: "s".into(),
            reply: None,
            payload: payload.to_vec().into(),
            headers: content_type.map(|value| {
                async_nats::HeaderMap::from_iter([("Content-Type".parse().unwrap(), value.into())])
            }),
            status: None,
            description: None,
            length: payload.len(),
        }
    }

    #[test]
    fn json_keeps_keys_order_and_kinds() {
        assert_eq!(outcome(LOCALIZATION).json(), LOCALIZATION);
        let value = Value::Map(vec![
            ("z".into(), Value::Binary(vec![255, 254, 1])),
            ("a".into(), Value::F64(f64::NAN)),
            ("n".into(), (-5).into()),
            (7.into(), Value::F32(0.1)),
        ]);
        assert_eq!(Outcome(value).json(), r#"{"z":"//4B","a":null,"n":-5,"7":0.1}"#);
    }

    #[test]
    fn lines_have_the_important_values() {
        assert_eq!(
            outcome(LOCALIZATION).to_string(),
            "north.rx2 #12  45.010000, 7.620000 ± 151 × 91 m at 0° (68 %)  localization@1  3.2 ms (cached)"
        );
        let labels = r#"{"source":"t.rx","frame_id":"f",
            "labels":[{"label":"ook","score":0.93},{"label":"noise","score":0.07}],
            "model":"modulation","model_version":"2","inference_time_ms":1.0}"#;
        assert_eq!(outcome(labels).to_string(), "t.rx f  ook 0.930, noise 0.070  modulation@2  1.0 ms");
        let tensors = r#"{"source":"t","seq":1,"model":"m","model_version":"1",
            "tensors":{"y":{"shape":[1,8],"dtype":"float32","data":""}}}"#;
        assert_eq!(outcome(tensors).to_string(), "t #1  tensors y[1,8]  m@1");
        let failure = r#"{"frame_id":"f","source":"t","seq":3,"code":"overloaded",
            "message":"256 frames in flight, limit 256"}"#;
        assert_eq!(outcome(failure).to_string(), "t #3  failed, overloaded: 256 frames in flight, limit 256");
        assert_eq!(outcome(failure).code(), Some("overloaded"));
        assert_eq!(outcome(LOCALIZATION).code(), None);
    }

    #[test]
    fn both_encodings_are_read() {
        let mut packed = Vec::new();
        rmpv::encode::write_value(&mut packed, &outcome(LOCALIZATION).0).unwrap();
        for message in [message(&packed, None), message(LOCALIZATION.as_bytes(), Some("application/json"))] {
            assert_eq!(Outcome::decode(&message).unwrap(), outcome(LOCALIZATION));
        }
        for message in [message(&[0xc1], None), message(&[1], None), message(b"{", Some("application/json"))]
        {
            Outcome::decode(&message).unwrap_err();
        }
    }

    #[test]
    fn a_map_is_an_outcome_by_its_kind_or_code() {
        let decode = |json: &str| Outcome::decode(&message(json.as_bytes(), Some("application/json")));
        for good in [r#"{"kind":"tensors"}"#, r#"{"code":"overloaded"}"#] {
            decode(good).unwrap();
        }
        for other in
            ["{}", r#"{"frame_id":"f","iq_data":[[0,1]]}"#, r#"{"code":404}"#, r#"{"kind":null}"#, "[]"]
        {
            let error = decode(other).unwrap_err().to_string();
            assert!(error.contains("neither `kind` nor `code`") || other == "[]", "{error}");
        }
    }

    #[test]
    fn the_acknowledgement_of_a_stream_is_no_outcome() {
        for (payload, is_one) in [
            (r#"{"stream":"KEPT","seq":7}"#, true),
            (r#"{"stream":"KEPT","domain":"d","seq":7,"duplicate":true}"#, true),
            (r#"{"error":{"code":503},"stream":"KEPT","seq":0}"#, true),
            (r#"{"seq":7,"kind":"tensors"}"#, false),
            ("", false),
        ] {
            assert_eq!(acknowledgement(&message(payload.as_bytes(), None)).is_some(), is_one, "{payload}");
        }
        let full =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"F"}"#;
        let refused = Some(Err("maximum bytes exceeded".to_owned()));
        assert_eq!(acknowledgement(&message(full.as_bytes(), None)), refused);
    }
}
