//! The tensors of a frame, checked by themselves.

use std::borrow::Cow;

use bytes::Bytes;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::tensor::{Dtype, InputTensor};
use sferic_models::Values;
use sferic_wire::{TensorBody, Tensors, shortened};

/// Checks tensors without copying what the message holds. Together they may have `most` elements.
pub(super) fn tensors(body: Tensors<'_>, payload: &Bytes, most: usize) -> Result<Vec<InputTensor>, Failure> {
    let mut left = most;
    let one = |(name, body): (sferic_wire::Text<'_>, TensorBody<'_>)| {
        let tensor = tensor(name.as_str(), body, payload)?;
        left = left.checked_sub(tensor.data.len() / tensor.dtype.size()).ok_or_else(|| {
            let shape = &tensor.shape;
            let message = format!(
                "with tensor `{}`, {shape:?}, the frame has more elements than limits.frame_samples, {most}",
                shown(name.as_str())
            );
            Failure::new(FailureCode::FrameTooLarge, message)
        })?;
        check_values(&tensor)?;
        Ok(tensor)
    };
    body.0.into_iter().map(one).collect()
}

fn shown(name: &str) -> Cow<'_, str> {
    shortened(name, 64)
}

fn invalid(name: &str, what: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::InvalidFrame, format!("tensor `{}` {what}", shown(name)))
}

fn tensor(name: &str, body: TensorBody<'_>, payload: &Bytes) -> Result<InputTensor, Failure> {
    let TensorBody { shape, dtype, data } = body;
    let Some(dtype) = Dtype::named(dtype.as_str()) else {
        let (name, dtype) = (shown(name), shortened(dtype.as_str(), 64));
        let names = Dtype::ALL.map(Dtype::name).join(", ");
        let message = format!("tensor `{name}` has dtype {dtype:?}, must be one of {names}");
        return Err(Failure::new(FailureCode::ShapeMismatch, message));
    };
    let data = match data.0 {
        Cow::Borrowed(bytes) => payload.slice_ref(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let axes: Option<Vec<usize>> = shape.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let bytes = axes
        .as_ref()
        .and_then(|axes| axes.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis)));
    let shape = match (axes, bytes) {
        (Some(_), Some(0)) => return Err(invalid(name, format_args!("is empty, its shape is {shape:?}"))),
        (Some(axes), Some(bytes)) if bytes == data.len() => axes,
        (_, bytes) => {
            let needs = bytes.map_or("more than there can be".to_owned(), |bytes| bytes.to_string());
            let (has, dtype) = (data.len(), dtype.name());
            let shape = shortened(&format!("{shape:?}"), 100).into_owned();
            let message = format_args!("has {has} bytes of data, {dtype} {shape} needs {needs}");
            return Err(invalid(name, message));
        }
    };
    Ok(InputTensor { name: name.to_owned(), dtype, shape, data })
}

fn check_values(tensor: &InputTensor) -> Result<(), Failure> {
    let InputTensor { name, dtype, data, .. } = tensor;
    if *dtype == Dtype::Bool
        && let Some(at) = data.iter().position(|&byte| byte > 1)
    {
        return Err(invalid(name, format_args!("has {} at element {at}, a bool is 0 or 1", data[at])));
    }
    match Values::Bytes(*dtype, data).first_non_finite() {
        Some(at) => Err(invalid(name, format_args!("is not finite at element {at}"))),
        None => Ok(()),
    }
}
