//! Inputs that a frame brings as they are: which types go into which, and which shapes.

use half::f16;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::tensor::{Dtype, InputTensor};

use super::input_section::TensorConfig;
use super::port::{Axis, Elements, Port};
use super::values::Values;

/// An input of `kind = "tensor"`, checked against the ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInput {
    /// Its name in the ONNX file.
    pub name: String,
    /// The type that a frame's tensor has.
    pub dtype: Dtype,
    /// The type that it is converted to.
    pub onnx_dtype: Dtype,
    /// Without the batch axis.
    pub shape: Vec<usize>,
    /// Whether its batch axis is fixed at 1.
    pub batch_of_one: bool,
}

impl TensorInput {
    /// Checks the input against its port.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub fn new(config: &TensorConfig, port: &Port) -> Result<Self, String> {
        let TensorConfig { shape, dtype } = config;
        let refuse = |why: String| Err(format!("input {port}, model.toml gives shape = {shape:?}{why}"));
        let Elements::Numbers(onnx_dtype) = port.elements else {
            return refuse(": it takes no numbers".into());
        };
        let dtype = dtype.unwrap_or(onnx_dtype);
        if !goes_into(dtype, onnx_dtype) {
            return refuse(format!(
                " and dtype = \"{}\", which {} can't hold whole",
                dtype.name(),
                onnx_dtype.name()
            ));
        }
        let [batch, axes @ ..] = &port.axes[..] else {
            return refuse(": it has no batch axis".into());
        };
        if axes.len() != shape.len() {
            return refuse(format!(", so {} axes with the batch", shape.len() + 1));
        }
        if let Some((axis, given)) =
            fixed(axes).zip(shape).find(|(axis, given)| axis.is_some_and(|axis| axis != **given))
        {
            return refuse(format!(": {given} where the file takes {}", axis.unwrap_or_default()));
        }
        if let Axis::Fixed(length) = batch
            && *length != 1
        {
            return refuse(format!(": a fixed batch axis must be 1, it is {length}"));
        }
        let batch_of_one = matches!(batch, Axis::Fixed(_));
        Ok(Self { name: port.name.clone(), dtype, onnx_dtype, shape: shape.clone(), batch_of_one })
    }

    /// Checks a frame's tensor of this name.
    pub fn fits(&self, tensor: &InputTensor) -> Result<(), Failure> {
        if tensor.dtype == self.dtype && tensor.shape == self.shape {
            return Ok(());
        }
        Err(mismatch(tensor, &format!("{} {:?}", self.dtype.name(), self.shape)))
    }
}

/// Checks a tensor that goes into the ONNX file as it is, whatever `model.toml` says of that input.
pub fn raw_fits(port: &Port, tensor: &InputTensor) -> Result<(), Failure> {
    let takes = || format!("{port} with the batch axis first");
    let Elements::Numbers(dtype) = port.elements else { return Err(mismatch(tensor, &takes())) };
    let axes = port.axes.get(1..).unwrap_or_default();
    let fits = goes_into(tensor.dtype, dtype)
        && axes.len() == tensor.shape.len()
        && fixed(axes).zip(&tensor.shape).all(|(axis, given)| axis.is_none_or(|axis| axis == *given));
    if fits { Ok(()) } else { Err(mismatch(tensor, &takes())) }
}

/// Checks that a frame's tensor stays finite in the type that the ONNX file takes.
pub fn check_range(tensor: &InputTensor, onnx_dtype: Dtype) -> Result<(), Failure> {
    let largest = match onnx_dtype {
        Dtype::Float16 => f64::from(f16::MAX),
        Dtype::Float32 => f64::from(f32::MAX),
        _ => return Ok(()),
    };
    let values = Values::Bytes(tensor.dtype, &tensor.data);
    // Integers that go into it fit, and of its own type the decoder has looked.
    if tensor.dtype.size() <= onnx_dtype.size() || values.doubles().iter().all(|value| value.abs() <= largest)
    {
        return Ok(());
    }
    let (name, takes) = (&tensor.name, onnx_dtype.name());
    let message =
        format!("tensor `{name}` has values beyond {largest}, the largest {takes}, which the model takes");
    Err(Failure::new(FailureCode::InvalidFrame, message))
}

fn fixed(axes: &[Axis]) -> impl Iterator<Item = Option<usize>> {
    axes.iter().map(|axis| if let Axis::Fixed(length) = axis { Some(*length) } else { None })
}

fn mismatch(tensor: &InputTensor, takes: &str) -> Failure {
    let InputTensor { name, dtype, shape, .. } = tensor;
    let message = format!("tensor `{name}` is {} {shape:?}, the model takes {takes}", dtype.name());
    Failure::new(FailureCode::ShapeMismatch, message)
}

/// Whether every value of one type has a value of the other, to its precision; a large float may still be
/// beyond a smaller type of float.
pub fn goes_into(from: Dtype, to: Dtype) -> bool {
    /// Whether it has a sign, and how many bits without it.
    fn range(dtype: Dtype) -> (bool, u32) {
        match dtype {
            Dtype::Bool => (false, 1),
            Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => (true, 8 * dtype.size() as u32 - 1),
            Dtype::Uint8 | Dtype::Uint16 | Dtype::Uint32 | Dtype::Uint64 => (false, 8 * dtype.size() as u32),
            // 65504, below 2^16.
            Dtype::Float16 => (true, 15),
            Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64 => (true, 127),
        }
    }
    let is_float = |dtype: Dtype| !dtype.is_integer() && dtype != Dtype::Bool;
    match (is_float(from), is_float(to)) {
        (true, is_float) => is_float,
        (false, _) => {
            let ((signed, bits), (to_signed, to_bits)) = (range(from), range(to));
            (to_signed || !signed) && bits <= to_bits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(elements: Elements, axes: &str) -> Port {
        let axis = |axis: &str| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed);
        Port { name: "levels".into(), elements, axes: axes.split(' ').map(axis).collect() }
    }

    fn new(shape: &[usize], dtype: Option<Dtype>, to: Dtype, axes: &str) -> Result<TensorInput, String> {
        TensorInput::new(&TensorConfig::new(shape.into(), dtype), &port(Elements::Numbers(to), axes))
    }

    #[test]
    fn an_input_fits_its_port_or_says_why_not() {
        let input = new(&[2, 3], Some(Dtype::Float64), Dtype::Float16, "B 2 K").expect("refused");
        assert_eq!(
            (input.dtype, input.onnx_dtype, input.batch_of_one),
            (Dtype::Float64, Dtype::Float16, false)
        );
        let own = new(&[2], None, Dtype::Int32, "1 2").expect("refused");
        assert!(own.dtype == Dtype::Int32 && own.batch_of_one);
        assert!(new(&[], None, Dtype::Int32, "B").is_ok(), "one number a frame");
        for (refused, part) in [
            (new(&[2], Some(Dtype::Float32), Dtype::Int64, "B 2"), "dtype = \"float32\", which int64"),
            (new(&[2], Some(Dtype::Int64), Dtype::Int32, "B 2"), "dtype = \"int64\", which int32"),
            (new(&[2, 1], None, Dtype::Float32, "B 2"), "[2, 1], so 3 axes"),
            (new(&[3], None, Dtype::Float32, "B 2"), "3 where the file takes 2"),
            (new(&[2], None, Dtype::Float32, "4 2"), "must be 1, it is 4"),
            (
                TensorInput::new(&TensorConfig::new(vec![2], None), &port(Elements::Strings, "B 2")),
                "no numbers",
            ),
        ] {
            let refused = refused.expect_err("accepted");
            assert!(refused.contains("`levels`") && refused.contains(part), "{part:?} is not in {refused:?}");
        }
    }

    #[test]
    fn what_goes_into_what_loses_precision_at_most() {
        for (from, to, fits) in [
            (Dtype::Float64, Dtype::Float16, true),
            (Dtype::Int64, Dtype::Float32, true),
            (Dtype::Uint64, Dtype::Bfloat16, true),
            (Dtype::Int16, Dtype::Float16, true),
            (Dtype::Int32, Dtype::Float16, false),
            (Dtype::Uint16, Dtype::Float16, false),
            (Dtype::Uint8, Dtype::Int16, true),
            (Dtype::Uint8, Dtype::Int8, false),
            (Dtype::Int8, Dtype::Uint64, false),
            (Dtype::Uint32, Dtype::Int32, false),
            (Dtype::Bool, Dtype::Uint8, true),
            (Dtype::Uint8, Dtype::Bool, false),
            (Dtype::Float16, Dtype::Bool, false),
            (Dtype::Float16, Dtype::Int64, false),
        ] {
            assert_eq!(goes_into(from, to), fits, "{from:?} {to:?}");
        }
        assert!(Dtype::ALL.iter().all(|&dtype| goes_into(dtype, dtype)));
    }

    #[test]
    fn values_beyond_the_type_of_the_file_are_the_frames_fault() {
        let tensor = |dtype: Dtype, data: Vec<u8>| InputTensor {
            name: "levels".into(),
            dtype,
            shape: vec![1],
            data: data.into(),
        };
        let float = |value: f32| tensor(Dtype::Float32, value.to_le_bytes().into());
        assert_eq!(check_range(&float(65_504.0), Dtype::Float16), Ok(()));
        let failure = check_range(&float(-65_505.0), Dtype::Float16).expect_err("taken");
        assert!(
            failure.code == FailureCode::InvalidFrame && failure.message.contains("65504"),
            "{failure:?}"
        );
        let double = |value: f64| tensor(Dtype::Float64, value.to_le_bytes().into());
        assert!(check_range(&double(1e39), Dtype::Float32).is_err());
        assert!(check_range(&double(1e39), Dtype::Float64).is_ok());
        assert!(check_range(&tensor(Dtype::Int64, [0xff; 8].into()), Dtype::Float32).is_ok());
    }

    #[test]
    fn a_raw_tensor_is_checked_against_the_file() {
        let port = port(Elements::Numbers(Dtype::Float32), "B 1 128 T");
        let tensor = |dtype, shape: &[usize]| InputTensor {
            name: "levels".into(),
            dtype,
            shape: shape.into(),
            data: Default::default(),
        };
        assert_eq!(raw_fits(&port, &tensor(Dtype::Float32, &[1, 128, 7])), Ok(()));
        assert_eq!(raw_fits(&port, &tensor(Dtype::Uint8, &[1, 128, 7])), Ok(()));
        for wrong in [tensor(Dtype::Float32, &[1, 127, 7]), tensor(Dtype::Float32, &[128, 7])] {
            let failure = raw_fits(&port, &wrong).expect_err("taken");
            assert_eq!(failure.code, FailureCode::ShapeMismatch);
            assert!(failure.message.contains("float32 [B, 1, 128, T]"), "{}", failure.message);
        }
    }
}
