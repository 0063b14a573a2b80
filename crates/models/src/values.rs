//! Outputs of a run, without types of `ort`.

use std::fmt;

use half::{bf16, f16};

use sferic_actors::tensor::Dtype;

/// How an output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// In its own type.
    AsIs,
    /// As float32, whatever type of number it has.
    Floats,
    /// One class a frame: integers or strings.
    Classes,
    /// For each frame the scores of all classes by name.
    ScoreMaps,
}

/// A class as a model names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// `int64`.
    Number(i64),
    /// `string`.
    Name(String),
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{:?}", name.chars().take(64).collect::<String>()),
        }
    }
}

/// The score of each class of one frame.
pub type ScoreMap = Vec<(Class, f32)>;

/// One output of a run: all frames of the batch.
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
    /// Any other type of number, little-endian.
    Bytes(Dtype, &'a [u8]),
    /// One class a frame.
    Classes(&'a [Class]),
    /// One map a frame.
    ScoreMaps(&'a [ScoreMap]),
}

impl<'a> Output<'a> {
    /// The element type, by NumPy's name where it is one of numbers.
    pub fn type_name(&self) -> &'static str {
        match self.values {
            Values::Floats(_) => Dtype::Float32.name(),
            Values::Bytes(dtype, _) => dtype.name(),
            Values::Classes(_) => "classes",
            Values::ScoreMaps(_) => "maps from class to score",
        }
    }

    /// The part of one frame; empty for a frame the batch does not have.
    pub fn frame(&self, frame: usize) -> Values<'a> {
        let size: usize = self.shape.iter().skip(1).product();
        match self.values {
            Values::Floats(values) => Values::Floats(part(values, frame, size)),
            Values::Bytes(dtype, bytes) => Values::Bytes(dtype, part(bytes, frame, size * dtype.size())),
            Values::Classes(classes) => Values::Classes(part(classes, frame, size)),
            Values::ScoreMaps(maps) => Values::ScoreMaps(part(maps, frame, size)),
        }
    }

    /// The part of one frame as float32; empty where it has another type.
    pub fn floats(&self, frame: usize) -> &'a [f32] {
        match self.frame(frame) {
            Values::Floats(values) => values,
            _ => &[],
        }
    }
}

fn part<T>(all: &[T], index: usize, size: usize) -> &[T] {
    all.get(index * size..(index + 1) * size).unwrap_or(&[])
}

/// Each element of little-endian bytes.
fn each<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks().0.iter().copied().map(read)
}

impl Values<'_> {
    /// Writes the numbers as float32; truth values, classes and maps are none.
    pub fn to_floats(self, floats: &mut Vec<f32>) {
        floats.clear();
        let Self::Bytes(dtype, bytes) = self else {
            return if let Self::Floats(values) = self {
                floats.extend(values)
            };
        };
        match dtype {
            Dtype::Float16 => floats.extend(each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::Bfloat16 => floats.extend(each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            Dtype::Float32 => floats.extend(each(bytes, f32::from_le_bytes)),
            Dtype::Float64 => floats.extend(each(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
            Dtype::Uint64 => floats.extend(each(bytes, |bytes| u64::from_le_bytes(bytes) as f32)),
            _ => floats.extend(self.integers().into_iter().map(|integer| integer as f32)),
        }
    }

    /// Floats and uint64 as float64; empty for other types.
    pub fn doubles(self) -> Vec<f64> {
        match self {
            Self::Floats(values) => values.iter().map(|&value| value.into()).collect(),
            Self::Bytes(Dtype::Float16, bytes) => {
                each(bytes, |bytes| f16::from_le_bytes(bytes).to_f64()).collect()
            }
            Self::Bytes(Dtype::Bfloat16, bytes) => {
                each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f64()).collect()
            }
            Self::Bytes(Dtype::Float32, bytes) => {
                each(bytes, |bytes| f32::from_le_bytes(bytes).into()).collect()
            }
            Self::Bytes(Dtype::Float64, bytes) => each(bytes, f64::from_le_bytes).collect(),
            Self::Bytes(Dtype::Uint64, bytes) => {
                each(bytes, |bytes| u64::from_le_bytes(bytes) as f64).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Integers as i64, saturating; empty for other types.
    pub fn integers(self) -> Vec<i64> {
        let Self::Bytes(dtype, bytes) = self else { return Vec::new() };
        match dtype {
            Dtype::Int8 => each(bytes, |bytes| i8::from_le_bytes(bytes).into()).collect(),
            Dtype::Int16 => each(bytes, |bytes| i16::from_le_bytes(bytes).into()).collect(),
            Dtype::Int32 => each(bytes, |bytes| i32::from_le_bytes(bytes).into()).collect(),
            Dtype::Int64 => each(bytes, i64::from_le_bytes).collect(),
            Dtype::Uint8 => each(bytes, |bytes| u8::from_le_bytes(bytes).into()).collect(),
            Dtype::Uint16 => each(bytes, |bytes| u16::from_le_bytes(bytes).into()).collect(),
            Dtype::Uint32 => each(bytes, |bytes| u32::from_le_bytes(bytes).into()).collect(),
            Dtype::Uint64 => {
                each(bytes, |bytes| u64::from_le_bytes(bytes).try_into().unwrap_or(i64::MAX)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The elements as little-endian bytes; none of classes and maps.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bytes(_, bytes) => bytes.to_vec(),
            Self::Classes(_) | Self::ScoreMaps(_) => Vec::new(),
        }
    }

    /// The first element that is NaN or infinite, by index. Integers and classes have none.
    pub fn first_non_finite(self) -> Option<usize> {
        let exponent = |bytes: &[u8], mask: u16| u16::from_le_bytes([bytes[0], bytes[1]]) & mask == mask;
        match self {
            Self::Floats(values) => values.iter().position(|value| !value.is_finite()),
            // All ones in the exponent is NaN or an infinity in each of these formats.
            Self::Bytes(Dtype::Float16, bytes) => {
                bytes.chunks_exact(2).position(|bytes| exponent(bytes, 0x7c00))
            }
            Self::Bytes(Dtype::Bfloat16, bytes) => {
                bytes.chunks_exact(2).position(|bytes| exponent(bytes, 0x7f80))
            }
            Self::Bytes(Dtype::Float32, bytes) => {
                bytes.chunks_exact(4).position(|bytes| exponent(&bytes[2..], 0x7f80))
            }
            Self::Bytes(Dtype::Float64, bytes) => {
                bytes.chunks_exact(8).position(|bytes| exponent(&bytes[6..], 0x7ff0))
            }
            Self::Bytes(..) | Self::Classes(_) => None,
            Self::ScoreMaps(maps) => maps.iter().flatten().position(|(_, score)| !score.is_finite()),
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
        let floats: Vec<u8> =
            [f32::MAX, f32::MIN, f32::NEG_INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(Values::Bytes(Dtype::Float32, &floats).first_non_finite(), Some(2));
        // 65504, then an infinity, as float16; the largest, then a NaN, as bfloat16.
        assert_eq!(Values::Bytes(Dtype::Float16, &[0xff, 0x7b, 0x00, 0xfc]).first_non_finite(), Some(1));
        assert_eq!(Values::Bytes(Dtype::Bfloat16, &[0x7f, 0x7f, 0xc0, 0x7f]).first_non_finite(), Some(1));
        assert_eq!(Values::Bytes(Dtype::Int16, &[0xff, 0x7f]).first_non_finite(), None);
    }

    #[test]
    fn numbers_of_every_type_become_float32() {
        let floats = |dtype, bytes: &[u8]| {
            let mut floats = vec![7.0];
            Values::Bytes(dtype, bytes).to_floats(&mut floats);
            floats
        };
        // By hand: sign, exponent, fraction.
        assert_eq!(
            floats(Dtype::Float16, &[0x00, 0x3e, 0xff, 0xfb, 0x01, 0x00]),
            [1.5, -65504.0, 2f32.powi(-24)]
        );
        assert_eq!(floats(Dtype::Bfloat16, &[0xc0, 0x3f, 0x20, 0xc1]), [1.5, -10.0]);
        let bytes: Vec<u8> = [0.1f64, -3.0, 1e39].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(floats(Dtype::Float64, &bytes), [0.1, -3.0, f32::INFINITY]);
        for (dtype, bytes, expected) in [
            (Dtype::Int8, &[0x80, 0x7f][..], [-128, 127]),
            (Dtype::Uint8, &[0x80, 0xff], [128, 255]),
            (Dtype::Int16, &[0x00, 0x80, 0x02, 0x01], [-32768, 258]),
            (Dtype::Uint16, &[0x00, 0x80, 0x02, 0x01], [32768, 258]),
            (Dtype::Int32, &[0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0], [-1, 65536]),
            (Dtype::Uint32, &[0, 0, 0, 0x80, 0, 0, 1, 0], [1 << 31, 65536]),
            (Dtype::Int64, &[[0xff; 8], [5, 0, 0, 0, 1, 0, 0, 0]].concat(), [-1, (1 << 32) + 5]),
            (Dtype::Uint64, &[[0xff; 8], [5, 0, 0, 0, 1, 0, 0, 0]].concat(), [i64::MAX, (1 << 32) + 5]),
        ] {
            assert_eq!(Values::Bytes(dtype, bytes).integers(), expected, "{dtype:?}");
            assert_eq!(floats(dtype, bytes)[1], expected[1] as f32, "{dtype:?}");
        }
        assert_eq!(floats(Dtype::Uint64, &[0xff; 8]), [u64::MAX as f32]);
        assert!(
            floats(Dtype::Bool, &[1]).is_empty() && Values::Bytes(Dtype::Bool, &[1]).integers().is_empty()
        );
    }

    #[test]
    fn a_frame_is_its_part_of_the_batch() {
        let output = Output { shape: &[2, 3], values: Values::Floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) };
        assert_eq!(output.floats(1), [3.0, 4.0, 5.0]);
        assert!(output.floats(2).is_empty());
        let output = Output { shape: &[2, 1], values: Values::Bytes(Dtype::Int16, &[1, 2, 3, 4]) };
        assert_eq!(output.frame(1).to_bytes(), [3, 4]);
        assert!(output.floats(0).is_empty());
        let classes = [Class::Number(4), Class::Name("am".into())];
        let output = Output { shape: &[2, 1], values: Values::Classes(&classes) };
        assert!(matches!(output.frame(1), Values::Classes([Class::Name(name)]) if name == "am"));
        let maps = [vec![(Class::Number(0), 1.0)], vec![(Class::Number(0), f32::NAN)]];
        let output = Output { shape: &[2], values: Values::ScoreMaps(&maps) };
        assert_eq!([0, 1].map(|frame| output.frame(frame).first_non_finite()), [None, Some(0)]);
    }
}
