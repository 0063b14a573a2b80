//! Golden cases of a bundle: inputs, and the outputs that they have to give at every load.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sferic_actors::tensor::{Dtype, InputTensor};

use super::port::Port;
use super::tensor_input::raw_fits;
use super::values::{Output, Values};

/// The largest file of golden cases, bytes.
pub const MAX_GOLDEN_BYTES: u64 = 64 << 20;

/// Inputs with their outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The largest difference of any element.
    pub tolerance: f64,
    /// One after the other.
    pub cases: Vec<GoldenCase>,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenCase {
    /// Every input of the ONNX file, with its batch axis of 1.
    pub inputs: Vec<InputTensor>,
    /// Outputs of the ONNX file, with their batch axis of 1; those that are not named are not compared.
    pub outputs: Vec<InputTensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tolerance: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    inputs: BTreeMap<String, Tensor>,
    outputs: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    shape: Vec<usize>,
    dtype: String,
    data: String,
}

impl Golden {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// In words.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let File { tolerance, cases } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if !(tolerance.is_finite() && tolerance >= 0.0) {
            return Err(format!("tolerance is {tolerance}, must be a finite number from 0"));
        }
        if cases.is_empty() {
            return Err("it has no cases".into());
        }
        let one = |(at, case): (usize, Case)| {
            if case.outputs.is_empty() {
                return Err(format!("case {} has no outputs", at + 1));
            }
            let all = |named: BTreeMap<String, Tensor>| {
                named.into_iter().map(|(name, tensor)| tensor.read(name)).collect::<Result<Vec<_>, _>>()
            };
            let read = || Ok(GoldenCase { inputs: all(case.inputs)?, outputs: all(case.outputs)? });
            read().map_err(|error: String| format!("case {}: {error}", at + 1))
        };
        let cases = cases.into_iter().enumerate().map(one).collect::<Result<_, _>>()?;
        Ok(Self { tolerance, cases })
    }
}

impl Tensor {
    fn read(self, name: String) -> Result<InputTensor, String> {
        let Self { shape, dtype, data } = self;
        let dtype = Dtype::named(&dtype).ok_or_else(|| {
            let names = Dtype::ALL.map(Dtype::name).join(", ");
            format!("tensor {name:?} has dtype {dtype:?}, must be one of {names}")
        })?;
        let data = STANDARD
            .decode(data)
            .map_err(|error| format!("tensor {name:?} is not standard base64: {error}"))?;
        let bytes = shape.iter().try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis));
        if shape.first() != Some(&1) {
            return Err(format!("tensor {name:?} has shape {shape:?}, must begin with a batch axis of 1"));
        }
        if bytes != Some(data.len()) {
            let needs = bytes.map_or("more than there can be".to_owned(), |bytes| bytes.to_string());
            let (has, dtype) = (data.len(), dtype.name());
            return Err(format!("tensor {name:?} has {has} bytes of data, {dtype} {shape:?} needs {needs}"));
        }
        Ok(InputTensor { name, dtype, shape, data: data.into() })
    }
}

impl GoldenCase {
    /// Its inputs in the order of these ports.
    ///
    /// # Errors
    /// In words: an input that is missing, that the file does not have, or that does not fit.
    pub fn inputs_for<'a>(
        &'a self,
        ports: impl Iterator<Item = &'a Port>,
    ) -> Result<Vec<&'a InputTensor>, String> {
        let mut found = Vec::new();
        for port in ports {
            let tensor = self.inputs.iter().find(|tensor| tensor.name == port.name);
            let tensor = tensor.ok_or_else(|| format!("no input {port}"))?;
            let frame = InputTensor { shape: tensor.shape[1..].into(), ..tensor.clone() };
            raw_fits(port, &frame).map_err(|failure| failure.message)?;
            found.push(tensor);
        }
        match self.inputs.iter().find(|tensor| !found.iter().any(|known| known.name == tensor.name)) {
            Some(other) => Err(format!("model.onnx has no input {:?}", other.name)),
            None => Ok(found),
        }
    }

    /// Compares what a run gave, by name. NaN is equal to NaN alone, an infinity to itself.
    ///
    /// # Errors
    /// In words: the output, the element, what came, what was to come, and the tolerance.
    pub fn compare<'a>(
        &self,
        came: impl Iterator<Item = (&'a str, Output<'a>)> + Clone,
        tolerance: f64,
    ) -> Result<(), String> {
        for InputTensor { name, dtype, shape, data } in &self.outputs {
            let found = came.clone().find(|(known, _)| known == name);
            let (_, output) = found.ok_or_else(|| format!("model.onnx has no output {name:?} of numbers"))?;
            if output.shape != shape {
                return Err(format!("output `{name}` came as {:?}, expected {shape:?}", output.shape));
            }
            let (got, wanted) = (elements(output.values), elements(Values::Bytes(*dtype, data)));
            let differs = |(got, wanted): (&f64, &f64)| {
                let is_equal = got == wanted || (got.is_nan() && wanted.is_nan());
                !(is_equal || (got - wanted).abs() <= tolerance)
            };
            if let Some(at) = got.iter().zip(&wanted).position(differs) {
                let (got, wanted) = (got[at], wanted[at]);
                return Err(format!(
                    "output `{name}` at element {at} is {got}, expected {wanted} within {tolerance}"
                ));
            }
        }
        Ok(())
    }
}

/// Numbers of any type; truth values are 0 and 1.
fn elements(values: Values<'_>) -> Vec<f64> {
    match values {
        Values::Bytes(Dtype::Bool, bytes) => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        Values::Bytes(dtype, _) if dtype.is_integer() && dtype != Dtype::Uint64 => {
            values.integers().into_iter().map(|integer| integer as f64).collect()
        }
        _ => values.doubles(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::port::{Axis, Elements};
    use super::*;

    fn json(tolerance: &str, tensor: &str) -> String {
        let case = format!(r#"{{"inputs": {{"x": {tensor}}}, "outputs": {{"y": {tensor}}}}}"#);
        format!(r#"{{"tolerance": {tolerance}, "cases": [{case}]}}"#)
    }

    /// Of two int8 values.
    const TWO: &str = r#"{"shape": [1, 2], "dtype": "int8", "data": "AQI="}"#;

    #[test]
    fn a_file_is_read_or_refused_with_its_case() {
        let golden = Golden::read(json("0.5", TWO).as_bytes()).expect("refused");
        let tensor = |name: &str| InputTensor {
            name: name.into(),
            dtype: Dtype::Int8,
            shape: vec![1, 2],
            data: vec![1, 2].into(),
        };
        let case = GoldenCase { inputs: vec![tensor("x")], outputs: vec![tensor("y")] };
        assert_eq!(golden, Golden { tolerance: 0.5, cases: vec![case] });
        let with = |old: &str, new: &str| json("0", &TWO.replace(old, new));
        for (text, parts) in [
            ("[]".to_owned(), &["invalid"][..]),
            ("{".to_owned(), &["line 1"]),
            (r#"{"tolerance": 0, "cases": []}"#.into(), &["no cases"]),
            (
                r#"{"tolerance": 0, "cases": [{"inputs": {}, "outputs": {}}]}"#.into(),
                &["case 1 has no outputs"],
            ),
            (r#"{"tolerance": 0, "cases": [], "more": 1}"#.into(), &["more"]),
            (json("-1", TWO), &["tolerance is -1"]),
            (json("null", TWO), &["null"]),
            (with("int8", "FP32"), &["case 1", "\"x\"", "\"FP32\""]),
            (with("AQI=", "AQ"), &["case 1", "base64"]),
            (with("AQI=", "AQ=="), &["case 1", "1 bytes", "int8 [1, 2] needs 2"]),
            (with("[1, 2]", "[2]"), &["case 1", "[2]", "batch axis of 1"]),
            (with("[1, 2]", "[1, 9223372036854775807, 4]"), &["more than there can be"]),
        ] {
            let error = Golden::read(text.as_bytes()).expect_err("accepted");
            parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in {error:?}"));
        }
    }

    #[test]
    fn inputs_are_those_of_the_file() {
        let case = Golden::read(json("0", TWO).as_bytes()).expect("refused").cases.remove(0);
        let port = |name: &str, length| Port {
            name: name.into(),
            elements: Elements::Numbers(Dtype::Int8),
            axes: vec![Axis::Free("B".into()), Axis::Fixed(length)],
        };
        let fits = |ports: &[Port]| case.inputs_for(ports.iter()).map(|found| found.len());
        assert_eq!(fits(&[port("x", 2)]), Ok(1));
        assert!(fits(&[port("x", 3)]).is_err_and(|error| error.contains("[2]")));
        assert!(
            fits(&[port("x", 2), port("z", 2)])
                .is_err_and(|error| error.contains("no input `z`, int8 [B, 2]"))
        );
        assert!(fits(&[]).is_err_and(|error| error.contains("no input \"x\"")));
    }

    #[test]
    fn nan_is_equal_to_nan_alone_and_numbers_within_the_tolerance() {
        let compare = |wanted: [f32; 2], got: [f32; 2]| {
            let data = wanted.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
            let output = InputTensor { name: "y".into(), dtype: Dtype::Float32, shape: vec![1, 2], data };
            let case = GoldenCase { inputs: Vec::new(), outputs: vec![output] };
            let came = [("y", Output { shape: &[1, 2], values: Values::Floats(&got) })];
            case.compare(came.into_iter(), 0.25)
        };
        assert_eq!(compare([1.0, 2.0], [1.25, 1.75]), Ok(()));
        assert_eq!(compare([f32::NAN, f32::INFINITY], [f32::NAN, f32::INFINITY]), Ok(()));
        let error = compare([1.0, 2.0], [1.0, 2.5]).expect_err("equal");
        for part in ["`y`", "element 1", "is 2.5", "expected 2", "within 0.25"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(
            compare([f32::NAN, 0.0], [0.0, 0.0]).is_err() && compare([0.0, 0.0], [f32::NAN, 0.0]).is_err()
        );
        assert!(compare([f32::INFINITY, 0.0], [f32::NEG_INFINITY, 0.0]).is_err());
        assert!(compare([f32::INFINITY, 0.0], [f32::MAX, 0.0]).is_err());
    }
}
