//! A frame as a source sends it.

use serde::Serialize;
use sferic_samples::Geolocation;

/// The MessagePack map of one frame. What is `None` is left out.
///
/// The samples come last, so that a reader of a cut-off message still finds the id. The default has no
/// samples yet and no channel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FrameMessage<'a> {
    /// The frame's id, 1 to 256 printable ASCII characters.
    pub frame_id: &'a str,
    /// The source's frame counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// RFC 3339 UTC time of the first sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datetime: Option<jiff::Timestamp>,
    /// SigMF's name of how the samples are stored.
    pub datatype: &'static str,
    /// Samples per second, Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
    /// Receivers or antennas sampled together.
    pub num_channels: u32,
    /// Centre frequency, Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<f64>,
    /// Where the receiver is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geolocation: Option<&'a Geolocation>,
    /// How many frames its session will have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_size: Option<u64>,
    /// `name` or `name@version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// Time budget from arrival, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether its answer may come from the cache and go into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_enabled: Option<bool>,
    /// Interleaved I and Q, as `datatype` says.
    #[serde(with = "serde_bytes")]
    pub samples: &'a [u8],
}

impl FrameMessage<'_> {
    /// The frame in MessagePack.
    ///
    /// # Errors
    /// None that a frame can cause.
    pub fn encode(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        let mut message = Vec::with_capacity(self.samples.len() + 512);
        self.serialize(&mut rmp_serde::Serializer::new(&mut message).with_struct_map())?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_map_of_what_is_known() {
        let place = Geolocation::point(7.5, 45.0);
        let frame = FrameMessage {
            frame_id: "a1",
            seq: Some(3),
            datetime: Some("2024-01-01T00:00:00.5Z".parse().unwrap()),
            datatype: "cu8",
            sample_rate: Some(250e3),
            num_channels: 1,
            frequency: None,
            geolocation: Some(&place),
            session_size: None,
            model: None,
            timeout_ms: None,
            cache_enabled: Some(false),
            samples: &[1, 2, 3, 4],
        };
        let value = rmpv::decode::read_value(&mut frame.encode().unwrap().as_slice()).unwrap();
        let get = |key: &str| {
            value.as_map().unwrap().iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v.clone())
        };
        assert_eq!(get("samples"), Some(rmpv::Value::Binary(vec![1, 2, 3, 4])));
        assert_eq!(get("datetime"), Some("2024-01-01T00:00:00.5Z".into()));
        assert_eq!(get("sample_rate"), Some(250e3.into()));
        assert_eq!(get("frequency"), None);
        assert_eq!(get("cache_enabled"), Some(false.into()));
        assert_eq!(get("geolocation").unwrap()["type"], "Point".into());
        assert_eq!(
            get("geolocation").unwrap()["coordinates"],
            rmpv::Value::Array(vec![7.5.into(), 45.0.into()])
        );
        assert_eq!(value.as_map().unwrap().len(), 9);
    }
}
