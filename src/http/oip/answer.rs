//! The answer to an inference request: JSON, which binary tensors may follow.

use std::collections::HashMap;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sferic_models::Dtype;

use super::request::{InferRequest, JSON_LENGTH, WantedOutput};
use super::tensor::{datatype, to_json};

/// The part of a prediction that is read.
#[derive(Deserialize)]
struct Prediction<'a> {
    model: &'a str,
    model_version: &'a str,
    #[serde(borrow)]
    tensors: HashMap<&'a str, Tensor<'a>>,
}

#[derive(Deserialize)]
struct Tensor<'a> {
    shape: Vec<usize>,
    dtype: &'a str,
    #[serde(borrow)]
    data: &'a [u8],
}

/// Joins the predictions of all frames, each in MessagePack. `outputs` are those of the model, in order.
///
/// # Errors
/// There is no such output, or the frames cannot be joined; in words.
pub(super) fn join(
    request: &InferRequest,
    outputs: &[&str],
    predictions: &[impl AsRef<[u8]>],
) -> Result<Response, String> {
    let predictions = predictions.iter().map(|body| rmp_serde::from_slice::<Prediction<'_>>(body.as_ref()));
    let predictions: Vec<_> = predictions.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let first = predictions.first().ok_or("no frames")?;
    let (mut described, mut binary) = (Vec::new(), Vec::new());
    for WantedOutput { name, is_binary } in wanted(request, outputs)? {
        let (mut shape, mut dtype, mut data) = (Vec::new(), None, Vec::new());
        for prediction in &predictions {
            let tensor = prediction.tensors.get(&*name).ok_or_else(|| format!("{name:?} is no tensor"))?;
            let mut whole = tensor.shape.clone();
            if let Some(batch) = whole.first_mut() {
                *batch = predictions.len();
            }
            if dtype.is_some() && whole != shape {
                return Err(format!("{name:?} has other shapes for other frames; send each alone"));
            }
            (shape, dtype) = (whole, Dtype::named(tensor.dtype));
            data.extend_from_slice(tensor.data);
        }
        let dtype = dtype.ok_or_else(|| format!("{name:?} has a type without a name here"))?;
        let mut output = json!({"name": name, "datatype": datatype(dtype), "shape": shape});
        if is_binary {
            output["parameters"] = json!({"binary_data_size": data.len()});
            binary.append(&mut data);
        } else {
            let words = || format!("{name:?} is {}: ask for it as binary data", datatype(dtype));
            output["data"] = to_json(dtype, &data).ok_or_else(words)?;
        }
        described.push(output);
    }
    let mut answer = json!({
        "model_name": first.model,
        "model_version": first.model_version,
        "outputs": described,
    });
    if let Some(id) = &request.id {
        answer["id"] = json!(id);
    }
    Ok(written(&answer, binary, request))
}

/// What is asked for, of a model with these outputs.
fn wanted(request: &InferRequest, outputs: &[&str]) -> Result<Vec<WantedOutput>, String> {
    if request.outputs.is_empty() {
        let is_binary = request.parameters.binary_outputs;
        return Ok(outputs.iter().map(|name| WantedOutput { name: (*name).to_owned(), is_binary }).collect());
    }
    let unknown = request.outputs.iter().find(|wanted| !outputs.contains(&&*wanted.name));
    if let Some(unknown) = unknown {
        let name = sferic_wire::shortened(&unknown.name, 100);
        return Err(format!("the model has no output {name:?}; it has {}", outputs.join(", ")));
    }
    Ok(request.outputs.clone())
}

fn written(answer: &Value, mut binary: Vec<u8>, request: &InferRequest) -> Response {
    let mut body = answer.to_string().into_bytes();
    let is_binary =
        request.parameters.binary_outputs || request.outputs.iter().any(|output| output.is_binary);
    if !is_binary {
        return (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let length = HeaderValue::from(body.len());
    body.append(&mut binary);
    let content_type = HeaderValue::from_static("application/octet-stream");
    let headers = [(header::CONTENT_TYPE, content_type), (HeaderName::from_static(JSON_LENGTH), length)];
    (StatusCode::OK, headers, body).into_response()
}
