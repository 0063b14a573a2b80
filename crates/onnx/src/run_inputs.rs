//! Inputs of a run, in the types that the ONNX file takes.

use std::fmt::Debug;

use half::{bf16, f16};
use ort::AsPointer;
use ort::sys::OrtValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef};
use sferic_models::{Dtype, Values};

/// One input of a run: all frames of the batch.
#[derive(Debug)]
pub(crate) struct RunInput<'a> {
    /// With the batch axis.
    pub shape: Vec<i64>,
    /// As many values as the shape has.
    pub data: RunData<'a>,
}

/// Values of an input.
#[derive(Debug)]
pub(crate) enum RunData<'a> {
    /// Features, in C order.
    Floats(&'a [f32]),
    /// What each frame brings, little-endian.
    Given(Vec<(Dtype, &'a [u8])>),
}

/// An input as the library takes it.
pub(crate) enum InputValue<'a> {
    /// float32 in place.
    Floats(TensorRef<'a, f32>),
    /// A copy, in the type of the model.
    Converted(DynValue),
}

impl<'a> InputValue<'a> {
    /// Converts an input to `dtype` and `shape`, those of the model.
    pub(crate) fn new(dtype: Dtype, shape: &'a [i64], data: &'a RunData<'_>) -> Result<Self, ort::Error> {
        match data {
            RunData::Floats(data) => match dtype {
                Dtype::Float16 => converted(shape, data.iter().map(|&value| f16::from_f32(value))),
                Dtype::Bfloat16 => converted(shape, data.iter().map(|&value| bf16::from_f32(value))),
                Dtype::Float64 => converted(shape, data.iter().map(|&value| f64::from(value))),
                // Other types are no inputs of features; the library refuses float32 for them.
                _ => Ok(Self::Floats(TensorRef::from_array_view((shape, *data))?)),
            },
            RunData::Given(frames) => given(Parts { dtype, shape, frames }),
        }
    }

    pub(crate) fn ptr(&self) -> *const OrtValue {
        match self {
            Self::Floats(tensor) => tensor.ptr(),
            Self::Converted(value) => value.ptr(),
        }
    }
}

fn converted<T: PrimitiveTensorElementType + Debug + Copy + 'static>(
    shape: &[i64],
    values: impl Iterator<Item = T>,
) -> Result<InputValue<'static>, ort::Error> {
    let values: Vec<T> = values.collect();
    Ok(InputValue::Converted(Tensor::from_array((shape, values))?.into_dyn()))
}

/// The tensors of all frames, and what they become.
#[derive(Clone, Copy)]
struct Parts<'a> {
    dtype: Dtype,
    shape: &'a [i64],
    frames: &'a [(Dtype, &'a [u8])],
}

/// The tensors of all frames as one. Copied, since in a message nothing is aligned.
fn given(parts: Parts<'_>) -> Result<InputValue<'static>, ort::Error> {
    /// `own` reads an element of the type itself; the others convert from the types that go into it.
    fn all<T: PrimitiveTensorElementType + Debug + Copy + 'static, const N: usize>(
        Parts { dtype, shape, frames }: Parts<'_>,
        own: fn([u8; N]) -> T,
        of_integer: fn(i64) -> T,
        of_float: fn(f64) -> T,
    ) -> Result<InputValue<'static>, ort::Error> {
        let mut values: Vec<T> = Vec::new();
        for &(from, bytes) in frames {
            let of = Values::Bytes(from, bytes);
            match from {
                _ if from == dtype => values.extend(bytes.as_chunks().0.iter().copied().map(own)),
                Dtype::Bool => values.extend(bytes.iter().map(|&byte| of_integer((byte != 0).into()))),
                Dtype::Uint64 => values.extend(of.doubles().into_iter().map(of_float)),
                _ if from.is_integer() => values.extend(of.integers().into_iter().map(of_integer)),
                _ => values.extend(of.doubles().into_iter().map(of_float)),
            }
        }
        converted(shape, values.into_iter())
    }
    macro_rules! numbers {
        ($type:ty) => {
            all(parts, <$type>::from_le_bytes, |x| x as $type, |x| x as $type)
        };
    }
    match parts.dtype {
        Dtype::Float32 => numbers!(f32),
        Dtype::Float64 => numbers!(f64),
        Dtype::Float16 => all(parts, f16::from_le_bytes, |x| f16::from_f64(x as f64), f16::from_f64),
        Dtype::Bfloat16 => all(parts, bf16::from_le_bytes, |x| bf16::from_f64(x as f64), bf16::from_f64),
        Dtype::Int8 => numbers!(i8),
        Dtype::Int16 => numbers!(i16),
        Dtype::Int32 => numbers!(i32),
        Dtype::Int64 => numbers!(i64),
        Dtype::Uint8 => numbers!(u8),
        Dtype::Uint16 => numbers!(u16),
        Dtype::Uint32 => numbers!(u32),
        Dtype::Uint64 => numbers!(u64),
        Dtype::Bool => all(parts, |[byte]: [u8; 1]| byte != 0, |x| x != 0, |x| x != 0.0),
    }
}
