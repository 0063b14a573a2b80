//! Output values of a run in terms of `ort`, and their conversion.

use std::ptr;

use ort::AsPointer;
use ort::sys::OrtValue;
use ort::value::{DynMap, DynMapValueType, DynTensor, DynValue, TensorElementType, ValueType};
use sferic_models::{Class, Dtype, Elements, Output, Reading, ScoreMap, Values};

/// The outputs of one run, in the order they were selected.
#[derive(Debug)]
pub(crate) struct RunTensors {
    /// The shapes of the inputs, one after the other.
    pub input_shapes: Vec<i64>,
    pub outputs: Vec<OutputValue>,
}

/// One output of a run.
#[derive(Debug)]
pub(crate) enum OutputValue {
    /// Numbers in memory that the next run may overwrite.
    Numbers { tensor: DynTensor, dtype: Dtype, shape: Vec<usize>, converted: Converted },
    /// Classes from strings.
    Classes { shape: Vec<usize>, classes: Vec<Class> },
    /// Scores from a sequence of maps.
    ScoreMaps { shape: [usize; 1], maps: Vec<ScoreMap> },
}

/// Conversion of numbers, where there is one.
#[derive(Debug)]
pub(crate) enum Converted {
    /// None: read as they are.
    Nothing,
    Floats(Vec<f32>),
    Classes(Vec<Class>),
}

impl RunTensors {
    /// Values for the `readings`, one each; with a batch axis of 1 where that is to be added.
    pub(crate) fn new(
        input_shapes: Vec<i64>,
        values: Vec<DynValue>,
        readings: &[Reading],
        adds_batch_axis: bool,
    ) -> Result<Self, ort::Error> {
        if values.len() != readings.len() {
            return Err(ort::Error::new(format!(
                "the run gave {} outputs, expected {}",
                values.len(),
                readings.len()
            )));
        }
        let outputs = values
            .into_iter()
            .zip(readings)
            .map(|(value, &reading)| OutputValue::new(value, reading, adds_batch_axis));
        let mut tensors = Self { input_shapes, outputs: outputs.collect::<Result<_, _>>()? };
        tensors.convert()?;
        Ok(tensors)
    }

    /// Converts the values written by a run; to be called after each run.
    pub(crate) fn convert(&mut self) -> Result<(), ort::Error> {
        self.outputs.iter_mut().try_for_each(OutputValue::convert)
    }
}

impl OutputValue {
    fn new(value: DynValue, reading: Reading, adds_batch_axis: bool) -> Result<Self, ort::Error> {
        let shape = match value.dtype() {
            ValueType::Tensor { shape, .. } => {
                let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or(0));
                adds_batch_axis.then_some(1).into_iter().chain(shape).collect()
            }
            _ => Vec::new(),
        };
        let (dtype, converted) = match (reading, elements(value.dtype())) {
            (Reading::AsIs, Elements::Numbers(dtype)) => (dtype, Converted::Nothing),
            (Reading::Floats, Elements::Numbers(Dtype::Float32)) => (Dtype::Float32, Converted::Nothing),
            (Reading::Floats, Elements::Numbers(dtype)) => (dtype, Converted::Floats(Vec::new())),
            (Reading::Classes, Elements::Numbers(dtype)) => (dtype, Converted::Classes(Vec::new())),
            (Reading::Classes, Elements::Strings) => {
                let classes = value.try_extract_strings()?.1.into_iter().map(Class::Name).collect();
                return Ok(Self::Classes { shape, classes });
            }
            (Reading::ScoreMaps, Elements::ScoreMaps) => {
                let sequence = value.try_extract_sequence::<DynMapValueType>()?;
                let maps = sequence.iter().map(score_map).collect::<Result<Vec<_>, _>>()?;
                return Ok(Self::ScoreMaps { shape: [maps.len()], maps });
            }
            _ => {
                return Err(ort::Error::new(format!(
                    "the run gave a {}, which can't be read as {reading:?}",
                    value.dtype()
                )));
            }
        };
        Ok(Self::Numbers { tensor: value.downcast()?, dtype, shape, converted })
    }

    /// The value for a run to overwrite; null where the run is to create one.
    pub(crate) fn ptr(&self) -> *mut OrtValue {
        match self {
            Self::Numbers { tensor, .. } => tensor.ptr().cast_mut(),
            _ => ptr::null_mut(),
        }
    }

    fn convert(&mut self) -> Result<(), ort::Error> {
        if let Self::Numbers { tensor, dtype, shape, converted } = self {
            match converted {
                Converted::Nothing => {}
                Converted::Floats(floats) => numbers(tensor, *dtype, shape)?.to_floats(floats),
                Converted::Classes(classes) => {
                    *classes =
                        numbers(tensor, *dtype, shape)?.integers().into_iter().map(Class::Number).collect();
                }
            }
        }
        Ok(())
    }

    /// The converted output.
    pub(crate) fn view(&self) -> Result<Output<'_>, ort::Error> {
        Ok(match self {
            Self::Numbers { tensor, dtype, shape, converted } => {
                let values = match converted {
                    Converted::Nothing => numbers(tensor, *dtype, shape)?,
                    Converted::Floats(floats) => Values::Floats(floats),
                    Converted::Classes(classes) => Values::Classes(classes),
                };
                Output { shape, values }
            }
            Self::Classes { shape, classes } => Output { shape, values: Values::Classes(classes) },
            Self::ScoreMaps { shape, maps } => Output { shape, values: Values::ScoreMaps(maps) },
        })
    }
}

fn score_map(map: &DynMap) -> Result<ScoreMap, ort::Error> {
    Ok(match map.dtype() {
        ValueType::Map { key: TensorElementType::String, .. } => map
            .try_extract_key_values()?
            .into_iter()
            .map(|(name, score)| (Class::Name(name), score))
            .collect(),
        _ => map
            .try_extract_key_values()?
            .into_iter()
            .map(|(number, score)| (Class::Number(number), score))
            .collect(),
    })
}

/// The numbers of a tensor as they lie in memory.
#[allow(unsafe_code)]
fn numbers<'a>(tensor: &'a DynTensor, dtype: Dtype, shape: &[usize]) -> Result<Values<'a>, ort::Error> {
    if dtype == Dtype::Float32 {
        return Ok(Values::Floats(tensor.try_extract_tensor::<f32>()?.1));
    }
    let length = shape.iter().product::<usize>() * dtype.size();
    if length == 0 {
        return Ok(Values::Bytes(dtype, &[]));
    }
    let data = tensor.data_ptr().cast::<u8>();
    // SAFETY: a tensor of this type and shape in CPU memory holds `length` bytes from `data` on, not written
    // to while it is borrowed, and lives as long as `tensor`.
    Ok(Values::Bytes(dtype, unsafe { std::slice::from_raw_parts(data, length) }))
}

// Tensors are published little-endian, and read here as they lie in memory.
#[cfg(target_endian = "big")]
compile_error!("big-endian machines would publish tensors in the wrong byte order");

/// What a value of this type holds, in our terms.
pub(crate) fn elements(value: &ValueType) -> Elements {
    let is_class =
        |key: &TensorElementType| matches!(key, TensorElementType::Int64 | TensorElementType::String);
    match value {
        ValueType::Tensor { ty: TensorElementType::String, .. } => Elements::Strings,
        ValueType::Tensor { ty, .. } => dtype(*ty).map_or(Elements::Unsupported, Elements::Numbers),
        ValueType::Sequence(each) => match &**each {
            ValueType::Map { key, value: TensorElementType::Float32 } if is_class(key) => Elements::ScoreMaps,
            _ => Elements::Unsupported,
        },
        _ => Elements::Unsupported,
    }
}

fn dtype(ty: TensorElementType) -> Option<Dtype> {
    Some(match ty {
        TensorElementType::Float32 => Dtype::Float32,
        TensorElementType::Float64 => Dtype::Float64,
        TensorElementType::Float16 => Dtype::Float16,
        TensorElementType::Bfloat16 => Dtype::Bfloat16,
        TensorElementType::Int8 => Dtype::Int8,
        TensorElementType::Int16 => Dtype::Int16,
        TensorElementType::Int32 => Dtype::Int32,
        TensorElementType::Int64 => Dtype::Int64,
        TensorElementType::Uint8 => Dtype::Uint8,
        TensorElementType::Uint16 => Dtype::Uint16,
        TensorElementType::Uint32 => Dtype::Uint32,
        TensorElementType::Uint64 => Dtype::Uint64,
        TensorElementType::Bool => Dtype::Bool,
        _ => return None,
    })
}
