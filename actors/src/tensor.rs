//! Tensors: those that a frame brings, and those that a model gets.

use std::fmt;

use bytes::Bytes;
use sferic_samples::Buffer;

use crate::outcome::LeftOut;

/// Element types a tensor on the wire may have; the names are NumPy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    Float32,
    Float64,
    Float16,
    Bfloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Float32,
        Self::Float64,
        Self::Float16,
        Self::Bfloat16,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Bool,
    ];

    /// The type with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// NumPy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Bool => "bool",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 | Self::Bool => 1,
            Self::Float16 | Self::Bfloat16 | Self::Int16 | Self::Uint16 => 2,
            Self::Float32 | Self::Int32 | Self::Uint32 => 4,
            Self::Float64 | Self::Int64 | Self::Uint64 => 8,
        }
    }

    /// Whether it is of whole numbers. `bool` is not of numbers at all.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Self::Float16 | Self::Bfloat16 | Self::Float32 | Self::Float64 | Self::Bool)
    }
}

/// A tensor that a frame brings.
#[derive(Clone, PartialEq, Eq)]
pub struct InputTensor {
    /// The input of the model that it is for.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Without the batch axis.
    pub shape: Vec<usize>,
    /// Little-endian, in C order, as many elements as the shape has.
    pub data: Bytes,
}

/// A tensor computed from the samples of a frame.
#[derive(Debug)]
pub struct Tensor {
    /// `[channels, rows, columns]`, without the batch axis.
    pub shape: [usize; 3],
    /// In C order.
    pub data: Buffer,
}

/// One input of a model for one frame.
#[derive(Debug)]
pub enum Input {
    /// Computed from the samples.
    Computed(Tensor),
    /// The frame's own.
    Given(InputTensor),
}

/// All inputs of a model for one frame, in the order in which the model has them.
#[derive(Debug)]
pub struct Inputs {
    /// The first one. Most models have no other, and are given it without an allocation.
    pub first: Input,
    /// The others.
    pub others: Vec<Input>,
    /// Whether the answer is the raw outputs of the model, whatever its head.
    pub is_raw: bool,
    /// Frames of the session that turned out to be of no use.
    pub left_out: Vec<LeftOut>,
    /// What an emitter of known place says of clocks.
    pub clocks: Vec<ClockError>,
}

/// How late a receiver's clock was against the others.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockError {
    /// The receiver.
    pub source: String,
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
    /// Seconds.
    pub late_s: f64,
    /// Standard deviation of that, seconds.
    pub sigma_s: f64,
}

impl fmt::Debug for InputTensor {
    /// Without its data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} {:?}", self.name, self.dtype.name(), self.shape)
    }
}

impl Input {
    fn has_shape_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Computed(one), Self::Computed(other)) => one.shape == other.shape,
            (Self::Given(one), Self::Given(other)) => one.shape == other.shape,
            _ => false,
        }
    }
}

impl Inputs {
    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Input> {
        (0..self.others.len() + 1).map(|at| if at == 0 { &self.first } else { &self.others[at - 1] })
    }

    /// Whether both can be in one run of a model: their shapes are equal, and both want the same outputs.
    pub fn can_share_run(&self, other: &Self) -> bool {
        self.is_raw == other.is_raw
            && self.others.len() == other.others.len()
            && self.iter().zip(other.iter()).all(|(one, other)| one.has_shape_of(other))
    }
}

/// The only input of a model.
impl From<Tensor> for Inputs {
    fn from(tensor: Tensor) -> Self {
        Self {
            first: Input::Computed(tensor),
            others: Vec::new(),
            is_raw: false,
            left_out: Vec::new(),
            clocks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(columns: usize) -> Input {
        Input::Computed(Tensor { shape: [1, 1, columns], data: vec![0.0; columns].into() })
    }

    fn given(shape: &[usize]) -> Input {
        let data = Bytes::from(vec![0; shape.iter().product()]);
        Input::Given(InputTensor { name: "t".into(), dtype: Dtype::Int8, shape: shape.into(), data })
    }

    #[test]
    fn only_equal_shapes_of_equal_wishes_share_a_run() {
        let inputs = |first, others, is_raw| Inputs {
            first,
            others,
            is_raw,
            left_out: Vec::new(),
            clocks: Vec::new(),
        };
        let both = || inputs(computed(3), vec![given(&[2])], false);
        assert!(both().can_share_run(&both()) && both().iter().len() == 2);
        for other in [
            inputs(computed(4), vec![given(&[2])], false),
            inputs(computed(3), vec![given(&[3])], false),
            inputs(computed(3), vec![given(&[2, 1])], false),
            inputs(computed(3), Vec::new(), false),
            inputs(given(&[1, 1, 3]), vec![given(&[2])], false),
            inputs(computed(3), vec![given(&[2])], true),
        ] {
            assert!(!both().can_share_run(&other) && !other.can_share_run(&both()), "{other:?}");
        }
    }
}
