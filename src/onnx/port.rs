//! Inputs and outputs of an ONNX file, and the values that come out of it, in plain terms.

use std::fmt;

/// Element types a tensor on the wire may have; the names are NumPy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The one of this name.
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
}

/// One axis of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Always this long.
    Fixed(usize),
    /// As long as the data; the name in the ONNX file, which may be empty.
    Free(String),
}

/// A declared input or output of an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type; `None` for what is no tensor of a [`Dtype`].
    pub dtype: Option<Dtype>,
    /// Its axes.
    pub axes: Vec<Axis>,
}

impl Port {
    /// Whether this output of a file has one shape for each shape of the `input`: each of its axes is fixed or is one of the input's.
    /// In ONNX, axes of one name have one length; an axis without a name may have any.
    pub(crate) fn is_shaped_by(&self, input: &Self) -> bool {
        let is_of_input = |axis: &Axis| matches!(axis, Axis::Fixed(_)) || *axis != Axis::Free(String::new()) && input.axes.contains(axis);
        self.axes.iter().all(is_of_input)
    }
}

impl fmt::Display for Port {
    /// ``` `position`, float32 [B, 2] ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, {} [", self.name, self.dtype.map_or("an unsupported type", Dtype::name))?;
        for (index, axis) in self.axes.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match axis {
                Axis::Fixed(length) => write!(f, "{length}")?,
                Axis::Free(name) => f.write_str(if name.is_empty() { "?" } else { name })?,
            }
        }
        f.write_str("]")
    }
}

/// What a run gave for one output: all frames of the batch together.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// With the batch axis first.
    pub shape: &'a [usize],
    /// In C order.
    pub values: Values<'a>,
}

/// Borrowed values of a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// float32, what most models give.
    Floats(&'a [f32]),
    /// Any other type, little-endian.
    Bytes(Dtype, &'a [u8]),
}

impl<'a> Output<'a> {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::Float32,
            Values::Bytes(dtype, _) => dtype,
        }
    }

    /// The part of one frame; empty for a frame the batch does not have.
    pub fn frame(&self, frame: usize) -> Values<'a> {
        let size: usize = self.shape.iter().skip(1).product();
        match self.values {
            Values::Floats(values) => Values::Floats(part(values, frame, size)),
            Values::Bytes(dtype, bytes) => Values::Bytes(dtype, part(bytes, frame, size * dtype.size())),
        }
    }

    /// The part of one frame as float32; empty where it has another type.
    pub fn floats(&self, frame: usize) -> &'a [f32] {
        match self.frame(frame) {
            Values::Floats(values) => values,
            Values::Bytes(..) => &[],
        }
    }
}

fn part<T>(all: &[T], index: usize, size: usize) -> &[T] {
    all.get(index * size..(index + 1) * size).unwrap_or(&[])
}

impl Values<'_> {
    /// The elements as little-endian bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bytes(_, bytes) => bytes.to_vec(),
        }
    }

    /// The first element that is NaN or infinite, by index. Integers have none.
    pub fn first_non_finite(self) -> Option<usize> {
        let exponent = |bytes: &[u8], mask: u16| u16::from_le_bytes([bytes[0], bytes[1]]) & mask == mask;
        match self {
            Self::Floats(values) => values.iter().position(|value| !value.is_finite()),
            // All ones in the exponent is NaN or an infinity in each of these formats.
            Self::Bytes(Dtype::Float16, bytes) => bytes.chunks_exact(2).position(|bytes| exponent(bytes, 0x7c00)),
            Self::Bytes(Dtype::Bfloat16, bytes) => bytes.chunks_exact(2).position(|bytes| exponent(bytes, 0x7f80)),
            Self::Bytes(Dtype::Float64, bytes) => bytes.chunks_exact(8).position(|bytes| exponent(&bytes[6..], 0x7ff0)),
            Self::Bytes(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_elements_are_found_in_every_float_format() {
        assert_eq!(Values::Floats(&[0.0, f32::INFINITY]).first_non_finite(), Some(1));
        assert_eq!(Values::Floats(&[0.0, f32::MAX]).first_non_finite(), None);
        let doubles: Vec<u8> = [f64::MAX, -1.0, f64::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(Values::Bytes(Dtype::Float64, &doubles).first_non_finite(), Some(2));
        // 65504, then an infinity, as float16; the largest, then a NaN, as bfloat16.
        assert_eq!(Values::Bytes(Dtype::Float16, &[0xff, 0x7b, 0x00, 0xfc]).first_non_finite(), Some(1));
        assert_eq!(Values::Bytes(Dtype::Bfloat16, &[0x7f, 0x7f, 0xc0, 0x7f]).first_non_finite(), Some(1));
        assert_eq!(Values::Bytes(Dtype::Int16, &[0xff, 0x7f]).first_non_finite(), None);
    }

    #[test]
    fn a_frame_is_its_part_of_the_batch() {
        let output = Output { shape: &[2, 3], values: Values::Floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) };
        assert_eq!(output.floats(1), [3.0, 4.0, 5.0]);
        assert!(output.floats(2).is_empty());
        let output = Output { shape: &[2, 1], values: Values::Bytes(Dtype::Int16, &[1, 2, 3, 4]) };
        assert_eq!(output.frame(1).to_bytes(), [3, 4]);
        assert!(output.floats(0).is_empty());
    }

    #[test]
    fn an_output_is_shaped_by_an_input_that_has_all_its_free_axes() {
        let port = |axes: &[&str]| Port {
            name: "x".into(),
            dtype: None,
            axes: axes.iter().map(|axis| axis.parse().map_or_else(|_| Axis::Free((*axis).into()), Axis::Fixed)).collect(),
        };
        let input = port(&["B", "1", "", "T"]);
        assert!(port(&["B", "2"]).is_shaped_by(&input) && port(&["B", "T", "7"]).is_shaped_by(&input));
        assert!(!port(&["B", "P"]).is_shaped_by(&input));
        assert!(!port(&["B", ""]).is_shaped_by(&input), "an axis without a name may be any");
    }

    #[test]
    fn ports_read_as_in_the_file() {
        let axes = vec![Axis::Free("B".into()), Axis::Fixed(2), Axis::Free(String::new())];
        let port = Port { name: "position".into(), dtype: Some(Dtype::Float32), axes };
        assert_eq!(port.to_string(), "`position`, float32 [B, 2, ?]");
    }
}
