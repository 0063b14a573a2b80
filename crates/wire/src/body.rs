//! The keys of a frame.

use serde::Deserialize;
use sferic_actors::frame::Priority;

use super::binary::Binary;
use super::geolocation::Geolocation;
use super::iq_data::IqData;
use super::tensors::Tensors;
use super::values::{Text, optional_name, optional_whole};

/// A frame's keys; see the contract for their meaning.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
#[expect(missing_docs, reason = "the keys are the contract's")]
pub struct Body<'a> {
    #[serde(borrow)]
    pub samples: Option<Binary<'a>>,
    pub iq_data: Option<IqData>,
    #[serde(borrow)]
    pub tensors: Option<Tensors<'a>>,
    #[serde(borrow)]
    pub datatype: Option<Text<'a>>,
    pub sample_rate: Option<f64>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub num_channels: Option<u64>,
    pub frequency: Option<f64>,
    pub datetime: Option<String>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub seq: Option<u64>,
    pub geolocation: Option<Geolocation>,
    #[serde(borrow)]
    pub frame_id: Option<Text<'a>>,
    pub session_id: Option<String>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub session_size: Option<u64>,
    /// A float could not hold it.
    pub arrival_ns: Option<i64>,
    #[serde(borrow)]
    pub model: Option<Text<'a>>,
    pub cache_enabled: Option<bool>,
    #[serde(default, deserialize_with = "optional_whole")]
    pub timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "optional_name")]
    pub priority: Option<Priority>,
}
