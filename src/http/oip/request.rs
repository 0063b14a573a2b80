//! An inference request: JSON, which binary tensors may follow.

use std::collections::HashSet;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use sferic_models::Dtype;
use sferic_wire::{MAX_BATCH, shortened};

use super::tensor::{Elements, dtype};

/// Says how long the JSON of a body is which binary tensors follow.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";

/// Axes of a tensor.
const MAX_AXES: usize = 32;

/// A request.
#[derive(Debug)]
pub(super) struct InferRequest {
    /// The id of its frame; of several it is the beginning.
    pub(super) id: Option<String>,
    pub(super) parameters: Parameters,
    /// The tensors, of one length along their first axis.
    pub(super) inputs: Vec<InputTensor>,
    /// How many frames it has.
    pub(super) frames: usize,
    /// What it asks for; nothing means every output.
    pub(super) outputs: Vec<WantedOutput>,
}

/// A tensor.
#[derive(Debug)]
pub(super) struct InputTensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Without the first axis, which counts the frames.
    pub(super) shape: Vec<usize>,
    /// Little-endian, in C order, of all frames.
    pub(super) data: Bytes,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedOutput {
    pub(super) name: String,
    pub(super) is_binary: bool,
}

/// Parameters of a request that mean something here.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) sample_rate: Option<f64>,
    pub(super) session_id: Option<String>,
    pub(super) source: Option<String>,
    /// Milliseconds.
    pub(super) timeout: Option<u64>,
    pub(super) priority: Option<&'static str>,
    /// Whether outputs are binary that say nothing of it.
    pub(super) binary_outputs: bool,
}

#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<InputSection>,
    #[serde(default)]
    outputs: Vec<OutputSection>,
}

#[derive(Deserialize)]
struct InputSection {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Elements>,
}

#[derive(Deserialize)]
struct OutputSection {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Reads a request.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<InferRequest, String> {
    let length = match headers.get(JSON_LENGTH) {
        None => body.len(),
        Some(length) => {
            let text = String::from_utf8_lossy(length.as_bytes());
            let length = text.trim().parse::<usize>().ok();
            length.filter(|length| *length <= body.len()).ok_or_else(|| {
                let shown = shortened(&text, 40);
                format!("Inference-Header-Content-Length is {shown:?}, the body has {} bytes", body.len())
            })?
        }
    };
    let (json, mut binary) = (&body[..length], body.slice(length..));
    let body: Body = serde_json::from_slice(json).map_err(|error| format!("the JSON: {error}"))?;
    let inputs = body.inputs.into_iter().map(|section| section.read(&mut binary));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    if !binary.is_empty() {
        return Err(format!("{} bytes are left after the last input", binary.len()));
    }
    let frames = frames(&inputs)?;
    let parameters = Parameters::read(&body.parameters)?;
    let outputs = body.outputs.into_iter().map(|section| section.read(parameters.binary_outputs));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let mut names = HashSet::with_capacity(outputs.len());
    if let Some(twice) = outputs.iter().find(|output| !names.insert(&output.name)) {
        return Err(format!("the output {:?} is asked for twice", shortened(&twice.name, 100)));
    }
    let inputs = inputs.into_iter().map(|(_, tensor)| tensor).collect();
    Ok(InferRequest { id: body.id.filter(|id| !id.is_empty()), parameters, inputs, frames, outputs })
}

/// The length of the first axis of all.
fn frames(inputs: &[(usize, InputTensor)]) -> Result<usize, String> {
    let (frames, first) = inputs.first().ok_or("the request has no inputs")?;
    let mut names = HashSet::with_capacity(inputs.len());
    for (length, input) in inputs {
        let name = shortened(&input.name, 100);
        if length != frames {
            let first = shortened(&first.name, 100);
            return Err(format!(
                "the first axis of {name:?} is {length}, that of {first:?} is {frames}, must be the same"
            ));
        }
        if !names.insert(&input.name) {
            return Err(format!("the input {name:?} is there twice"));
        }
    }
    if !(1..=MAX_BATCH).contains(frames) {
        return Err(format!("the first axis, the batch, is {frames}, must be 1 to {MAX_BATCH}"));
    }
    Ok(*frames)
}

impl InputSection {
    /// The length of the first axis, and the tensor; takes its part of the binary data.
    fn read(self, binary: &mut Bytes) -> Result<(usize, InputTensor), String> {
        let Self { name, shape, datatype, parameters, data } = self;
        let wrong = |what: String| format!("the input {:?}: {what}", shortened(&name, 100));
        refuse_shared_memory(&parameters).map_err(wrong)?;
        let dtype = dtype(&datatype).ok_or_else(|| {
            wrong(format!("the datatype is {:?}, must be a number or BOOL", shortened(&datatype, 40)))
        })?;
        if shape.len() > MAX_AXES {
            return Err(wrong(format!("the shape has {} axes, may have {MAX_AXES}", shape.len())));
        }
        let axes: Option<Vec<usize>> = shape.iter().map(|axis| usize::try_from(*axis).ok()).collect();
        let elements =
            axes.as_ref().and_then(|axes| axes.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis)));
        let size = elements.and_then(|elements| elements.checked_mul(dtype.size()));
        let (Some(axes), Some(elements), Some(size)) = (axes, elements, size) else {
            return Err(wrong(format!("the shape {shape:?} is too large")));
        };
        let Some((frames, shape)) = axes.split_first() else {
            return Err(wrong("the shape is empty, must begin with the batch".to_owned()));
        };
        let data = match (data, parameters.get("binary_data_size")) {
            (Some(data), None) if data.len() == elements => data.to_bytes(dtype).map_err(wrong)?.into(),
            (Some(data), None) => {
                return Err(wrong(format!("{} elements, the shape {axes:?} has {elements}", data.len())));
            }
            (None, Some(length)) if length.as_u64() != Some(size as u64) => {
                let length = length.to_string();
                let length = shortened(&length, 40);
                return Err(wrong(format!(
                    "binary_data_size is {length}, the shape {axes:?} of {datatype} has {size}"
                )));
            }
            (None, Some(_)) if binary.len() < size => {
                return Err(wrong(format!("{size} bytes of binary data, only {} are left", binary.len())));
            }
            (None, Some(_)) => binary.split_to(size),
            (Some(_), Some(_)) => return Err(wrong("it has both data and binary_data_size".to_owned())),
            (None, None) => return Err(wrong("it has neither data nor binary_data_size".to_owned())),
        };
        Ok((*frames, InputTensor { dtype, shape: shape.to_vec(), data, name }))
    }
}

impl OutputSection {
    fn read(self, is_binary: bool) -> Result<WantedOutput, String> {
        let Self { name, parameters } = self;
        let wrong = |what: String| format!("the output {:?}: {what}", shortened(&name, 100));
        refuse_shared_memory(&parameters).map_err(wrong)?;
        if parameters.get("classification").is_some_and(|classes| *classes != 0) {
            return Err(wrong("classification is not made here; ask for the output itself".to_owned()));
        }
        let is_binary = match parameters.get("binary_data") {
            None => is_binary,
            Some(given) => {
                given.as_bool().ok_or_else(|| wrong("binary_data must be a boolean".to_owned()))?
            }
        };
        Ok(WantedOutput { name, is_binary })
    }
}

fn refuse_shared_memory(parameters: &Map<String, Value>) -> Result<(), String> {
    match parameters.contains_key("shared_memory_region") {
        true => Err("shared memory is not taken".to_owned()),
        false => Ok(()),
    }
}

impl Parameters {
    fn read(given: &Map<String, Value>) -> Result<Self, String> {
        let wrong = |key: &str, must: &str| {
            let shown = given.get(key).map(ToString::to_string).unwrap_or_default();
            format!("the parameter {key} is {}, must be {must}", shortened(&shown, 100))
        };
        let text = |key: &str| match given.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(key, "text")),
        };
        let whole = |key: &str| match given.get(key) {
            None => Ok(None),
            // Some clients write it as text, or with a fraction of 0.
            Some(value) => {
                let float = value.as_f64().filter(|value| value.fract() == 0.0 && *value >= 0.0);
                let whole = value
                    .as_u64()
                    .or_else(|| value.as_str()?.parse().ok())
                    .or(float.map(|value| value as u64));
                whole.map(Some).ok_or_else(|| wrong(key, "a whole number"))
            }
        };
        let sample_rate = match given.get("sample_rate") {
            None => None,
            Some(rate) => Some(rate.as_f64().ok_or_else(|| wrong("sample_rate", "a number of Hz"))?),
        };
        // 0 is the server's own.
        let timeout = whole("timeout")?.filter(|timeout| *timeout > 0);
        let priority = match whole("priority")?.unwrap_or_default() {
            0 => None,
            1 => Some("critical"),
            2 => Some("high"),
            3 => Some("normal"),
            4 => Some("low"),
            _ => return Err(wrong("priority", "1 to 4, or 0 for the normal one")),
        };
        let binary_outputs = match given.get("binary_data_output") {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("binary_data_output", "a boolean"))?,
        };
        Ok(Self {
            sample_rate,
            session_id: text("session_id")?,
            source: text("source")?,
            timeout: timeout.map(|micros| micros.div_ceil(1000)),
            priority,
            binary_outputs,
        })
    }
}
