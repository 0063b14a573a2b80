//! The frames of an inference request: one for each index of its first axis.

use bytes::Bytes;
use serde::Serialize;
use serde_bytes::ByteBuf;
use sferic_models::Dtype;
use std::collections::BTreeMap;

use super::request::{InferRequest, InputTensor};

/// The input whose samples become features here, where the model has no input of that name.
const IQ: &str = "iq";

/// A frame, as it is on NATS.
#[derive(Serialize)]
struct Frame<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'a str>,
    #[serde(flatten)]
    samples: Option<Samples>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

#[derive(Serialize)]
struct Samples {
    samples: ByteBuf,
    datatype: &'static str,
    num_channels: usize,
}

#[derive(Serialize)]
struct Tensor<'a> {
    shape: &'a [usize],
    dtype: &'static str,
    data: &'a serde_bytes::Bytes,
}

/// The messages of the frames, in MessagePack. `inputs` are those of the model's ONNX file.
///
/// # Errors
/// An input is none of them; in words.
pub(super) fn messages(request: &InferRequest, model: &str, inputs: &[&str]) -> Result<Vec<Bytes>, String> {
    let is_iq = |input: &InputTensor| input.name == IQ && !inputs.contains(&IQ);
    if let Some(unknown) =
        request.inputs.iter().find(|input| !inputs.contains(&&*input.name) && !is_iq(input))
    {
        let name = sferic_wire::shortened(&unknown.name, 100);
        return Err(format!("{model} has no input {name:?}; it has {}, or give {IQ:?}", inputs.join(", ")));
    }
    let parameters = &request.parameters;
    let message = |index: usize| {
        let (mut samples, mut tensors) = (None, BTreeMap::new());
        for input in &request.inputs {
            let data = of_frame(input, index);
            if is_iq(input) {
                samples = Some(interleaved(input, data)?);
            } else {
                let (shape, dtype) = (&input.shape[..], input.dtype.name());
                tensors.insert(&*input.name, Tensor { shape, dtype, data: serde_bytes::Bytes::new(data) });
            }
        }
        let id = request.id.as_ref();
        let frame = Frame {
            model,
            frame_id: id.map(|id| if request.frames == 1 { id.clone() } else { format!("{id}.{index}") }),
            session_id: parameters.session_id.as_deref(),
            sample_rate: parameters.sample_rate,
            timeout_ms: parameters.timeout,
            priority: parameters.priority,
            samples,
            tensors,
        };
        rmp_serde::to_vec_named(&frame).map(Bytes::from).map_err(|error| error.to_string())
    };
    (0..request.frames).map(message).collect()
}

/// The data of one frame.
fn of_frame(input: &InputTensor, index: usize) -> &[u8] {
    let size = input.shape.iter().product::<usize>() * input.dtype.size();
    &input.data[index * size..(index + 1) * size]
}

/// The samples of `[C, 2, N]` or `[N, 2]`, as SigMF interleaves them.
fn interleaved(input: &InputTensor, data: &[u8]) -> Result<Samples, String> {
    let wrong = || {
        let datatype = super::tensor::datatype(input.dtype);
        format!("{IQ:?} is {datatype} [B, …] of {:?}, must be FP32 [B, C, 2, N] or [B, N, 2]", input.shape)
    };
    let (values, _) = data.as_chunks::<4>();
    let samples = match (input.dtype, &input.shape[..]) {
        (Dtype::Float32, [_, 2]) => {
            Samples { samples: ByteBuf::from(data), datatype: "cf32_le", num_channels: 1 }
        }
        (Dtype::Float32, &[channels, 2, length]) if channels > 0 => {
            let mut samples = Vec::with_capacity(data.len());
            for instant in 0..length {
                for part in 0..2 * channels {
                    samples.extend_from_slice(&values[part * length + instant]);
                }
            }
            Samples { samples: ByteBuf::from(samples), datatype: "cf32_le", num_channels: channels }
        }
        _ => return Err(wrong()),
    };
    Ok(samples)
}
